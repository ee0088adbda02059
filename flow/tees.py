"""One live upstream for several consumers: each reads all of it, at its own pace within bounds."""

from __future__ import annotations

import asyncio
from asyncio import CancelledError
from asyncio.events import _get_running_loop
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from types import TracebackType
from typing import Any, Self

from ..streaming.notes import also_failed
from .contexts import Settings, Watch
from .escapes import Escape, contained
from .taps import close, last_of, origin_of, value_of
from .threads import READING, carry

__all__ = ["Tee", "held_up"]


class Tee:
    """Reads an asynchronous stream once and gives every item to each of its readers, in order.

    Inside of `async with tee:` a task of its own does the reading. It waits while the slowest reader is more
    than `AHEAD` items behind; a reader that is closed is not waited for, nor is one that is `held_up`, and when all
    are closed the stream is closed as well. What the stream raises is raised by each reader in its place, and what
    it sets in context variables is set there. With `whole`, everything is kept for `value()`. Without `bounded`
    nobody is waited for: where some readers may begin only after others have ended.
    """

    AHEAD = 64

    def __init__(
        self, stream: AsyncIterator[Any], readers: int, whole: bool = False, bounded: bool = True
    ) -> None:
        self.readers = [Branch(self) for _ in range(readers)]
        self._stream = stream
        self._bounded = bounded
        self._wants_value = whole
        self._items: list[Any] = []
        self._set = Settings()
        self._ended = False
        self._error: BaseException | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self._feeder: asyncio.Task[None] | None = None
        self._context = copy_context()
        self._before = self._context.copy()

    async def __aenter__(self) -> Self:
        self._feeder = asyncio.get_running_loop().create_task(contained(self.feed), context=self._context)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the reading, and waits for the stream's cleanup; what that raises behind an error goes into its note."""
        feeder, cancelled = self._feeder, False
        assert feeder is not None
        feeder.cancel()
        while not feeder.done():
            try:
                await asyncio.wait([feeder])
            except CancelledError:
                cancelled = True
        carry(self._context, self._before)
        failure = None if feeder.cancelled() else feeder.exception()
        if isinstance(failure, Escape):
            raise failure.error
        if error is not None and not isinstance(error, CancelledError):
            if failure is not None:
                also_failed(error, last_of(origin_of(failure)), failure)
        elif failure is not None:
            raise failure
        elif cancelled:
            raise CancelledError

    async def feed(self) -> None:
        """Reads the stream to its end, or for as long as somebody wants it."""
        watch = Watch()
        try:
            async for item in self._stream:
                self._tell(watch.news())
                if self._wants_value:
                    self._items.append(item)
                for reader in self.readers:
                    if not reader.closed:
                        reader.items.append(item)
                self._wake()
                while self._is_full():
                    await self._changed()
                if not self._is_wanted():
                    break
            self._tell(watch.news(last=True))
        except Exception as error:
            self._error = error
        finally:
            try:
                await close(self._stream)
            finally:
                self._ended = True
                self._wake()

    def _tell(self, news: Settings | None) -> None:
        if news is not None:
            self._set += news
            for reader in self.readers:
                if not reader.closed:
                    reader.items.append(news)

    async def value(self) -> Any:
        """The whole of the stream, when it has come to its end; for a Tee made with `whole`."""
        while not self._ended:
            await self._changed()
        if self._error is not None:
            raise self._error
        self._set.take_over()
        return value_of(self._stream, list(self._items))

    def _is_full(self) -> bool:
        return self._bounded and any(
            len(r.items) >= self.AHEAD for r in self.readers if not (r.closed or r.held)
        )

    def _is_wanted(self) -> bool:
        return self._wants_value or any(not reader.closed for reader in self.readers)

    async def _changed(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


class Branch:
    """One reader of a Tee: an asynchronous iterator over all of the stream."""

    def __init__(self, tee: Tee) -> None:
        self._tee = tee
        self.loop = asyncio.get_running_loop()
        self.items: deque[Any] = deque()
        self.closed = False
        self.held = 0
        """How many parts of its branch are held up."""

    @property
    def known(self) -> bool:
        return getattr(self._tee._stream, "known", False)

    @property
    def value(self) -> Any:
        return self._tee._stream.value  # type: ignore[attr-defined]

    def __aiter__(self) -> Branch:
        return self

    async def __anext__(self) -> Any:
        tee = self._tee
        while True:
            while not self.items:
                if self.closed:
                    raise StopAsyncIteration
                if tee._ended:
                    if tee._error is not None:
                        raise tee._error
                    raise StopAsyncIteration
                await tee._changed()
            item = self.items.popleft()
            if len(self.items) == tee.AHEAD >> 1:
                tee._wake()
            if type(item) is not Settings:
                return item
            item.take_over()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Around the work of the branch that reads; then the reader is closed."""
        outer = READING.get()
        READING.set((*outer, self))
        try:
            yield
        finally:
            READING.set(outer)
            self._close()

    def hold(self, count: int) -> None:
        self.held += count
        if self.held:
            self._tee._wake()

    async def aclose(self) -> None:
        """The reader is gone: it is not waited for any more."""
        self._close()

    def _close(self) -> None:
        self.closed = True
        self.items.clear()
        self._tee._wake()


@contextmanager
def held_up() -> Iterator[None]:
    """While this code waits for what another branch of the same stream may have: no stream waits for it meanwhile."""
    here = _get_running_loop()
    readers = [reader for reader in READING.get() if reader.loop is here]
    for reader in readers:
        reader.hold(1)
    try:
        yield
    finally:
        for reader in readers:
            reader.hold(-1)
