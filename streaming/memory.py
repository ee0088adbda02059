"""The in-memory queue: one log for each run, written on the run's loop, read by its listener and by others.

`ahead` holds what the listener has not taken, `behind` the last of what it has, `skipped` what a cancel has taken
from it. `bound` limits how far the producer runs ahead; 0 cuts it off, since a cut queue is a full queue.
"""

from __future__ import annotations

import asyncio
import threading
from asyncio.events import _get_running_loop
from collections import deque
from collections.abc import Callable
from functools import partial
from time import sleep, time
from typing import Any, NoReturn

from .blocking import acquire
from .errors import EventsExpired, FlowCallError, QueueError
from .events import Event, Path, RunFinished, TextDelta
from .logs import LogSource, Source
from .pieces import FIELDS, Piece, as_event, flat, newer, seq_of, unflat

__all__ = ["BOUND", "MemoryLog"]

BOUND = 256
"""How many events a producer may run ahead of its listener."""

LATE = 0.0005
"""Seconds that a producer which never suspends goes on at most while somebody waits for what it says.

Then it gives way: the reader may read on, a stop that is on its way arrives, and the loop's other tasks have a turn.
"""

NEVER = float("inf")

_lock = threading.Lock()


class MemoryLog:
    """The events of one run, in order.

    It holds no reference to the run, so that a finished run is freed without the garbage collector. `put`,
    `room` and `close` belong to the run's loop; `take` and the waits to the one listener, on any loop or thread;
    `since` and `wake_at` to any number of other readers, for whom nobody waits.
    """

    __slots__ = (
        "ahead",
        "behind",
        "bound",
        "cut",
        "due",
        "failure",
        "followers",
        "last",
        "listening",
        "loop",
        "reader",
        "room_waiters",
        "seq",
        "skip",
        "skipped",
        "text",
        "waiting",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.ahead: deque[Event | Piece] = deque()
        self.behind: deque[Any] = deque(maxlen=BOUND * FIELDS)
        self.bound = BOUND
        self.seq = 0
        self.last: RunFinished | None = None
        self.cut = False
        self.skip = False
        self.failure: QueueError | None = None
        self.text: list[str] = []
        self.waiting = False
        """Whether anybody is to be woken by the next event."""
        self.listening = False
        """Whether a listener for the answer's text is to be woken by the next piece of it."""
        self.reader: Callable[[None], object] | None = None
        self.followers: deque[Callable[[], object]] | None = None
        self.skipped: deque[Event | Piece] | None = None
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
        full = len(self.ahead) >= self.bound
        if self.waiting or self.listening:
            if self.due == NEVER:
                self.due = now + LATE
            if self.waiting or full or (type(event) is TextDelta and event.output):
                self._wake()
        return full or now > self.due

    def say_text(self, text: str, output: bool, path: Path) -> bool:
        """As `put` of a TextDelta."""
        if self.last is not None:
            return False
        self.seq = seq = self.seq + 1
        now = time()
        self.ahead.append((seq, path, now, text, output))
        full = len(self.ahead) >= self.bound
        if self.waiting or self.listening:
            if self.due == NEVER:
                self.due = now + LATE
            if self.waiting or full or output:
                self._wake()
        return full or now > self.due

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
            if self.bound and len(self.ahead) <= self.bound >> 1:
                self._make_room()  # the listener, in its thread, took them before it could see who waits
            await future

    def accept(self, value: Any) -> None:
        """As `Log.accept`: in memory any value can be kept."""

    def close(self, event: RunFinished, skip: bool) -> None:
        """Queues the run's last event; `skip` moves the listener past what it has not taken yet."""
        if skip:
            self.jump()
        self.put(event, ())
        self.last = event
        if self.followers or self.reader is not None:
            self._wake()

    def _wake(self) -> None:
        # Before anybody is woken: who begins to wait meanwhile sets it again.
        self.waiting = self.listening = False
        wake, self.reader = self.reader, None
        if wake is not None:
            try:
                wake(None)
            except asyncio.InvalidStateError:
                pass  # the listener's task was cancelled and has not run since
        if self.followers:
            for _ in range(len(self.followers)):
                self.followers.popleft()()

    def _make_room(self) -> None:
        waiters, self.room_waiters = self.room_waiters, []
        for future in waiters:
            resolve(future)

    # ------------------------------------------------------------ the listener's side

    def jump(self) -> None:
        """After a cancel the listener goes straight to the run's end; what it skips stays for other readers."""
        if self.skipped is None:
            with _lock:
                if self.skipped is None:
                    self.skipped = deque()
        try:
            while True:
                event = self.ahead.popleft()
                if type(event) is RunFinished:
                    self.ahead.appendleft(event)
                    return
                self.skipped.append(event)
        except IndexError:
            pass

    def take(self) -> Event:
        """The next event.

        Raises:
            IndexError: there is none, or a cancel has just taken it away.
        """
        event = self.ahead.popleft()
        oldest = self.behind[1] if self.behind else None
        self.behind.extend(event if isinstance(event, tuple) else flat(event))
        del oldest  # its end may run code of its own, and there is no place for that within `extend`
        if self.room_waiters:
            self.made_room()
        return as_event(event)

    def made_room(self) -> None:
        """The listener has taken an event for whose place somebody may be waiting."""
        if self.bound and len(self.ahead) <= self.bound >> 1:
            if _get_running_loop() is self.loop:
                self._make_room()
            else:
                call_soon(self.loop, self._make_room)

    def waiter(self, text: bool = False) -> asyncio.Future[None]:
        """To be awaited for the next event, on whatever loop the listener runs; after a cancel call `forget`.

        With `text` only the answer's text counts, the run's end, and that the producer waits for room.
        """
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        if loop is self.loop:
            self._await_with(future.set_result, text)
            if self.due:
                self.due = NEVER  # it runs on the producer's loop, which has given way
        else:
            self._await_with(lambda _: call_soon(loop, partial(resolve, future)), text)
            if self.ahead and self.reader is not None:
                self.reader = None
                future.set_result(None)
        return future

    def forget(self) -> None:
        """The listener does not wait any more."""
        self.reader = None

    def wait_sync(self, text: bool = False) -> None:
        """Waits for the next event in a thread; as `waiter`."""
        lock = threading.Lock()
        lock.acquire()
        self._await_with(lambda _: lock.release(), text)
        if self.ahead and self.reader is not None:
            self.reader = None
            return
        try:
            acquire(lock)
        finally:
            self.reader = None

    def _await_with(self, wake: Callable[[None], object], text: bool) -> None:
        if self.reader is not None:
            raise FlowCallError("somebody else is waiting on this stream; a stream has one listener")
        self.reader = wake
        if text:
            self.listening = True
        else:
            self.waiting = True

    # ------------------------------------------------------------ other readers

    def source(self, after: int) -> Source:
        """As `Log.source`."""
        return LogSource(self, after)

    def said(self) -> str:
        """All output text so far, delivered or not."""
        ahead = map(as_event, tuple(self.ahead))
        return "".join([*self.text, *(e.text for e in ahead if type(e) is TextDelta and e.output)])

    def kept(self) -> list[Event]:
        """All events that are there; from any thread."""
        return [as_event(event) for event in self.queued()]

    def queued(self) -> list[Event | Piece]:
        """As `kept`, and text as it lies in the queue."""
        if not self.behind and not self.skipped:
            found = list(self.ahead)
            if found and seq_of(found[0]) == 1:  # nobody has taken any
                return found
        while True:
            try:
                return self._queued_since(self.behind[0] - 1 if self.behind else 0)
            except EventsExpired:
                pass  # the listener has just moved on

    def since(self, after: int) -> list[Event]:
        """The events after the sequence number `after` that are there; from any thread.

        Raises:
            EventsExpired: the listener is further ahead than what is kept behind it.
        """
        return [as_event(event) for event in self._queued_since(after)]

    def _queued_since(self, after: int) -> list[Event | Piece]:
        while self.seq > after:
            try:
                found = [
                    *newer(unflat(self.behind, after), after),
                    *newer(self.skipped or (), after),
                    *newer(self.ahead, after),
                ]
            except RuntimeError:  # it has changed meanwhile
                continue
            found.sort(key=seq_of)
            if found and seq_of(found[0]) == after + 1 and seq_of(found[-1]) == after + len(found):
                return found
            if self.behind and self.behind[0] > after + 1:
                raise EventsExpired(
                    f"the events after {after} are no longer kept: in memory a stream keeps {BOUND} behind its "
                    "listener; read sooner, begin the run with flow.start(x), or give it a queue on disk"
                )
            sleep(0)  # one is on its way to its place, in another thread
        return []

    def wake_at(self, seq: int, wake: Callable[[], object]) -> None:
        """Calls `wake` as soon as there are events after `seq`; from any thread, and sometimes for nothing."""
        if self.followers is None:
            with _lock:
                if self.followers is None:
                    self.followers = deque()
        self.followers.append(wake)
        self.waiting = True
        if self.seq > seq or self.last is not None:
            wake()


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
