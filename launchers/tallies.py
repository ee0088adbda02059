"""Tallies: what became of the requests for runs, each counted once when it comes and once when it is over."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import TracebackType
from typing import Literal, Self, get_args

from ..streaming.errors import AdmissionError, ContextLengthExceeded, RunCancelled, RunTimeout
from ..streaming.runs import Run

__all__ = ["OUTCOMES", "Outcome", "Tally"]

Outcome = Literal["completed", "cancelled", "timed_out", "failed", "rejected"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


class Tally:
    """How many runs were asked for, and how they ended; `started` is the sum of the outcomes while none goes on.

    It belongs to one event loop.
    """

    def __init__(self) -> None:
        self.started = 0
        self.ended: Counter[Outcome] = Counter()

    def begin(self) -> Counted:
        """A run is asked for; to be used as the `with` block around all that is done about it."""
        self.started += 1
        return Counted(self)

    def reject(self) -> None:
        """A run was asked for, and there was no place for it."""
        self.started += 1
        self.ended["rejected"] += 1


class Counted:
    """One run that is asked for.

    How it ended is said by the run that was made for it, else by the error that there was instead, else it was
    cancelled before it began.
    """

    __slots__ = ("_tally", "error", "first", "last", "pieces", "run")

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self.first = self.last = 0.0
        self.pieces = 0
        self.run: Run | None = None
        self.error: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(error)

    def end(self, error: BaseException | None = None) -> None:
        """It is over; `error` is why there was no run, where there was none."""
        error = self.error or error
        if self.run is not None:
            outcome = outcome_of_run(self.run)
        else:
            outcome = "cancelled" if error is None else outcome_of(error)
        self._tally.ended[outcome] += 1


def outcome_of_run(run: Run) -> Outcome:
    """How a run ended."""
    if run.status == "done":
        return "completed"
    if run.status == "timeout":
        return "timed_out"
    return "cancelled" if run.error is None else outcome_of(run.error)


def outcome_of(error: BaseException) -> Outcome:
    """How a run ended that raised this. A prompt that is too long is the run's own failure, and not the service's."""
    if isinstance(error, AdmissionError) and not isinstance(error, ContextLengthExceeded):
        return "rejected"
    if isinstance(error, RunTimeout):
        return "timed_out"
    if isinstance(error, (RunCancelled, asyncio.CancelledError)):
        return "cancelled"
    return "failed"
