"""Readers: who follows a run without being its listener. Any number of them; leaving disturbs nobody."""

from __future__ import annotations

import asyncio
import threading
import time
from asyncio.events import _get_running_loop
from collections import deque
from functools import partial
from types import TracebackType
from typing import Any, Self

from .blocking import acquire
from .errors import FlowCallError, RunCancelled, RunTimeout
from .events import Event, RunFinished, TextDelta
from .logs import Source
from .memory import call_soon, resolve

__all__ = ["Reader", "TextPieces"]


class Reader:
    """The events of a run after a sequence number, for `for` or `async for`; one of any number of readers.

    It ends behind RunFinished. Where the run's writer has died, the last event is a RunFinished of status "lost"
    without a `seq`, and then WriterLost is raised. `seq` is that of the last event given out: where to go on
    another time.

    Raises:
        EventsExpired: while reading, when the events are produced faster than this reader takes them and are no
            longer kept.
        FlowCallError: a `for` on the very loop that the run needs; use `async for` there.
    """

    def __init__(self, source: Source, after: int = 0, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.seq = after
        self.finished: RunFinished | None = None
        self._from_start = after == 0
        self._source = source
        self._loop = loop
        self._ready: deque[Event] = deque()
        self._closed = False

    def text(self) -> TextPieces:
        """The pieces of text of the output step, from here on; if it streams none, `str(result)` once."""
        return TextPieces(self)

    @property
    def closed(self) -> bool:
        """Whether there is nothing more to come: the run's end has been read, or the reader was closed."""
        return self._closed

    def close(self) -> None:
        """Gives back what reading has taken; the iteration ends here."""
        if not self._closed:
            self._closed = True
            self._ready.clear()
            self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _next(self) -> Event | None:
        """The next event that is there; None: wait, or `_over`."""
        if self._closed:
            return None
        if not self._ready:
            ended = self._source.ended
            self._ready.extend(self._source.take())
            if not self._ready:
                if ended:  # it began behind the last event
                    self.close()
                return None
        event = self._ready.popleft()
        if type(event) is RunFinished:
            self.finished = event
            self.close()
            self.seq = getattr(event, "seq", self.seq)
        else:
            self.seq = event.seq
        return event

    def _over(self) -> bool:
        """Whether there is nothing more to come; raises WriterLost behind the end of a lost run."""
        if self.finished is not None and self.finished.status == "lost":
            outcome_of(self.finished)
        return self._closed

    # ------------------------------------------------------------ in a thread

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        event = self._next()
        if event is None:
            event = self.next_within(None)
            assert event is not None
        return event

    def next_within(self, timeout: float | None) -> Event | None:
        """The next event; None when none has come within `timeout` seconds.

        Raises:
            StopIteration: the run is at its end.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while (event := self._next()) is None:
            if self._over():
                raise StopIteration
            if self._loop is not None and _get_running_loop() is self._loop:
                raise FlowCallError("this loop is the one that the run needs; read it with `async for`")
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return None
            there = threading.Lock()
            there.acquire()
            self._source.wake_at_more(partial(_release, there))
            acquire(there, left)
        return event

    # ------------------------------------------------------------ on a loop

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while (event := self._next()) is None:
            if self._over():
                raise StopAsyncIteration
            await self.waiter()
        return event

    def take(self) -> Event | None:
        """The next event that is there, for whoever waits by `waiter`; None: there is none, or the run is over."""
        return self._next()

    def forget(self) -> None:
        """Nobody waits any more: what comes wakes nobody."""

    def waiter(self) -> asyncio.Future[None]:
        """To be awaited on this loop until there may be more to take."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if _get_running_loop() is loop:
                resolve(future)
            else:
                call_soon(loop, partial(resolve, future))

        self._source.wake_at_more(wake)
        return future


class TextPieces:
    """The text that a reader comes by, piece by piece, for `for` or `async for`; then the run's error, if any."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._silent = reader._from_start and not reader.seq

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        while (piece := self._piece(next(self._reader))) is None:
            pass
        return piece

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        while (piece := self._piece(await anext(self._reader))) is None:
            pass
        return piece

    def _piece(self, event: Event) -> str | None:
        if type(event) is TextDelta and event.output:
            self._silent = False
            return event.text
        if type(event) is RunFinished and event.status != "lost":
            result = outcome_of(event)
            return str(result) if self._silent else None
        return None


def outcome_of(finished: RunFinished) -> Any:
    """The result that a run has ended with; raises what it ended with otherwise."""
    if finished.status == "done":
        return finished.result
    if finished.error is not None:
        raise finished.error
    if finished.status == "timeout":
        raise RunTimeout(f"the run was stopped: {finished.reason}")
    raise RunCancelled(finished.reason or "cancelled")


def _release(lock: threading.Lock) -> None:
    try:
        lock.release()
    except RuntimeError:
        pass  # it was released before
