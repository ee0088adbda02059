"""What tells that files change: inotify where there is one, looking at them every few milliseconds elsewhere."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import struct
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol

__all__ = ["Changes", "Inotify", "Notifier", "Polling", "What", "look_at"]

What = Literal["grows", "closes"]
"""A file gets more bytes or another mode; somebody who could write it closed it, be it by dying."""


@dataclass(slots=True)
class Changes:
    """Keys of files that have changed, and of those that are gone, whose keys mean nothing any more.

    `unknown`: anything may have changed.
    """

    changed: set[int] = field(default_factory=set)
    gone: set[int] = field(default_factory=set)
    unknown: bool = False


class Notifier(Protocol):
    """`add` and `remove` may be called from any thread, `wait` and `close` by one."""

    def add(self, path: str, what: What) -> int:
        """Watches a file, and returns the key that stands for it. Raises OSError where that cannot be."""

    def remove(self, key: int) -> None: ...

    def wait(self, timeout: float) -> Changes:
        """What has changed since the last call; waits `timeout` seconds at most for the first of it."""

    def wake(self) -> None:
        """Ends a `wait`, from any thread."""

    def close(self) -> None: ...


class Inotify:
    """Linux's own (inotify(7)): the kernel says what changes, also when a process dies and its files are closed."""

    _MASKS: ClassVar[dict[What, int]] = {"grows": 0x006, "closes": 0x008}
    _DONT_FOLLOW, _OVERFLOW, _IGNORED = 0x02000000, 0x4000, 0x8000
    _HEAD = struct.Struct("iIII")

    def __init__(self) -> None:
        """Raises OSError where there is no inotify, or no more of it for this user."""
        if not sys.platform.startswith("linux"):
            raise OSError(errno.ENOSYS, "no inotify")
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._called(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)
        self._poll.register(self._wake, select.POLLIN)

    def add(self, path: str, what: What) -> int:
        mask = self._MASKS[what] | self._DONT_FOLLOW
        return self._called(self._libc.inotify_add_watch(self._descriptor, os.fsencode(path), mask))

    def remove(self, key: int) -> None:
        self._libc.inotify_rm_watch(self._descriptor, key)  # fails, and is not needed, where the file is gone

    def wait(self, timeout: float) -> Changes:
        changes = Changes()
        for descriptor, _ in self._poll.poll(timeout * 1000):
            if descriptor == self._wake:
                os.eventfd_read(self._wake)
            else:
                self._read(changes)
        return changes

    def _read(self, changes: Changes) -> None:
        data = os.read(self._descriptor, 65536)
        at = 0
        while at < len(data):
            key, mask, _, length = self._HEAD.unpack_from(data, at)
            at += self._HEAD.size + length
            if mask & self._OVERFLOW:
                changes.unknown = True
            else:
                (changes.gone if mask & self._IGNORED else changes.changed).add(key)

    def wake(self) -> None:
        os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        os.close(self._descriptor)
        os.close(self._wake)

    @staticmethod
    def _called(result: int) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result


class Polling:
    """Looks at sizes every 1 to 10 ms: often after something has changed, less often while nothing does.

    Closing cannot be seen this way; who waits for that has to look at the lock now and then.
    """

    SHORTEST, LONGEST = 0.001, 0.01
    BUSY = 0.1
    """Seconds after a change for which the pauses stay short."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._looks: dict[int, tuple[str, tuple[int, int] | None]] = {}
        self._last = 0
        self._woken = threading.Event()
        self._pause = self.LONGEST
        self._changed_at = 0.0

    def add(self, path: str, what: What) -> int:
        with self._lock:
            self._last += 1
            if what == "grows":
                self._looks[self._last] = path, look_at(path)
            self._pause = self.SHORTEST
            return self._last

    def remove(self, key: int) -> None:
        with self._lock:
            self._looks.pop(key, None)

    def wait(self, timeout: float) -> Changes:
        deadline = time.monotonic() + timeout
        while not (changed := self._changed()):
            if time.monotonic() >= deadline or self._woken.wait(self._pause):
                self._woken.clear()
                return Changes()
            if time.monotonic() - self._changed_at > self.BUSY:
                self._pause = min(self._pause * 1.2, self.LONGEST)
        self._pause, self._changed_at = self.SHORTEST, time.monotonic()
        return Changes(changed)

    def _changed(self) -> set[int]:
        with self._lock:
            known = list(self._looks.items())
        looks = [(key, path, before, look_at(path)) for key, (path, before) in known]
        changed = {key: (path, now) for key, path, before, now in looks if now != before}
        with self._lock:
            self._looks.update((key, look) for key, look in changed.items() if key in self._looks)
        return set(changed)

    def wake(self) -> None:
        self._woken.set()

    def close(self) -> None: ...


def look_at(path: str) -> tuple[int, int] | None:
    """A file's size and mode; None when it is gone."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_size, found.st_mode
