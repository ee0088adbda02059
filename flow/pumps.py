"""Synchronous generators, and synchronous steps with a live parameter: each drive owns one daemon thread for life.

A shared pool would deadlock as soon as all its threads wait for each other's items.
"""

from __future__ import annotations

import logging
import threading
from asyncio import Future as AsyncFuture
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from contextvars import copy_context
from typing import Any, Self

from ..streaming.currents import JOINED
from ..streaming.errors import RunCancelled, RunTimeout
from ..streaming.memory import call_soon, resolve
from ..streaming.runs import VOICE, Run
from .contexts import Settings, Watch
from .threads import Joined, abandon, stop_iteration

__all__ = ["Pump", "returning"]

logger = logging.getLogger("millrace.flow")


class Pump:
    """Drives a generator in a thread of its own and hands its items to the run's loop, in batches.

    The thread looks at the run before each item, so that a stopped run's generator makes at most the item it is
    at; then it closes the generator itself, in the same thread. It runs at most `AHEAD` items ahead. With
    `live`, `x` is an asynchronous stream and the generator receives an iterator that asks the loop for each item.
    What is set in context variables goes along with the items, in both directions.
    """

    AHEAD = 64

    def __init__(
        self, call: Callable[[Any], Generator[Any, Any, Any]], x: Any, run: Run, live: bool = False
    ) -> None:
        assert run.loop is not None
        self.run = run
        self.loop = run.loop
        self.context = copy_context()
        self._joined = Joined(run)
        self._seen = Watch()
        self._news: Settings | None = None
        self.returned: Any = None
        self.upstream: Any = x if live else None
        self._call = call
        self._x = _Upstream(self) if live else x
        self._asked: Future[Any] | None = None
        self._buffer: deque[Any] = deque()
        self._room = threading.Semaphore(0)
        self._waiter: AsyncFuture[None] | None = None
        self._waking = False
        self._blocked = False
        self._cut_off = False
        self._closed = False
        self._error: BaseException | None = None
        self._job: Future[None] | None = None

    # ------------------------------------------------------------ in its thread

    def _produce(self, job: Future[None]) -> None:
        try:
            self._drive()
        except StopAsyncIteration as error:
            self._error = stop_iteration(getattr(self._call, "__name__", "generator"), error)
        except BaseException as error:
            self._error = error
            if self._closed and not isinstance(error, (RunCancelled, RunTimeout)):
                logger.warning("the cleanup of a generator failed that was stopped", exc_info=error)
        job.set_result(None)
        self._wake()

    def _drive(self) -> None:
        VOICE.set((threading.get_ident(), self._hand_over))
        JOINED.set(self._joined)
        self._told = Watch()
        generator, buffer = self._call(self._x), self._buffer
        try:
            while not self.stopped():
                try:
                    item = next(generator)
                except StopIteration as stop:
                    self.returned = stop.value
                    self._tell(last=True)
                    return
                self._tell()
                self._hand_over(item)
                while len(buffer) >= self.AHEAD and not self.stopped():
                    self._blocked = True
                    if len(buffer) >= self.AHEAD:
                        self._room.acquire()
            self._cut_off = True
        finally:
            generator.close()

    def _tell(self, last: bool = False) -> None:
        news = self._told.news(last)
        if news is not None:
            self._buffer.append(news)

    def _hand_over(self, item: Any) -> None:
        self._buffer.append(item)
        if self._waiter is not None and not self._waking:
            self._wake()

    def stopped(self) -> bool:
        return self._closed or self.run.cut is not None

    def ask(self) -> Any:
        """The upstream's next item; raises StopAsyncIteration at its end."""
        asked = self._asked = Future()
        self._wake()
        if self.stopped():
            self._refuse()
        try:
            return asked.result()
        finally:
            news, self._news = self._news, None
            if news is not None:
                news.take_over()
                self._told.learn(news)

    def _wake(self) -> None:
        self._waking = True
        call_soon(self.loop, self._woken)

    # ------------------------------------------------------------ on the loop

    def _woken(self) -> None:
        self._waking = False
        if self._waiter is not None:
            resolve(self._waiter)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        buffer = self._buffer
        while True:
            while not buffer:
                if self._asked is not None:
                    await self._answer()
                elif self._job is not None and self._job.done() and not buffer:
                    if self._cut_off and self.run.cut is not None:
                        await self.run.park()  # what has come is no value: nobody shall go on with it
                    self._finish()
                else:
                    await self._rest()
            item = buffer.popleft()
            if self._blocked and len(buffer) <= self.AHEAD >> 1:
                self._blocked = False
                self._room.release()
            if type(item) is not Settings:
                return item
            item.take_over()
            self._seen.learn(item)

    async def _rest(self) -> None:
        """Waits until the thread has an item, asks for one, or is done."""
        self._waiter = self.loop.create_future()
        if self._job is None:
            self._start()
        try:
            if not (self._buffer or self._asked is not None or (self._job is not None and self._job.done())):
                await self._waiter
        finally:
            self._waiter = None

    async def _answer(self) -> None:
        asked, self._asked = self._asked, None
        assert asked is not None
        try:
            item = await anext(self.upstream)
        except StopAsyncIteration as end:
            self._news = self._seen.news(last=True)
            asked.set_exception(end)
        except Exception as error:
            asked.set_exception(error)
        except BaseException:
            asked.set_exception(self.run._stop_error())
            raise
        else:
            self._news = self._seen.news()
            asked.set_result(item)

    def _start(self) -> None:
        job: Future[None] = Future()
        self._job = job
        threading.Thread(
            target=self.context.run, args=(self._produce, job), name="millrace-generator", daemon=True
        ).start()

    def _finish(self) -> None:
        if self._error is not None:
            raise self._error
        raise StopAsyncIteration

    def _refuse(self) -> None:
        asked, self._asked = self._asked, None
        if asked is not None and not asked.done():
            asked.set_exception(self.run._stop_error())

    async def aclose(self) -> None:
        """Tells the thread to close the generator; it is not waited for, since nobody knows how long it takes."""
        self._closed = True
        self._joined.end()
        self._refuse()
        self._room.release()
        if self._job is not None and not self._job.done():
            abandon(self._job)


class _Upstream(Iterator[Any]):
    """What a synchronous step with a parameter `Iterator[T]` receives."""

    def __init__(self, pump: Pump) -> None:
        self._pump = pump

    def __next__(self) -> Any:
        self._pump.run.raise_if_cut()
        try:
            return self._pump.ask()
        except StopAsyncIteration:
            raise StopIteration from None


def returning(call: Callable[[Any], Any], x: Any) -> Generator[Any, Any, Any]:
    """A plain function as a generator that yields nothing and returns the function's value."""
    yield from ()
    return call(x)
