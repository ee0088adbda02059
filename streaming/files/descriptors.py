"""Which files are open: so many at most, that thousands of runs fit into a process's limit on descriptors."""

from __future__ import annotations

import errno
import os
import resource
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from weakref import ref

from ..forks import after_fork

__all__ = ["OpenFile", "most_open"]

LEAST, MOST = 8, 512
CLOSED = -1


def most_open() -> int:
    """How many files are kept open: a quarter of what the process may have, 8 to 512."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MOST if soft == resource.RLIM_INFINITY else min(MOST, max(LEAST, soft // 4))


class OpenFile:
    """A file that is open when it is used, and may be closed between two uses.

    `open` gives a descriptor, anew after each closing; `descriptor` is one that is open already. Whoever uses
    `descriptor` holds `lock` meanwhile, sets `used`, and calls `reopen` where it is CLOSED.
    """

    __slots__ = ("__weakref__", "_open", "held", "lock", "used")

    def __init__(self, open: Callable[[], int], descriptor: int = CLOSED) -> None:
        self._open = open
        self.lock = threading.Lock()
        self.used = True
        self.held: list[int] = []  # one descriptor or none: whoever pops it closes it, and nobody else
        if descriptor != CLOSED:
            self.held.append(descriptor)
            with self.lock:
                _pool.enter(self)

    @property
    def descriptor(self) -> int:
        return self.held[0] if self.held else CLOSED

    def reopen(self) -> int:
        """Opens the file; the caller holds the lock."""
        descriptor = with_room(self._open)
        self.held.append(descriptor)
        _pool.enter(self)
        return descriptor

    @contextmanager
    def using(self) -> Iterator[int]:
        """The descriptor, for the time of a block."""
        with self.lock:
            self.used = True
            yield self.descriptor if self.descriptor != CLOSED else self.reopen()

    def close(self) -> None:
        with self.lock:
            self.shut()

    def shut(self) -> None:
        """Closes the descriptor, if it is open; the caller holds the lock, or nobody else uses the file."""
        try:
            descriptor = self.held.pop()
        except IndexError:
            return
        os.close(descriptor)

    def __del__(self) -> None:  # the pool may just be looking at it, in another thread
        self.shut()


def with_room(open: Callable[[], int]) -> int:
    """Calls `open`; where the process has no descriptor left, once more after closing some."""
    try:
        return open()
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
    _pool.shrink()
    return open()


class _Pool:
    """The files that are open, longest open first; one that was used since it was last looked at may stay.

    It holds them weakly. An entry may be of a file that was closed meanwhile, and is then passed over.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ring: deque[ref[OpenFile]] = deque()

    def enter(self, file: OpenFile) -> None:
        with self._lock:
            self._ring.append(ref(file))
            self._close_down_to(most_open())

    def shrink(self) -> None:
        with self._lock:
            self._close_down_to(len(self._ring) // 2)

    def _close_down_to(self, most: int) -> None:
        turns = 2 * len(self._ring)
        while len(self._ring) > most and turns:
            turns -= 1
            entry = self._ring.popleft()
            file = entry()
            if file is None or not file.lock.acquire(blocking=False):
                if file is not None:
                    self._ring.append(entry)
                continue
            try:
                if file.used and file.descriptor != CLOSED:
                    file.used = False
                    self._ring.append(entry)
                else:
                    file.shut()
            finally:
                file.lock.release()


_pool = _Pool()


def _forget() -> None:
    """In a forked child: its copies of the descriptors are its own, but locks may be held by threads that are gone."""
    global _pool
    _pool = _Pool()


after_fork(_forget)
