"""Figures: how a service is at this moment, in numbers, for `/status`, `/metrics` and `millrace top`.

No prompts, keys, sessions, paths or texts of errors are among them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from ...modules.local import EngineStatus
from ..histograms import quantile
from ..owners import Owner
from ..tallies import LATELY, OUTCOMES
from .desks import Desk
from .readiness import Readiness

__all__ = ["figures_of", "interrupted", "seen_by", "told"]

ENGINE_FIGURES = (
    "state",
    "stage",
    "progress",
    "running",
    "running_limit",
    "waiting",
    "waiting_limit",
    "blocks_used",
    "blocks_total",
    "block_size",
    "context_length",
    "tokens_per_second",
    "time_to_first_token",
    "steps",
    "tokens_read",
    "tokens_reused",
    "tokens_produced",
    "preemptions",
    "stops",
)
"""What of an EngineStatus is told: all but the model's path and the text of its error."""

Figures = dict[str, Any]


def figures_of(desk: Desk, readiness: Readiness) -> Callable[[], Figures]:
    """What reads the figures of a service, at once and as often as one likes, on the service's loop.

    Those of several services can be added up, number by number; `told` makes of them what is shown.
    """
    began = time.monotonic()

    def read() -> Figures:
        admission = desk.admission
        tally, limits = admission.tally, admission.limits
        return {
            **readiness.report()[1],
            "model": desk.model,
            "uptime": round(time.monotonic() - began, 3),
            "runs": {"started": tally.started, **{name: tally.ended[name] for name in OUTCOMES}},
            "admission": {
                "running": admission.running,
                "running_limit": limits.running,
                "waiting": admission.waiting,
                "waiting_limit": limits.waiting,
                "followers": desk.followers,
            },
            "lately": tally.lately(),
            "times": tally.times(),
            "keys": {name: key.figures() for name, key in sorted(tally.keys.items())},
            "engines": list(engines_of(readiness)),
        }

    return read


def told(figures: Figures) -> Figures:
    """The figures for `/status`: what happened lately as shares and times, and nothing that only Prometheus wants."""
    shown = {name: figure for name, figure in figures.items() if name not in ("times", "keys")}
    lately = figures["lately"]
    ended = lately["ended"]
    times = {f"p{percent}": quantile(lately["first_output"], percent / 100) for percent in (50, 95)}
    shown["lately"] = {
        "seconds": LATELY,
        "ended": sum(ended.values()),
        "interrupted": interrupted(ended),
        "first_output": {
            name: None if seconds is None else round(seconds, 6) for name, seconds in times.items()
        },
    }
    return shown


def seen_by(owner: Owner, figures: Figures) -> Figures:
    """The figures as an owner may see them: of what keys have used only its own, unless it sees all."""
    if owner.name is None or owner.sees_all:
        return figures
    return {**figures, "keys": {name: used for name, used in figures["keys"].items() if name == owner.name}}


def interrupted(ended: Mapping[str, int]) -> float | None:
    """The share of the runs that had a place which were cancelled; None where there was none."""
    had_a_place = sum(ended.values()) - ended["rejected"]
    return round(ended["cancelled"] / had_a_place, 6) if had_a_place else None


def engines_of(readiness: Readiness) -> Iterator[Figures]:
    """The engines behind a flow's modules, each once, by the name of the first module on it."""
    seen: set[int] = set()
    names: Counter[str] = Counter()
    for module in readiness.modules:
        status = module.status()
        engine = getattr(module, "engine", module)
        if not isinstance(status, EngineStatus) or id(engine) in seen:
            continue
        seen.add(id(engine))
        name = module.name or type(module).__name__
        names[name] += 1
        number = f" {names[name]}" if names[name] > 1 else ""
        figures = asdict(status)
        yield {"module": name + number, **{name: figures[name] for name in ENGINE_FIGURES}}
