"""Timeout: a step that takes too long is stopped, and the run goes on with an error."""

from __future__ import annotations

import asyncio
from asyncio import CancelledError
from collections.abc import AsyncIterator, Awaitable
from typing import Any

from ...streaming.events import Path
from ...streaming.runs import Run
from ..steps import In, Keep, Out, Step
from ..taps import close
from .wrapping import PolicyStep, pieces_of

__all__ = ["Timed"]

MOMENT = 0.1
"""Seconds in which a step whose time has passed may still say that its last piece was the last."""


class Timed(PolicyStep[In, Out]):
    """Gives its step so many seconds, from its start to its value or its last piece.

    Raises:
        TimeoutError: they have passed. Asynchronous code is cancelled and cleaned up before; a plain function
            cannot be stopped, its late value is dropped, and `millrace.streaming.status()` counts it as abandoned.
    """

    def __init__(self, inner: Step[In, Out], seconds: float, name: str | None = None) -> None:
        super().__init__(inner, name)
        self.seconds = seconds

    async def work(self, x: Any, run: Run, path: Path, output: bool) -> Any:
        clock = Clock(self.seconds)
        try:
            return await clock.wait(self.inner.execute(x, run, path, output))
        except TimeIsOver:
            raise self._too_late() from None
        finally:
            clock.stop()

    async def pieces(self, x: Any, run: Run, path: Path, output: bool, keep: Keep) -> AsyncIterator[Any]:
        clock = Clock(self.seconds)
        stream = pieces_of(self.inner, x, run, path, output, keep)
        take, wait, is_over = stream.__anext__, clock.wait, clock.is_over
        try:
            while True:
                try:
                    item = await wait(take())
                except StopAsyncIteration:
                    return
                if is_over():
                    raise TimeIsOver
                yield item
        except TimeIsOver:
            raise self._too_late() from None
        finally:
            clock.stop()
            await close(stream)

    def _too_late(self) -> TimeoutError:
        return TimeoutError(
            f"step {self.label} did not end within its timeout of {self.seconds:g} s; give it more, "
            "or a fallback"
        )


class TimeIsOver(BaseException):
    """The clock has struck; no step can take it for an error of its own."""


class Clock:
    """One timer for all the waits of a step.

    While one of them lasts, the task is the step's and is cancelled when the clock strikes, as `asyncio.timeout`
    does it; in between it belongs to whoever takes the pieces.
    """

    __slots__ = ("_before", "_due", "_hit", "_loop", "_struck", "_task", "_timer")

    def __init__(self, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._due = self._loop.time() + seconds
        self._timer = self._loop.call_at(self._due, self._strike)
        self._task: asyncio.Task[Any] | None = None
        self._before = 0
        self._hit = False
        self._struck = False

    def is_over(self) -> bool:
        """Whether the time has passed, though a step that never waits kept the timer from being heard."""
        return self._loop.time() >= self._due

    def stop(self) -> None:
        self._timer.cancel()

    async def wait(self, work: Awaitable[Any]) -> Any:
        """Awaits `work`.

        Raises:
            TimeIsOver: the clock has struck meanwhile, and `work` has been cancelled.
        """
        task = asyncio.current_task()
        assert task is not None
        before = self._before = task.cancelling()
        self._task = task
        if self._struck:  # while its last piece was with whoever takes them
            self._timer = self._loop.call_later(MOMENT, self._strike)
        try:
            return await work
        except CancelledError:
            hit, self._hit = self._hit, False
            if hit and task.uncancel() <= before:
                raise TimeIsOver from None
            raise  # somebody else's, perhaps at the same time
        finally:
            self._task = None
            if self._hit:  # the cancel was swallowed, or became another error
                self._hit = False
                task.uncancel()

    def _strike(self) -> None:
        task, self._struck = self._task, True
        if task is not None and task.cancelling() <= self._before:  # else it is being cleaned up already
            self._hit = True
            task.cancel()
