"""The in-memory queue: one log for each run, written on the run's loop, read by its listener.

`ahead` holds what the listener has not taken, `behind` the last of what it has. `bound` limits how far the
producer runs ahead; 0 cuts it off, since a cut queue is a full queue.
"""

from __future__ import annotations

import asyncio
import threading
from asyncio.events import _get_running_loop
from collections import deque
from collections.abc import Callable
from functools import partial
from time import time
from typing import NoReturn

from .blocking import acquire
from .errors import FlowCallError
from .events import Event, Path, RunFinished

__all__ = ["BOUND", "MemoryLog"]

BOUND = 256
"""How many events a producer may run ahead of its listener."""

LATE = 0.0005
"""Seconds that a woken reader waits at most for a producer that never suspends."""

NEVER = float("inf")


class MemoryLog:
    """The events of one run, in order.

    It holds no reference to the run, so that a finished run is freed without the garbage collector. `put`,
    `room` and `close` belong to the run's loop; `take` and the waits to the one listener, on any loop or thread.
    """

    __slots__ = (
        "ahead",
        "behind",
        "bound",
        "cut",
        "due",
        "failure",
        "last",
        "loop",
        "reader",
        "room_waiters",
        "seq",
        "skip",
        "text",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.ahead: deque[Event] = deque()
        self.behind: deque[Event] = deque(maxlen=BOUND)
        self.bound = BOUND
        self.seq = 0
        self.last: RunFinished | None = None
        self.cut = False
        self.skip = False
        self.failure: None = None
        self.text: list[str] = []
        self.reader: Callable[[None], object] | None = None
        self.room_waiters: list[asyncio.Future[None]] = []
        self.due = 0.0

    # ------------------------------------------------------------ the producer's side

    def put(self, event: Event, path: Path) -> bool:
        """Queues an event and never blocks; when true, `await room()` before the next one.

        What comes after the run's end is dropped: a function that nobody could stop may still speak.
        """
        if self.last is not None:
            return False
        self.seq = event.seq = self.seq + 1
        event.path = path
        event.time = now = time()
        self.ahead.append(event)
        if self.reader is not None:
            self._wake()
            if self.due:
                self.due = now + LATE
        return now > self.due or len(self.ahead) >= self.bound

    async def room(self) -> None:
        """Waits until the listener has made room, or lets a reader run that has waited too long.

        Raises:
            CancelledError: the run was cut, and this task has heard of it before; somebody swallowed it.
        """
        if len(self.ahead) < self.bound:
            self.due = NEVER
            await asyncio.sleep(0)
            return
        while len(self.ahead) >= self.bound:
            if self.cut:
                await pending_cancel()
            future = self.loop.create_future()
            self.room_waiters.append(future)
            await future

    def close(self, event: RunFinished, skip: bool) -> None:
        """Queues the run's last event; `skip` moves the listener past what it has not taken yet."""
        if skip:
            self.behind.extend(self.ahead)
            self.ahead.clear()
        self.put(event, ())
        self.last = event

    def _wake(self) -> None:
        wake, self.reader = self.reader, None
        if wake is not None:
            try:
                wake(None)
            except asyncio.InvalidStateError:
                pass  # the listener's task was cancelled and has not run since

    def _make_room(self) -> None:
        waiters, self.room_waiters = self.room_waiters, []
        for future in waiters:
            resolve(future)

    # ------------------------------------------------------------ the listener's side

    def jump(self) -> None:
        """After a cancel the listener goes straight to the run's end."""
        try:
            while type(self.ahead[0]) is not RunFinished:
                self.behind.append(self.ahead.popleft())
        except IndexError:
            pass

    def take(self) -> Event:
        """The next event.

        Raises:
            IndexError: there is none, or a cancel has just taken it away.
        """
        event = self.ahead.popleft()
        self.behind.append(event)
        if self.room_waiters:
            self._taken()
        return event

    def _taken(self) -> None:
        if self.bound and len(self.ahead) <= self.bound >> 1:
            if _get_running_loop() is self.loop:
                self._make_room()
            else:
                call_soon(self.loop, self._make_room)

    def waiter(self) -> asyncio.Future[None]:
        """To be awaited for the next event, on whatever loop the listener runs; after a cancel call `forget`."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        if loop is self.loop:
            self._await_with(future.set_result)
        else:
            self._await_with(lambda _: call_soon(loop, partial(resolve, future)))
            if self.ahead and self.reader is not None:
                self.reader = None
                future.set_result(None)
        return future

    def forget(self) -> None:
        """The listener does not wait any more."""
        self.reader = None

    def wait_sync(self) -> None:
        """Waits for the next event in a thread."""
        lock = threading.Lock()
        lock.acquire()
        self._await_with(lambda _: lock.release())
        if self.ahead and self.reader is not None:
            self.reader = None
            return
        try:
            acquire(lock)
        finally:
            self.reader = None

    def _await_with(self, wake: Callable[[None], object]) -> None:
        if self.reader is not None:
            raise FlowCallError("somebody else is waiting on this stream; a stream has one listener")
        self.reader = wake
        if self.due:
            self.due = NEVER


CANCEL_GRACE = 1.0
"""Seconds that a step of a stopped run waits for its own task's cancel; a task of the user's never gets one."""


async def pending_cancel() -> NoReturn:
    """Takes the cancel that is on its way to this task, so that it does not hit the cleanup later.

    Raises:
        CancelledError: always; where the cancel has been swallowed, or does not come, one of our own.
    """
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    if task is not None and not task.cancelling():
        coming = loop.create_future()
        timer = loop.call_later(CANCEL_GRACE, resolve, coming)
        try:
            await coming
        finally:
            timer.cancel()
    await asyncio.sleep(0)
    raise asyncio.CancelledError


def resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def call_soon(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> bool:
    """From any thread; false when the loop is closed, and then there is nobody to tell."""
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:
        return False
    return True
