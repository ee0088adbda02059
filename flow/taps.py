"""Between two live steps: says what passes, and gives each generator its own frame while it works."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import AsyncIterator, Callable, Iterable
from copy import copy
from typing import Any

from ..streaming.events import (
    Data,
    Event,
    Logprobs,
    Path,
    ReasoningDelta,
    ToolCall,
    ToolCallDelta,
)
from ..streaming.notes import also_failed, forget_origin
from ..streaming.runs import FRAME, Run
from .references import SCOPE

__all__ = [
    "Remembered",
    "Valued",
    "aside",
    "close",
    "close_all",
    "close_at",
    "framed",
    "gathered",
    "is_stream",
    "joined",
    "last_of",
    "one",
    "tap",
]

Ended = Callable[[list[Any]], None]
PARTS = (ReasoningDelta, ToolCallDelta, ToolCall, Logprobs)
"""What a model says besides its text: of the answer, where it gives that."""


async def tap(
    stream: Any, run: Run, path: Path, output: bool, silent: bool = False, ended: Ended | None = None
) -> AsyncIterator[Any]:
    """A stream on its way to the next step of the same task; closing it closes the stream.

    What passes is said, as output or not; with `silent` it is not, but for events. `ended` is called at the stream's
    end with all that has passed.
    """
    log, frame = run.log, (run, path)
    says = log is not None and not silent
    say_text = run.say_text if log is None or run.stop_when is not None else log.say_text
    take, get, put = stream.__anext__, FRAME.get, FRAME.set
    items: list[Any] | None = [] if ended is not None else None
    try:
        while True:
            outer = get()
            put(frame)
            try:
                item = await take()
            except StopAsyncIteration:
                break
            except Exception as error:
                came_from(error, path)
                raise
            finally:
                put(outer)  # never a token: it would cross a yield
            if type(item) is str:
                full = says and say_text(item, output, path)
            elif isinstance(item, Event):
                if run.say(item if output else aside(item), path) and log is not None:
                    await log.room()
                continue
            else:
                full = log is not None and says and log.put(Data(item, output), path)
            if full and log is not None:
                await log.room()
            elif log is None and run.cut is not None:
                await run.park()
            if items is not None:
                items.append(item)
            yield item
        if ended is not None and items is not None:
            ended(items)
    finally:
        await close_at(path, stream)


def aside(event: Event) -> Event:
    """The event as a step yields it that does not give the run's answer: text and data say themselves what they are."""
    if isinstance(event, PARTS) and event.output:
        event = copy(event)  # whoever has made it may keep it, for another run
        event.output = False
    return event


async def framed(stream: Any, run: Run, path: Path) -> AsyncIterator[Any]:
    """What a flow gives piece by piece: its frame and its references are its own while it works."""
    frame: Any = (run, path)
    scope = SCOPE.get()
    try:
        while True:
            outer, outer_scope = FRAME.get(), SCOPE.get()
            FRAME.set(frame)
            SCOPE.set(scope)
            try:
                item = await stream.__anext__()
            except StopAsyncIteration:
                return
            except Exception as error:
                came_from(error, path)
                raise
            finally:
                frame, scope = FRAME.get(), SCOPE.get()
                FRAME.set(outer)
                SCOPE.set(outer_scope)
            yield item
    finally:
        await close_at(path, stream)


async def one(value: Any) -> AsyncIterator[Any]:
    """A value as a stream of one item, for a live step behind one that does not stream."""
    yield value


class Valued:
    """A stream that knows its value at its end, which need not be what its pieces are together."""

    def __init__(self) -> None:
        self.stream: Any = None
        self.known = False
        self.value: Any = None

    def keep(self, value: Any) -> None:
        self.known, self.value = True, value

    def __aiter__(self) -> Valued:
        return self

    def __anext__(self) -> Any:
        return self.stream.__anext__()

    async def aclose(self) -> None:
        await close(self.stream)


def value_of(stream: Any, items: list[Any]) -> Any:
    """The value of a stream that has come to its end with these items."""
    return stream.value if getattr(stream, "known", False) else joined(items)


class Remembered:
    """A stream whose value is kept at its end; or what has come of it, when it is closed before."""

    def __init__(self, stream: Any, keep: Callable[[Any], None]) -> None:
        self._stream = stream
        self._keep: Callable[[Any], None] | None = keep
        self._items: list[Any] = []

    def __aiter__(self) -> Remembered:
        return self

    async def __anext__(self) -> Any:
        try:
            item = await self._stream.__anext__()
        except StopAsyncIteration:
            self._end()
            raise
        self._items.append(item)
        return item

    async def aclose(self) -> None:
        self._end()
        await close(self._stream)

    def _end(self) -> None:
        keep, self._keep = self._keep, None
        if keep is not None:
            keep(value_of(self._stream, self._items))

    @property
    def known(self) -> bool:
        return getattr(self._stream, "known", False)

    @property
    def value(self) -> Any:
        return self._stream.value


async def gathered(stream: Any) -> Any:
    """The value of a stream: its joined text, or the list of its items."""
    try:
        return value_of(stream, [item async for item in stream])
    finally:
        await close(stream)


def joined(items: list[Any], empty: Any = None) -> Any:
    """What the items of a stream are together: joined, where all are text, else the list."""
    if not items:
        return items if empty is None else empty
    try:
        return "".join(items)
    except TypeError:
        return items


def is_stream(x: Any) -> bool:
    """Whether a step was given its upstream live."""
    return hasattr(x, "__anext__")


def came_from(error: BaseException, path: Path) -> None:
    """Notes the outermost place inside which the error arose, however many steps it passes on its way."""
    origin: Path | None = getattr(error, "_millrace_origin", None)
    if origin is None or origin[: len(path)] == path:
        try:
            error._millrace_origin = path  # type: ignore[attr-defined]
        except Exception:  # an exception class with slots
            pass


def origin_of(error: BaseException) -> Path | None:
    """The place noted by `came_from`; it is forgotten, so that the error can be raised again elsewhere."""
    origin: Path | None = getattr(error, "_millrace_origin", None)
    forget_origin(error)
    return origin


def last_of(origin: Path | None) -> str:
    """What a note calls a place."""
    return str(origin[-1]) if origin else "a cleanup"


def is_from_upstream(error: BaseException, where: Path) -> bool:
    """Whether an error that leaves the step at `where` had come to it with the pieces it takes."""
    origin: Path | None = getattr(error, "_millrace_origin", None)
    return origin is not None and origin[: len(where)] != where


async def close(stream: Any) -> None:
    """Closes an asynchronous stream, where it can be closed."""
    aclose = getattr(stream, "aclose", None)
    if aclose is not None:
        await aclose()


async def close_at(path: Path, stream: Any) -> None:
    """Closes the stream of the step at `path`: what its cleanup raises has come from there."""
    try:
        await close(stream)
    except Exception as error:
        came_from(error, path)
        raise


async def close_all(streams: Iterable[Any], error: BaseException | None = None) -> None:
    """Closes all of them, whatever the cleanup of one raises, and raises `error`, or else the first of that.

    What cleanups raise behind an error goes into its note. A cancel is no error here: what a cleanup raises comes
    before it.
    """
    stop = error if isinstance(error, STOPS) else None
    failed = [error] if error is not None and stop is None else []
    for stream in streams:
        try:
            await close(stream)
        except STOPS as other:
            stop = other
        except BaseException as other:
            failed.append(other)
    for later in failed[1:]:
        also_failed(failed[0], last_of(origin_of(later)), later)
    if failed:
        raise failed[0]
    if stop is not None:
        raise stop


STOPS = (CancelledError, GeneratorExit)
