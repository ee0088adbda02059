"""Idling: how long a connection may stand without a request, by a timer that is not set anew after every answer.

uvicorn sets one after each answer and takes it back with the next request: as much work as a short answer's other half.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

__all__ = ["IdleClock"]


class IdleClock:
    """The loop of one connection as uvicorn sees it; in all but `call_later` the given one.

    What was asked for last is done when its time has come, unless it was cancelled. It is the handle of that as well.
    """

    __slots__ = ("_due", "_fires", "_loop", "_then", "_timer", "create_task")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due = self._fires = 0.0
        self._then: Callable[[], object] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.create_task = loop.create_task

    def call_later(self, seconds: float, then: Callable[[], object]) -> IdleClock:
        """As the loop's own, for one callback at a time."""
        self._due, self._then = self._loop.time() + seconds, then
        if self._timer is None or self._due < self._fires:
            self._set(seconds)
        return self

    def _set(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._fires = self._due
        self._timer = self._loop.call_later(seconds, self._look)

    def cancel(self) -> None:
        """What was asked for last is not done; the timer itself goes on, for the next."""
        self._then = None

    def stop(self) -> None:
        """The connection is gone."""
        self._then = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer, then = None, self._then
        if then is None:
            return
        left = self._due - self._loop.time()
        if left > 0:
            self._set(left)
        else:
            self._then = None
            then()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)
