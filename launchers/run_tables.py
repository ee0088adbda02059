"""Runs of a queue as a terminal shows them: a table, the facts of one run, and a table that is kept up to date."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from ..streaming.errors import MillraceError
from ..streaming.queues import RunInfo

__all__ = ["facts_of", "shown", "span", "table_of", "watch_runs"]

HEAD = ("ID", "STATUS", "STARTED", "TOOK", "EVENTS", "SIZE", "SESSION", "FLOW")
NUMBERS = {"EVENTS", "SIZE"}
EVERY = 0.5
"""Seconds between two looks."""


def table_of(infos: Sequence[RunInfo], now: float) -> list[str]:
    """Lines with one run each, under a head. `now` is in seconds since the epoch."""
    rows = [HEAD, *(_row(info, now) for info in infos)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    return [_aligned(row, widths) for row in rows] if infos else ["no runs"]


def _row(info: RunInfo, now: float) -> tuple[str, ...]:
    return (
        info.id,
        info.status,
        f"{span(now - info.created)} ago",
        span((info.ended or now) - info.created),
        str(info.events),
        _bytes(info.size),
        info.session or "",
        info.name or "",
    )


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [
        cell.rjust(width) if head in NUMBERS else cell.ljust(width)
        for cell, width, head in zip(row, widths, HEAD, strict=True)
    ]
    return "  ".join(cells).rstrip()


def facts_of(info: RunInfo, now: float, error: BaseException | None = None) -> Iterator[str]:
    """What is known of a run, a line for each."""
    reason = f" ({info.reason})" if info.reason and info.reason != info.status else ""
    yield from _facts(
        ("run", info.id),
        ("status", info.status + reason),
        ("flow", info.name),
        ("session", info.session),
        ("started", f"{_clock(info.created)} ({span(now - info.created)} ago)"),
        ("took" if info.over else "running", span((info.ended or now) - info.created)),
        ("said", f"{info.events} events, {_bytes(info.size)}"),
        (
            "tokens",
            f"{info.usage.prompt_tokens} + {info.usage.completion_tokens}"
            if info.usage.total_tokens
            else None,
        ),
        ("process", str(info.writer) if info.writer is not None else None),
        ("error", str(error) if error is not None else info.error),
    )
    for note in getattr(error, "__notes__", ()):
        yield f"         {note}"


def _facts(*pairs: tuple[str, str | None]) -> Iterator[str]:
    for name, value in pairs:
        if value:
            yield f"{name:<8} {value}"


def watch_runs(look: Callable[[], Iterable[RunInfo]]) -> None:
    """Shows the runs in place, again and again, until Ctrl-C.

    Raises:
        MillraceError: there is no terminal to show them on.
    """
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        raise MillraceError(
            "--watch shows runs on a terminal; elsewhere, follow one with: millrace runs tail ID"
        )
    with Live(console=console, auto_refresh=False, screen=False) as shown:
        while True:
            lines = table_of(list(look()), time.time())
            fitting = "\n".join(lines[: max(2, console.height - 2)])
            shown.update(Text(fitting, no_wrap=True, overflow="crop"), refresh=True)
            time.sleep(EVERY)


def span(seconds: float) -> str:
    """A time in at most two units."""
    seconds = max(0.0, seconds)
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    for size, unit, smaller_size, smaller in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "m"),
        (60, "m", 1, "s"),
    ):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit} {seconds % size // smaller_size:.0f} {smaller}"
    return ""


def shown(words: object) -> str:
    """What somebody else calls something, without anything that would steer the terminal."""
    return "".join(mark if mark.isprintable() else "?" for mark in str(words))


def _bytes(size: int | None) -> str:
    if size is None:
        return "?"
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return ""


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
