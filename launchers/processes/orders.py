"""Orders: what a worker is told at its start, as JSON and back. API keys travel so, and on no command line."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ...streaming.errors import MillraceError
from ...streaming.limits import Limits
from ..api.patience import AFTER_DRAIN, Timings

__all__ = ["Orders", "longest_end", "options_to"]

LAST_MOMENTS = 30.0
"""Seconds that the modules of a flow have to end, when all requests have."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What one worker has to do.

    Args:
        number: which one of the workers it is, from 1 on.
        target: the flow, as `module:attribute`.
        options: what its Service takes, as `options_to` makes it.
        path: `sys.path` of the supervisor.
        log_level: from which on it logs.
        listeners: descriptors of the sockets that connections come from, one for each worker.
        covered: whether another worker serves in its place until it is ready; it accepts nobody before then.
        folder: the supervisor's own directory for runs, if it has made one.
        run_lines: the form in which it tells of each run on stderr; None: it does not.
        last_words: descriptor of the socket by which it leaves its last words.
    """

    number: int
    target: str
    options: dict[str, Any]
    path: list[str]
    log_level: int
    listeners: list[int]
    covered: bool
    folder: str | None
    run_lines: str | None = None
    last_words: int | None = None

    def service_options(self) -> dict[str, Any]:
        """The options as Service takes them."""
        options = dict(self.options)
        for name, kind in KINDS.items():
            if options.get(name) is not None:
                options[name] = kind(**options[name])
        return options

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


KINDS: dict[str, type[Limits] | type[Timings]] = {"limits": Limits, "timings": Timings}


def options_to(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a Service as JSON.

    Raises:
        MillraceError: one that cannot be given to another process; names it.
    """
    told: dict[str, Any] = {}
    for name, value in options.items():
        told[name] = _plain(value)
        try:
            json.dumps(told[name])
        except (TypeError, ValueError):
            raise MillraceError(
                f"{name}, of type {type(value).__name__}, cannot be given to workers, which are other processes; "
                "give text, numbers and lists of them, or serve with one worker"
            ) from None
    return told


def _plain(value: Any) -> Any:
    if isinstance(value, Limits | Timings):
        return asdict(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes) else value


def longest_end(options: Mapping[str, Any]) -> float:
    """Seconds that a worker needs for a graceful end at most; `options` as Service takes them."""
    timings: Timings = options.get("timings") or Timings()
    return timings.drain + AFTER_DRAIN + LAST_MOMENTS
