"""One thread in each process waits for files to change and tells those who asked; it lives as long as anybody does."""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Literal

from ..forks import after_fork
from .notifiers import Changes, Inotify, Notifier, Polling, What, look_at

__all__ = ["TICK", "Notify", "Watcher"]

logger = logging.getLogger("millrace.streaming")

Call = Callable[[], None]
Notify = Literal["auto", "poll"]

TICK = 0.25
"""Seconds between two looks at what nobody tells: whether writers live, whether this thread is still needed."""

RECHECK = 4
"""After so many ticks sizes are looked at too: file systems that other machines write in do not tell of it."""

PAUSE = 0.0003
"""Seconds between two looks, so that a busy writer does not keep this thread busy too."""

_watchers: dict[Notify, Watcher] = {}


class Watcher:
    """Tells of changes in files, by its own thread: callbacks have to be short, and what they raise is logged.

    The thread is started with the first watch, and ends soon after nothing is watched any more.
    """

    def __init__(self, notify: Notify) -> None:
        self._notify = notify
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._notifier: Notifier | None = None
        self._paths: dict[str, _Watched] = {}
        self._keys: dict[int, _Watched] = {}
        self._tickers: list[Call] = []
        self._soon: list[Call] = []
        self._ended = False

    @classmethod
    def of(cls, notify: Notify) -> Watcher:
        """The process's watcher: `auto` has inotify tell it where it can, `poll` looks by itself."""
        watcher = _watchers.get(notify)
        return watcher if watcher is not None else _watchers.setdefault(notify, cls(notify))

    def watch(self, path: str, what: What, call: Call) -> Call:
        """Calls `call` whenever the file changes; what is returned ends that."""
        with self._lock:
            watched = self._paths.get(path)
            if watched is None:
                watched = self._paths[path] = _Watched(path, what)
                self._add(watched, self._started())
            watched.calls = (*watched.calls, call)
            self._started()
        return partial(self._unwatch, watched, call)

    def every_tick(self, call: Call) -> Call:
        """Calls `call` every TICK seconds; what is returned ends that."""
        with self._lock:
            self._tickers = [*self._tickers, call]
            self._started()
        return partial(self._untick, call)

    def soon(self, call: Call) -> None:
        """Calls `call` once, at once."""
        with self._lock:
            self._soon.append(call)
            self._started().wake()

    def stop(self) -> None:
        """Ends the thread, whatever is watched; for the end of the process."""
        with self._lock:
            thread, notifier, self._ended = self._thread, self._notifier, True
            if notifier is not None:
                notifier.wake()
        if thread is not None:
            thread.join(1.0)

    def disown(self) -> None:
        """In a forked child the thread is gone, and the lock may be held by one; the copied descriptors are closed."""
        self._lock = threading.RLock()
        if self._notifier is not None:
            self._notifier.close()

    # ------------------------------------------------------------ what is watched

    def _unwatch(self, watched: _Watched, call: Call) -> None:
        with self._lock:
            watched.calls = tuple(other for other in watched.calls if other is not call)

    def _untick(self, call: Call) -> None:
        with self._lock:
            self._tickers = [other for other in self._tickers if other is not call]

    def _started(self) -> Notifier:
        if self._notifier is None:
            try:
                self._notifier = Polling() if self._notify == "poll" else Inotify()
            except OSError as error:
                logger.info("files are looked at every few milliseconds: %s", error)
                self._notifier = Polling()
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._serve, args=(self._notifier,), name="millrace-files", daemon=True
            )
            self._thread.start()
        return self._notifier

    def _add(self, watched: _Watched, notifier: Notifier) -> None:
        try:
            watched.key = notifier.add(watched.path, watched.what)
        except FileNotFoundError:
            self._soon.append(watched.tell)  # who asked shall see that
            notifier.wake()
            return
        except OSError as error:
            if isinstance(notifier, Polling):
                raise
            logger.warning("files are looked at every few milliseconds from now on: %s", error.strerror)
            self._notifier = Polling()
            notifier.wake()
            self._keys.clear()
            for other in self._paths.values():
                self._add(other, self._notifier)
            return
        self._keys[watched.key] = watched

    def _forget(self, watched: _Watched) -> None:
        self._keys.pop(watched.key, None)
        if self._paths.get(watched.path) is watched:
            del self._paths[watched.path]

    # ------------------------------------------------------------ the thread

    def _serve(self, notifier: Notifier) -> None:
        due, ticks = time.monotonic() + TICK, 0
        waited_on: Notifier | None = notifier
        while waited_on is not None:
            changes = waited_on.wait(max(0.0, due - time.monotonic()))
            calls = self._calls_of(changes)
            if time.monotonic() >= due:
                due, ticks = time.monotonic() + TICK, ticks + 1
                calls += self._ticked(ticks % RECHECK == 0)
            for call in calls:
                try:
                    call()
                except Exception:
                    logger.exception("a callback of a watched run failed")
            waited_on = self._next(waited_on)
            if calls or changes.changed:
                time.sleep(PAUSE)

    def _calls_of(self, changes: Changes) -> list[Call]:
        with self._lock:
            calls, self._soon = self._soon, []
            told = [self._keys[key] for key in changes.changed | changes.gone if key in self._keys]
            for key in changes.gone:
                if key in self._keys:
                    self._forget(self._keys[key])
            for watched in list(self._paths.values()) if changes.unknown else told:
                calls += watched.calls
        return calls

    def _ticked(self, recheck: bool) -> list[Call]:
        with self._lock:
            for watched in list(self._paths.values()):
                if not watched.calls:
                    self._forget(watched)
                    if self._notifier is not None:
                        self._notifier.remove(watched.key)
            calls = list(self._tickers)
            paths = list(self._paths.values()) if recheck else ()
        for watched in paths:
            if watched.what == "grows" and watched.has_changed():
                calls += watched.calls
        return calls

    def _next(self, notifier: Notifier) -> Notifier | None:
        """Who to wait on from now on; None when the thread has nothing left to do."""
        with self._lock:
            new = self._notifier
            if self._ended or not (self._paths or self._tickers or self._soon):
                self._notifier = self._thread = None
                new = None
        if new is not notifier:
            notifier.close()
        return new


class _Watched:
    """A file, and whom to call."""

    __slots__ = ("calls", "key", "look", "path", "what")

    def __init__(self, path: str, what: What) -> None:
        self.path = path
        self.what = what
        self.key = -1
        self.look = look_at(path)
        self.calls: tuple[Call, ...] = ()

    def tell(self) -> None:
        for call in self.calls:
            call()

    def has_changed(self) -> bool:
        before, self.look = self.look, look_at(self.path)
        return before != self.look


def _stop() -> None:
    for watcher in _watchers.values():
        watcher.stop()


def _forget() -> None:
    for watcher in _watchers.values():
        watcher.disown()
    _watchers.clear()


atexit.register(_stop)
after_fork(_forget)
