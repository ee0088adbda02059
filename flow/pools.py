"""The pool of threads in which plain functions work."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from ..streaming.blocking import in_pool

__all__ = ["Pool"]


class Pool:
    """Daemon threads, as many as are needed up to `most`; idle ones are used first and end after a while.

    Functions that wait for a run, and those that nobody waits for any more, do not count. Others may wait for each
    other without our knowing, such as at a barrier: while all threads are taken and none comes free, one more is
    added every `PATIENCE` seconds.

    Unlike the standard library's executor it is not waited for at interpreter exit: a function that blocks for
    ever would keep the process alive.
    """

    IDLE = 30.0
    """Seconds after which an idle thread ends."""

    PATIENCE = 0.25
    """Seconds that work waits for a thread, before there is one more than there should be."""

    def __init__(self, most: int = 128) -> None:
        self.most = most
        self._lock = threading.Lock()
        self._work: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._threads = 0
        self._idle: list[threading.Lock] = []
        """One for each idle thread, which waits for its release; the last one gets the next work."""
        self._waiting = 0
        self._taken = 0
        self._watched = False

    def submit(self, function: Callable[[], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        with self._lock:
            self._work.append((future, function))
            try:
                self._see_to_it()
            except BaseException:  # no thread, or no stack left
                self._work.pop()
                raise
        return future

    def leave_alone(self, job: Future[Any]) -> None:
        """Nobody waits for the function any more: its thread does not count."""
        self._wait_begins()
        job.add_done_callback(lambda _: self._wait_ends())

    def _see_to_it(self) -> None:
        if self._idle:
            self._idle[-1].release()
            del self._idle[-1]
        elif self._threads - self._waiting < self.most:
            self._add()
        elif not self._watched:
            threading.Thread(target=self._watch, name="millrace-step-watch", daemon=True).start()
            self._watched = True

    def _add(self) -> None:
        try:
            threading.Thread(target=self._serve, name="millrace-step", daemon=True).start()
        except RuntimeError as error:  # the system gives no more; those that are there go on
            if not self._threads or isinstance(error, RecursionError):
                raise
        else:
            self._threads += 1

    def _wait_begins(self) -> None:
        """One of our threads waits for a run: it does not count, or as many waiters as threads would stop all."""
        with self._lock:
            self._waiting += 1
            if self._work:
                self._see_to_it()

    def _wait_ends(self) -> None:
        with self._lock:
            self._waiting -= 1

    def _watch(self) -> None:
        """Adds threads for as long as there is work that none of them takes."""
        while True:
            taken = self._taken
            time.sleep(self.PATIENCE)
            with self._lock:
                if not self._work:
                    self._watched = False
                    return
                if self._taken == taken:
                    self._add()

    def _serve(self) -> None:
        in_pool(self._wait_begins, self._wait_ends)
        while (job := self._next()) is not None:
            future, function = job
            if future.set_running_or_notify_cancel():
                try:
                    result = function()
                except BaseException as error:
                    future.set_exception(error)
                else:
                    future.set_result(result)
                    del result
            del job, future, function

    def _next(self) -> tuple[Future[Any], Callable[[], Any]] | None:
        while True:
            with self._lock:
                if self._work:
                    self._taken += 1
                    return self._work.popleft()
                called = threading.Lock()
                called.acquire()
                self._idle.append(called)
            if not called.acquire(timeout=self.IDLE):
                with self._lock:
                    if called in self._idle:
                        self._idle.remove(called)
                        self._threads -= 1
                        return None
