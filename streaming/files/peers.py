"""Which writers live: asked often, by every reader that finds nothing new, and told when one dies."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

from .folders import Folder
from .locks import is_held
from .watchers import Notify, Watcher

__all__ = ["Peers"]

Call = Callable[[], None]

FRESH = 0.1
"""Seconds for which a writer that was seen alive is taken to live."""

MOST_KNOWN = 1024

TRIES, TRY_PAUSE = 10, 0.001
"""A dying process closes its files one after the other: its lock may be free a moment after the first word of it."""


class Peers:
    """The writers of a directory, by the names of their locks; `own` is this process's, which needs no look."""

    def __init__(self, folder: Folder, notify: Notify) -> None:
        self.own: str | None = None
        self._folder = folder
        self._notify: Notify = notify
        self._lock = threading.RLock()
        self._known: dict[str, tuple[bool, float]] = {}
        self._followers: dict[str, dict[object, Call]] = {}
        self._ends: dict[str, tuple[Call, Call]] = {}

    def lives(self, lock: str) -> bool:
        """Whether the writer with this lock lives, or did 0.1 s ago. The dead stay so: no lock's name comes again."""
        if lock == self.own:
            return True
        alive, until = self._known.get(lock, (True, 0.0))
        if alive and time.monotonic() >= until:
            return self._look(lock)
        return alive

    def follow(self, lock: str, call: Call) -> Call:
        """Calls `call` when the writer dies; what is returned ends that."""
        ticket = object()
        with self._lock:
            followers = self._followers.setdefault(lock, {})
            followers[ticket] = call
            if lock not in self._ends:
                watcher, path = Watcher.of(self._notify), self._folder.path(lock)
                self._ends[lock] = (
                    watcher.watch(path, "closes", partial(self._suspect, lock)),
                    watcher.every_tick(partial(self._check, lock)),
                )
        return partial(self._unfollow, lock, ticket)

    def _unfollow(self, lock: str, ticket: object) -> None:
        ends: tuple[Call, ...] = ()
        with self._lock:
            followers = self._followers.get(lock, {})
            if followers.pop(ticket, None) is not None and not followers:
                del self._followers[lock]
                ends = self._ends.pop(lock)
        for end in ends:
            end()

    def _look(self, lock: str) -> bool:
        alive = is_held(self._folder, lock)
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known[lock] = alive, time.monotonic() + FRESH
        return alive

    def _suspect(self, lock: str) -> None:
        """The lock's file was closed, which its holder does at its end."""
        for _ in range(TRIES):
            if lock == self.own or not self._look(lock):
                break
            time.sleep(TRY_PAUSE)
        self._check(lock)

    def _check(self, lock: str) -> None:
        if not self.lives(lock):
            with self._lock:
                calls = list(self._followers.get(lock, {}).values())
            for call in calls:
                call()
