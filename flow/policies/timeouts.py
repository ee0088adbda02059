"""Timeout: a step that takes too long is stopped, and the run goes on with an error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any

from ...streaming.events import Path
from ...streaming.runs import Run
from ..steps import In, Keep, Out, Step
from ..taps import close
from .wrapping import PolicyStep, pieces_of

__all__ = ["Timed"]


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
        deadline = asyncio.get_running_loop().time() + self.seconds
        return await self._until(deadline, self.inner.execute(x, run, path, output))

    async def pieces(self, x: Any, run: Run, path: Path, output: bool, keep: Keep) -> AsyncIterator[Any]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.seconds
        stream = pieces_of(self.inner, x, run, path, output, keep)
        try:
            while True:
                try:
                    item = await self._until(deadline, stream.__anext__())
                except StopAsyncIteration:
                    return
                if loop.time() >= deadline:
                    raise self._too_late()  # a generator that never waits cannot be interrupted
                yield item
        finally:
            await close(stream)

    async def _until(self, deadline: float, work: Awaitable[Any]) -> Any:
        """Each wait has its own scope: between two pieces the task belongs to whoever takes them."""
        scope = asyncio.timeout_at(deadline)
        try:
            async with scope:
                return await work
        except TimeoutError as error:
            if not scope.expired() or not isinstance(error.__cause__, asyncio.CancelledError):
                raise  # the step's own
            raise self._too_late() from None

    def _too_late(self) -> TimeoutError:
        return TimeoutError(
            f"step {self.label} did not end within its timeout of {self.seconds:g} s; give it more, "
            "or a fallback"
        )
