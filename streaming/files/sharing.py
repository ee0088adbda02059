"""What all stores of a process on one directory share: the lock on it, and the runs that are being written."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from weakref import WeakValueDictionary

from ..forks import after_fork
from .folders import Folder
from .locks import WriterLock
from .mailboxes import read_mail
from .names import mail_name
from .peers import Peers
from .segments import Segment
from .sweeping import Known
from .watchers import Notify, Watcher
from .writers import SegmentWriter

__all__ = ["SharedFolder"]

logger = logging.getLogger("millrace.streaming")

Call = Callable[[], None]

LINGER = 1.0
"""Seconds that the lock is kept when no run is open, so that one run after the other needs only one."""

_guard = threading.Lock()
_shared: WeakValueDictionary[tuple[str, Notify], SharedFolder] = WeakValueDictionary()


class SharedFolder:
    """A directory of runs as this process sees it."""

    def __init__(self, root: str, notify: Notify, make: bool) -> None:
        self.folder = Folder(root, make)
        self._notify: Notify = notify
        self._reset()

    def _reset(self) -> None:
        self.peers = Peers(self.folder, self._notify)
        self._lock = threading.RLock()
        self._held: WriterLock | None = None
        self._writers: WeakValueDictionary[str, SegmentWriter] = WeakValueDictionary()
        self._open = 0
        self._idle_since = 0.0
        self._mail_read = 0
        self._unclaimed: dict[str, str] = {}
        self._ends: tuple[Call, ...] = ()
        self.dropped: deque[SegmentWriter] = deque()
        self.live_bytes = 0
        self.known: Known = {}
        self._sweep: Callable[[], object] | None = None
        self._sweep_every = 0.0
        self._sweep_due = 0.0
        self._sweeping = threading.Lock()

    @classmethod
    def at(cls, root: str, notify: Notify, make: bool = True) -> SharedFolder:
        """The process's one for a directory; links on the way to it are followed here, and never later."""
        real = os.path.realpath(root)
        with _guard:
            shared = _shared.get((real, notify))
            if shared is None or not shared.folder.is_there():
                shared = _shared[real, notify] = cls(real, notify, make)
            return shared

    @property
    def watcher(self) -> Watcher:
        return Watcher.of(self._notify)

    def enter(self) -> str:
        """One more run is open; returns the name of the lock that says whether its writer lives.

        Raises:
            QueueError: the file system has no locks.
            OSError: nothing can be made in the directory.
        """
        with self._lock:
            if self._held is None:
                held = WriterLock.take(self.folder)
                self._mail_read = 0
                self._ends = (
                    self.watcher.watch(self.folder.path(mail_name(held.name)), "grows", self._take_mail),
                    self.watcher.every_tick(self._tick),
                )
                self._held, self.peers.own = held, held.name
            self._open += 1
            return self._held.name

    def enlist(self, writer: SegmentWriter) -> None:
        """What is sent to the writer's run reaches it from now on, and what was sent since its file was there."""
        with self._lock:
            self._writers[writer.run_id] = writer
            reason = self._unclaimed.pop(writer.run_id, None)
            if len(self._writers) == self._open:
                self._unclaimed.clear()
        if reason is not None:
            writer.cancel(reason)

    def leave(self, run_id: str) -> None:
        """One run less is open."""
        with self._lock:
            self._writers.pop(run_id, None)
            self._open -= 1
            self._idle_since = time.monotonic()
        if _exiting:
            self.rest(0.0)

    def _take_mail(self) -> None:
        with self._lock:
            if self._held is None:
                return
            mail, self._mail_read = read_mail(self.folder, self._held.name, self._mail_read)
            told = [(self._writers.get(run_id), reason) for run_id, reason in mail]
            if len(self._writers) < self._open:  # some are only just being made
                self._unclaimed.update(mail)
        for writer, reason in told:
            if writer is not None:
                try:
                    writer.cancel(reason)
                except Exception:
                    logger.exception("cancelling run %r failed", writer.run_id)

    def keep_swept(self, sweep: Callable[[], object], every: float) -> None:
        """Calls `sweep` in a thread of its own, now and every so many seconds, as long as runs are written."""
        self._sweep, self._sweep_every = sweep, every
        if time.monotonic() >= self._sweep_due:
            self.sweep_soon(sweep)

    def sweep_soon(self, sweep: Callable[[], object]) -> None:
        """Calls `sweep` in a thread of its own, unless one is at it."""
        if self._sweeping.acquire(blocking=False):
            self._sweep_due = time.monotonic() + self._sweep_every
            threading.Thread(
                target=self._swept, args=(sweep,), name="millrace-files-sweep", daemon=True
            ).start()

    def _swept(self, sweep: Callable[[], object]) -> None:
        try:
            sweep()
        except FileNotFoundError:
            pass  # somebody has removed the whole directory
        except Exception:
            logger.exception("sweeping %s failed", self.folder.root)
        finally:
            self._sweeping.release()

    def _tick(self) -> None:
        if self._sweep is not None and time.monotonic() >= self._sweep_due:
            self.sweep_soon(self._sweep)
        self.rest()

    def rest(self, after: float = LINGER) -> None:
        """Abandons dropped runs, and lets go of the lock when no run has been open for `after` seconds."""
        while self.dropped:
            self.dropped.popleft().abandon()
        with self._lock:
            if self._held is None or self._open or time.monotonic() - self._idle_since < after:
                return
            held, self._held, self.peers.own = self._held, None, None
            ends, self._ends = self._ends, ()
            self._sweep = None
            held.drop()
        for end in ends:
            end()

    def follow(self, segment: Segment, call: Call) -> Call:
        """Calls `call` when the segment grows and when its writer dies; what is returned ends that."""
        ends = (
            self.watcher.watch(segment.path, "grows", call),
            self.peers.follow(segment.lock, call),
        )

        def end() -> None:
            for each in ends:
                each()

        return end

    def disown(self) -> None:
        """In a forked child: the lock and the runs stay the parent's; the child makes its own when it writes."""
        for writer in list(self._writers.values()):
            writer.disown()
        if self._held is not None:
            self._held.disown()
        self._reset()


_exiting = False


def _exit() -> None:
    """At the end of the process locks are removed; where runs are still open, when the last of them is closed."""
    global _exiting
    _exiting = True
    for shared in list(_shared.values()):
        shared.rest(0.0)


def _forget() -> None:
    global _guard
    _guard = threading.Lock()
    for shared in list(_shared.values()):
        shared.disown()


atexit.register(_exit)
after_fork(_forget)
