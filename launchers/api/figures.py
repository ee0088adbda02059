"""Figures: how a service is at this moment, in numbers, for `/status`, `/metrics` and `millrace top`.

No prompts, keys, sessions, paths or texts of errors are among them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from ...modules.local import EngineStatus
from ..admission import Admission
from ..tallies import OUTCOMES
from .readiness import Readiness

__all__ = ["figures_of"]

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


def figures_of(model: str, admission: Admission, readiness: Readiness) -> Callable[[], Figures]:
    """What reads the figures of a service, at once and as often as one likes, on the service's loop."""
    began = time.monotonic()

    def read() -> Figures:
        tally, limits = admission.tally, admission.limits
        return {
            **readiness.report()[1],
            "model": model,
            "uptime": round(time.monotonic() - began, 3),
            "runs": {"started": tally.started, **{name: tally.ended[name] for name in OUTCOMES}},
            "admission": {
                "running": admission.running,
                "running_limit": limits.running,
                "waiting": admission.waiting,
                "waiting_limit": limits.waiting,
            },
            "engines": list(engines_of(readiness)),
        }

    return read


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
