"""Streams: the listener's handle on a run. Whoever stops listening stops the work.

A stream starts at the first look. Inside a `with` block it may be read in pieces, and leaving the block stops the
run. In a bare loop only the loop itself holds the reader, a small object with a `__del__`: `break`, an exception
or dropping it stops the run at once (in CPython; a reader is a class and never a generator, whose `close()` may
come late or from elsewhere).
"""

from __future__ import annotations

import asyncio
from asyncio.events import _get_running_loop
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import copy_context
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Self, TypeVar

from .endings import LEFT
from .errors import FlowCallError
from .events import Event, RunFinished, TextDelta
from .loops import framework_loop, is_framework_loop
from .memory import MemoryLog
from .options import NO_OPTIONS, Options
from .pieces import as_event, flat
from .runs import FRAME, Body, Run
from .usage import TokenUsage

__all__ = ["Stream", "TextStream"]

Item = TypeVar("Item")

NO_ITERATOR = (
    "a stream is no iterator itself; loop over it, or take its items one by one: "
    "with flow.stream(x) as stream: items = iter(stream.text()); next(items)"
)
NOT_AWAITED = (
    "a stream is read and not awaited: `async for piece in flow.stream(x).text()`, or for the value: "
    "`await flow.acall(x)`"
)


class Stream:
    """What a run says, event by event, for one listener.

    Iterate over it (`for` or `async for`), or over `.text()`; use it as a context manager (`with` or
    `async with`) to read in pieces. `stream.result`, `stream.usage` and `stream.run` tell the rest.
    """

    def __init__(
        self,
        body: Body,
        options: Options = NO_OPTIONS,
        stop_when: Callable[[str], bool] | None = None,
        name: str | None = None,
    ) -> None:
        self._body = body
        self._options = options
        self._stop_when = stop_when
        self._name = name
        self._context = copy_context()
        self._frame = FRAME.get()
        self._run: Run | None = None
        self._entered = False

    @property
    def run(self) -> Run:
        """The run behind the stream.

        Raises:
            FlowCallError: nobody has begun to read or entered the block, so that nothing runs yet.
        """
        if self._run is None:
            raise FlowCallError("this stream has not started; iterate over it or enter its block first")
        return self._run

    @property
    def usage(self) -> TokenUsage:
        """Tokens spent so far; what was produced, whether it was delivered or not."""
        return self._run.usage if self._run is not None else TokenUsage()

    @property
    def result(self) -> Any:
        """What the flow returned. Before the end a synchronous caller reads the stream to its end.

        Raises:
            FlowCallError: inside a coroutine, before the end: read the stream, then ask.
        """
        run = self._begin(None) if self._run is None and _get_running_loop() is None else self.run
        if not run.over:
            if _get_running_loop() is not None:
                raise FlowCallError(
                    "the stream is not at its end; read it first, or use: await flow.acall(x)"
                )
            for _ in EventReader(run, True):
                pass
        return run.outcome()

    def text(self) -> TextStream:
        """The pieces of text of the output step; if it streams none, `str(result)` once."""
        return TextStream(self)

    # ------------------------------------------------------------ leaving

    def close(self) -> None:
        """Stops the run, if it is going on, and waits for the cleanup of its asynchronous parts."""
        run = self._run
        if run is None or run.over:
            return
        run.cancel(LEFT)
        if _get_running_loop() is not run.loop:
            run.wait_sync()

    async def aclose(self) -> None:
        """Stops the run, if it is going on, and waits for the cleanup of its asynchronous parts."""
        run = self._run
        if run is not None and not run.over:
            run.cancel(LEFT)
            await run.wait()

    def __enter__(self) -> Self:
        self._entered = True
        self._begin(None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        self._entered = True
        self._begin(asyncio.get_running_loop())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    # ------------------------------------------------------------ reading

    def __iter__(self) -> Iterator[Event]:
        return EventReader(self._begin(None), self._entered)

    def __aiter__(self) -> AsyncIterator[Event]:
        return AsyncEventReader(self._begin(asyncio.get_running_loop()), self._entered)

    if not TYPE_CHECKING:  # type checkers refuse both by themselves

        def __next__(self) -> NoReturn:
            raise FlowCallError(NO_ITERATOR)

        def __await__(self) -> NoReturn:
            raise FlowCallError(NOT_AWAITED)

    def _begin(self, loop: asyncio.AbstractEventLoop | None) -> Run:
        """The run, started if need be: on `loop`, or on the framework's for a synchronous listener."""
        if loop is None:
            refuse_blocking()
        if self._run is not None:
            return self._run
        run = Run()
        run.name = self._name
        here = loop if loop is not None else framework_loop()
        parent = self._frame[0] if self._frame is not None and not self._frame[0].over else None
        self._context.run(run.adopt, self._options, parent, here)
        self._run = run
        run.stop_when = self._stop_when
        run.loop = here
        start = partial(run.open, self._body, here, self._context, self._options.timeout)
        if loop is not None:
            start()
            return run
        try:
            here.call_soon_threadsafe(start)
            return run
        except BaseException:  # Ctrl-C: the work may have begun, and nobody has a handle on it yet
            run.cancel("interrupted")
            raise


class TextStream:
    """The text of a stream, piece by piece; for one loop, `for` or `async for`."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[str]:
        return TextReader(self._stream._begin(None), self._stream._entered)

    def __aiter__(self) -> AsyncIterator[str]:
        return AsyncTextReader(self._stream._begin(asyncio.get_running_loop()), self._stream._entered)

    if not TYPE_CHECKING:
        __next__, __await__ = Stream.__next__, Stream.__await__


class Guard(Generic[Item]):
    """What only a loop statement holds: dropping it stops the run, unless a `with` block holds the stream."""

    __slots__ = ("entered", "finished", "log", "run")

    passes = False
    """Whether text on the way to the answer is nothing to the loop."""

    def __init__(self, run: Run, entered: bool) -> None:
        assert isinstance(run.log, MemoryLog)
        self.run = run
        self.log: MemoryLog = run.log
        self.entered = entered
        self.finished: RunFinished | None = None

    def __del__(self) -> None:
        if self.finished is None and not self.entered:
            self.run.drop(LEFT)

    def pick(self, event: Event) -> Item | None:
        """What the loop is given for this event; None: nothing."""
        raise NotImplementedError

    def take(self) -> Item | None:
        """The next item that is there; None: wait."""
        log = self.log
        ahead, behind, passes = log.ahead, log.behind, self.passes
        while ahead:
            if log.skip:
                log.jump()
            try:
                event = ahead.popleft()  # as `log.take`, without a call for each event
            except IndexError:
                continue
            _oldest = behind[1] if behind else None
            if not isinstance(event, tuple):
                behind.extend(flat(event))
                _oldest = None  # what has fallen out may run code of its own at its end: not within `extend`
                if log.room_waiters:
                    log.made_room()
                item = self.pick(event)
                if item is not None:
                    return item
                continue
            behind.extend(event)
            _oldest = None
            if log.room_waiters:
                log.made_room()
            if event[4]:
                log.text.append(event[3])
                if passes:
                    return event[3]  # type: ignore[return-value]
            elif passes:
                continue
            return as_event(event)  # type: ignore[return-value]
        if self.finished is None and log.last is not None and not log.ahead:
            self.finished = log.last  # read to its end by an earlier loop
        return None

    def end(self, stop: type[Exception]) -> Exception:
        """What the loop ends with: silently, or with the run's error."""
        finished = self.finished
        assert finished is not None
        if finished.status == "done" or finished.reason == LEFT:
            return stop()
        if finished.error is not None:
            raise finished.error
        return self.run._stop_error()


class _Events(Guard[Event]):
    __slots__ = ()

    def pick(self, event: Event) -> Event:
        kind = type(event)
        if kind is TextDelta:
            if event.output:  # type: ignore[attr-defined]
                self.log.text.append(event.text)  # type: ignore[attr-defined]
        elif kind is RunFinished:
            self.finished = event  # type: ignore[assignment]
        return event


class _Text(Guard[str]):
    __slots__ = ()

    passes = True

    def pick(self, event: Event) -> str | None:
        kind = type(event)
        if kind is TextDelta:
            if event.output:  # type: ignore[attr-defined]
                text: str = event.text  # type: ignore[attr-defined]
                self.log.text.append(text)
                return text
        elif kind is RunFinished:
            assert isinstance(event, RunFinished)
            self.finished = event
            if event.status == "done" and not self.log.text:
                text = str(event.result)
                self.log.text.append(text)
                return text
        return None


class _Sync(Guard[Item]):
    __slots__ = ()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Item:
        try:
            while True:
                item = self.take()
                if item is not None:
                    return item
                if self.finished is not None:
                    break
                self.log.wait_sync(self.passes)
        except BaseException:  # Ctrl-C
            self.run.cancel("interrupted")
            raise
        raise self.end(StopIteration)


class _Async(Guard[Item]):
    __slots__ = ()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        while True:
            item = self.take()
            if item is not None:
                return item
            if self.finished is not None:
                raise self.end(StopAsyncIteration)
            waiter = self.log.waiter(self.passes)
            try:
                await waiter
            except BaseException:  # a traceback may hold this frame and so the guard: do not wait for __del__
                self.log.forget()
                if not self.entered:
                    self.run.cancel(LEFT)
                raise


class EventReader(_Sync[Event], _Events):
    __slots__ = ()


class AsyncEventReader(_Async[Event], _Events):
    """Besides `async for`: `take`, and `waiter` where there is nothing, for whoever cannot afford a coroutine each."""

    __slots__ = ()

    def waiter(self) -> asyncio.Future[None]:
        """To be awaited for the next event; after a cancel call `forget`."""
        return self.log.waiter()

    def forget(self) -> None:
        """Nobody waits any more."""
        self.log.forget()


class TextReader(_Sync[str], _Text):
    __slots__ = ()


class AsyncTextReader(_Async[str], _Text):
    __slots__ = ()


# ---------------------------------------------------------------- helpers


def refuse_blocking() -> None:
    """Raises FlowCallError where a synchronous call would block the loop that its own work needs.

    In a coroutine of a run, or anywhere on the framework's loop. Another running loop (a notebook's) is blocked
    as its user asked.
    """
    loop, frame = _get_running_loop(), FRAME.get()
    if loop is not None and ((frame is not None and frame[0].loop is not None) or is_framework_loop(loop)):
        raise FlowCallError(
            "a flow was called synchronously inside a coroutine of a run; "
            "use `await flow.acall(x)`, or `async for` over `flow.stream(x)`"
        )
