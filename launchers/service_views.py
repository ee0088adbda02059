"""The figures of a service as a terminal shows them: what `millrace top` draws, at 80 columns and more."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.columns import Columns
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from .run_tables import shown, span

__all__ = ["ServiceView"]

Figures = Mapping[str, Any]

BAR = 24
KEPT = 30
"""Looks that a sparkline remembers."""

STATES = {"ready": "bold green", "failed": "bold red", "closed": "red", "stopping": "red"}
ENDINGS = {"cancelled": "yellow", "timed_out": "yellow", "failed": "red", "error": "red", "rejected": "red"}


class ServiceView:
    """One service, drawn from its latest figures; it remembers the speeds of its engines between two looks."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._figures: Figures | None = None
        self._trouble = ""
        self._speeds: dict[str, deque[float]] = {}

    def take(self, figures: Figures) -> None:
        """What the service has just said of itself."""
        self._figures, self._trouble = figures, ""
        for engine in figures["engines"]:
            self._speeds.setdefault(named(engine), deque(maxlen=KEPT)).append(engine["tokens_per_second"])

    def miss(self, trouble: str) -> None:
        """It has not answered; what is shown is what it said last."""
        self._trouble = trouble

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        plain = options.ascii_only
        if self._figures is not None:
            yield _head(self.address, self._figures, gone=bool(self._trouble))
            if self._trouble:
                yield Text(self._trouble, style="bold red")
            yield _runs(self._figures, plain)
            for engine in self._figures["engines"]:
                yield _engine(engine, self._speeds[named(engine)], plain)


def named(engine: Figures) -> str:
    """Which engine it is; where several processes serve, each has its own."""
    return shown(engine["module"]) + (f", worker {engine['worker']}" if "worker" in engine else "")


def _head(address: str, figures: Figures, gone: bool) -> Text:
    workers = figures.get("workers")
    return Text.assemble(
        (shown(figures["model"]), "bold"),
        f"  {address}  ",
        Text("gone", style="bold red") if gone else _state(figures["status"], figures),
        f"  up {span(figures['uptime'])}",
        "" if workers is None else f"  {workers['ready']} of {workers['all']} workers ready",
    )


def _state(state: str, figures: Figures) -> Text:
    text = Text(shown(state), style=STATES.get(state, "yellow"))
    if state == "loading":
        text.append(f" {shown(figures.get('stage', ''))} {figures.get('progress', 0.0):.0%}")
    return text


def _runs(figures: Figures, plain: bool) -> Panel:
    runs, places = figures["runs"], figures["admission"]
    rows: list[tuple[str, RenderableType]] = [
        ("running", bar(places["running"], places["running_limit"], plain)),
        ("waiting", bar(places["waiting"], places["waiting_limit"], plain)),
        ("following", Text(f"{places['followers']:,}")),
        ("ended", _counts({name: count for name, count in runs.items() if name != "started"})),
        *_lately(figures["lately"]),
    ]
    return _panel(Text(f"runs: {runs['started']:,} started"), rows)


def _lately(lately: Figures) -> Iterator[tuple[str, RenderableType]]:
    """How it went in the last minutes: how soon the answers began, and how many of the runs were cancelled."""
    when, share = f"in the last {lately['seconds'] / 60:.0f} min", lately["interrupted"]
    half, most = (lately["first_output"][name] for name in ("p50", "p95"))
    first = f"none {when}" if half is None else f"half within {_within(half)}, 95% within {_within(most)}"
    yield "first piece", Text(first)
    yield "interrupted", Text(f"none {when}" if share is None else f"{share:.0%} of the runs {when}")


def _within(seconds: float) -> str:
    return span(max(seconds, 0.001))


def _engine(engine: Figures, speeds: Sequence[float], plain: bool) -> Panel:
    first, reused = engine["time_to_first_token"], engine["tokens_reused"]
    prompts = engine["tokens_read"] + reused
    hits = f"{reused:,} of {prompts:,} prompt tokens" + (f" ({reused / prompts:.0%})" if prompts else "")
    speed = Text(f"{engine['tokens_per_second']:>8,.1f}  ")
    speed.append(sparkline(speeds, plain), style="cyan")
    rows: list[tuple[str, RenderableType]] = [
        ("running", bar(engine["running"], engine["running_limit"], plain)),
        ("waiting", bar(engine["waiting"], engine["waiting_limit"], plain)),
        ("blocks", bar(engine["blocks_used"], engine["blocks_total"], plain)),
        ("tokens/s", speed),
        ("first token", Text("none yet" if first is None else f"after {span(first)}, mean of the last 64")),
        ("prefix hits", Text(hits)),
        (
            "so far",
            Text(
                f"{engine['tokens_produced']:,} tokens, {engine['steps']:,} steps, "
                f"{engine['preemptions']:,} preemptions"
            ),
        ),
        ("stops", _counts(engine["stops"])),
    ]
    if not engine["blocks_total"]:  # a remote model, or one that is not loaded
        rows = [row for row in rows if row[0] != "blocks"]
    title = Text.assemble((named(engine), "bold"), "  ", _state(engine["state"], engine))
    return _panel(title, rows)


def _panel(title: Text, rows: Sequence[tuple[str, RenderableType]]) -> Panel:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(width=11, style="dim", no_wrap=True)
    grid.add_column()
    for name, value in rows:
        grid.add_row(name, value)
    return Panel(grid, title=title, title_align="left", border_style="dim")


def _counts(counts: Mapping[str, int]) -> RenderableType:
    """Numbers with their names, in columns where they need more than one line; what there was none of is dim."""
    pairs = [
        Text(f"{count:,} {shown(name).replace('_', ' ')}", ENDINGS.get(name, "green") if count else "dim")
        for name, count in counts.items()
    ]
    return Columns(pairs, padding=(0, 2)) if pairs else Text("none yet", style="dim")


def bar(used: float, limit: float, plain: bool = False) -> Text:
    """How much of something is used, as a bar and as figures; without a limit, the figure alone."""
    if limit <= 0:
        return Text(f"{used:,}")
    full, empty = ("#", ".") if plain else ("█", "░")
    share = min(max(used / limit, 0.0), 1.0)
    length = round(share * BAR) or (1 if used else 0)
    style = "red" if share >= 0.95 else "yellow" if share >= 0.75 else "green"
    return Text.assemble((full * length, style), (empty * (BAR - length), "dim"), f"  {used:,} / {limit:,}")


def sparkline(values: Sequence[float], plain: bool = False) -> str:
    """One character for each value, from 0 to the largest."""
    marks = "_.-=+*%#" if plain else "▁▂▃▄▅▆▇█"
    top = max(values, default=0.0)
    if top <= 0:
        return marks[0] * len(values)
    return "".join(marks[min(int(max(value, 0.0) / top * len(marks)), len(marks) - 1)] for value in values)
