"""Between two live steps: says what passes, and gives each generator its own frame while it works."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Self

from ..streaming.events import Data, Event, Path, TextDelta
from ..streaming.runs import FRAME, Run

__all__ = ["Tap", "one"]


class Tap:
    """A stream on its way to the next step of the same task."""

    __slots__ = ("_frame", "_next", "_output", "_path", "_run", "_say", "_says", "_stream")

    def __init__(self, stream: Any, run: Run, path: Path, show: str | None) -> None:
        self._stream = stream
        self._next = stream.__anext__
        self._run = run
        self._path = path
        self._frame = (run, path)
        self._says = show != "silent"
        self._output = show == "output"
        self._say = run.say if run.log is None or run.stop_when is not None else run.log.put

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        run, log = self._run, self._run.log
        while True:
            outer = FRAME.get()
            FRAME.set(self._frame)
            try:
                item = await self._next()
            finally:
                FRAME.set(outer)  # never a token: it would cross a yield
            if type(item) is str:
                if log is not None and self._says and self._say(TextDelta(item, self._output), self._path):
                    await log.room()
                return item
            if not isinstance(item, Event):
                if log is not None and self._says and self._say(Data(item, self._output), self._path):
                    await log.room()
                return item
            if run.say(item, self._path) and log is not None:
                await log.room()

    async def aclose(self) -> None:
        aclose = getattr(self._stream, "aclose", None)
        if aclose is not None:
            await aclose()


async def one(value: Any) -> AsyncIterator[Any]:
    """A value as a stream of one item, for a live step behind one that does not stream."""
    yield value
