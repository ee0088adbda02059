"""Between two live steps: says what passes, and gives each generator its own frame while it works."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

from ..streaming.events import Data, Event, Path, TextDelta
from ..streaming.runs import FRAME, Run

__all__ = ["close", "close_all", "one", "tap"]


async def tap(stream: Any, run: Run, path: Path, show: str | None) -> AsyncIterator[Any]:
    """A stream on its way to the next step of the same task; closing it closes the stream."""
    log, frame, output = run.log, (run, path), show == "output"
    says = log is not None and show != "silent"
    say = run.say if log is None or run.stop_when is not None else log.put
    take, get, put = stream.__anext__, FRAME.get, FRAME.set
    try:
        while True:
            outer = get()
            put(frame)
            try:
                item = await take()
            except StopAsyncIteration:
                return
            finally:
                put(outer)  # never a token: it would cross a yield
            if type(item) is str:
                full = says and say(TextDelta(item, output), path)
            elif isinstance(item, Event):
                if run.say(item, path) and log is not None:
                    await log.room()
                continue
            else:
                full = says and say(Data(item, output), path)
            if full and log is not None:
                await log.room()
            yield item
    finally:
        await close(stream)


async def one(value: Any) -> AsyncIterator[Any]:
    """A value as a stream of one item, for a live step behind one that does not stream."""
    yield value


async def close(stream: Any) -> None:
    """Closes an asynchronous stream, where it can be closed."""
    aclose = getattr(stream, "aclose", None)
    if aclose is not None:
        await aclose()


async def close_all(streams: Iterable[Any]) -> None:
    """Closes all of them, whatever the cleanup of one raises; raises the first of that at the end."""
    first: BaseException | None = None
    for stream in streams:
        try:
            await close(stream)
        except BaseException as error:
            first = first or error
    if first is not None:
        raise first
