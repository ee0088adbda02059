"""Deadlines: how long a run may take, and the clock that stops it."""

from __future__ import annotations

import asyncio
import time

from .endings import RunStatus
from .turns import Turn

__all__ = ["Limited"]


class Limited(Turn):
    """The part of a run that may have a deadline, as `time.perf_counter` tells the time."""

    parent: Limited | None = None
    patient = False
    """Whether the clock is left to its listener: to set one costs as much as half of what a short run does."""
    _deadline: float | None = None
    _timer: asyncio.TimerHandle | None = None

    @property
    def time_left(self) -> float | None:
        """Seconds until the deadline, its own or that of a run above it; None where there is none."""
        run: Limited | None = self
        deadlines = []
        while run is not None:
            if run._deadline is not None:
                deadlines.append(run._deadline)
            run = run.parent
        return min(deadlines) - time.perf_counter() if deadlines else None

    def set_clock(self) -> None:
        """Has the deadline heard, where there is one and the run goes on; on its loop. A second time does nothing."""
        if self._deadline is not None and self._timer is None and self.loop is not None and not self.over:
            left = max(self._deadline - time.perf_counter(), 0.0)
            self._timer = self.loop.call_later(left, self._cut, "deadline passed", "timeout")

    def _cut(self, reason: str, outcome: RunStatus, at_once: bool = True) -> None:
        raise NotImplementedError
