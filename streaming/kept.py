"""The log of a detached run: it keeps everything for readers that come later, up to a bound in bytes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from time import time
from typing import Any, Self

from .blocking import blocking
from .errors import EventsExpired, QueueFull
from .events import Event, Path, RunFinished, TextDelta
from .memory import call_soon, pending_cancel, resolve

__all__ = ["KEPT_BYTES", "EventReader", "KeptLog"]

KEPT_BYTES = 16 * 1024 * 1024
"""How much a detached run may say before it fails with QueueFull."""


class KeptLog:
    """The events of a detached run, all of them. Written on the run's loop, read from anywhere, by anybody."""

    def __init__(self, most: int = KEPT_BYTES) -> None:
        self.events: list[Event] = []
        self.last: RunFinished | None = None
        self.text: list[str] = []
        self.bound = 1
        self.cut = self.skip = False
        self.failure: QueueFull | None = None
        self._most = most
        self._size = 0
        self._lock = threading.Lock()
        self._waiting: list[Callable[[], object]] = []

    def put(self, event: Event, path: Path) -> bool:
        """As `MemoryLog.put`; nobody has to be waited for until the run is cut, or has said too much."""
        if self.last is not None:
            return False
        size = 0 if isinstance(event, RunFinished) else _size_of(event)
        if self._size + size > self._most:
            self.failure = QueueFull(
                f"a detached run has said more than {self._most} bytes; read it as a stream instead"
            )
            return True
        self._size += size
        event.seq, event.path, event.time = len(self.events) + 1, path, time()
        if type(event) is TextDelta and event.output:
            self.text.append(event.text)
        with self._lock:
            self.events.append(event)
            waiting, self._waiting = self._waiting, []
        for wake in waiting:
            wake()
        return not self.bound

    async def room(self) -> None:
        """Lets other tasks run.

        Raises:
            QueueFull: the run has said more than is kept.
            CancelledError: the run was cut, and goes on all the same.
        """
        if self.failure is not None:
            raise self.failure
        if self.cut:
            await pending_cancel()
        await asyncio.sleep(0)

    def close(self, event: RunFinished, skip: bool) -> None:
        """Queues the run's last event; what was said before stays."""
        self.put(event, ())
        self.last = event

    def wake_at(self, seq: int, wake: Callable[[], object]) -> None:
        """Calls `wake` once, as soon as there are events after `seq`; from any thread."""
        with self._lock:
            if len(self.events) <= seq:
                self._waiting.append(wake)
                return
        wake()


class EventReader:
    """The events of a run after a sequence number, for `for` or `async for`; one of any number of readers.

    It ends behind RunFinished. Leaving it disturbs nobody.
    """

    def __init__(self, log: KeptLog, after: int = 0) -> None:
        if after < 0 or after > len(log.events):
            raise EventsExpired(f"after={after}: this run has said {len(log.events)} events so far")
        self._log = log
        self._seq = after

    def _next(self) -> Event | None:
        if self._seq < len(self._log.events):
            self._seq += 1
            return self._log.events[self._seq - 1]
        return None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        while (event := self._next()) is None:
            if self._over():
                raise StopIteration
            there = threading.Event()
            self._log.wake_at(self._seq, there.set)
            with blocking():
                there.wait()
        return event

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while (event := self._next()) is None:
            if self._over():
                raise StopAsyncIteration
            loop = asyncio.get_running_loop()
            future: asyncio.Future[None] = loop.create_future()
            self._log.wake_at(self._seq, partial(call_soon, loop, partial(resolve, future)))
            await future
        return event

    def _over(self) -> bool:
        events = self._log.events
        return self._seq == len(events) and bool(events) and type(events[-1]) is RunFinished


def _size_of(event: Event) -> int:
    """Bytes that an event takes, roughly; long payloads as their text."""
    size = 100
    for value in event.payload().values():
        size += len(value) if isinstance(value, (str, bytes)) else _depth_size(value)
    return size


def _depth_size(value: Any) -> int:
    if isinstance(value, (int, float, bool, type(None))):
        return 50
    try:
        return len(repr(value))
    except Exception:  # a value's own fault must not stop what is said about it
        return 50
