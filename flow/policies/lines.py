"""Lines: tasks that wait for their turn, in the order in which they came, each on an event loop of its own."""

from __future__ import annotations

import asyncio
import threading
import weakref
from asyncio.events import _get_running_loop
from collections import deque
from functools import partial

from ...streaming.forks import after_fork
from ...streaming.memory import call_soon, resolve
from ..tees import held_up

__all__ = ["Line", "Waiter"]

_lines: weakref.WeakSet[Line] = weakref.WeakSet()


class Waiter:
    """One task that waits. `served`: it has been given what it waits for, whether it knows already or not."""

    __slots__ = ("future", "loop", "served")

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self.loop.create_future()
        self.served = False

    def wake(self) -> bool:
        """Lets it go on, from any thread; false when its loop is closed: it was not served after all."""
        if _get_running_loop() is self.loop:
            resolve(self.future)
        elif not call_soon(self.loop, partial(resolve, self.future)):
            self.served = False
        return self.served


class Line:
    """What limiters share: a lock, which is never held across a wait, and the line of those who wait.

    The lock can be taken again by its holder: the garbage collector may close a waiting task of a lost loop inside
    of any allocation. In a forked child nobody waits: tasks and loops are the parent's.
    """

    def __init__(self) -> None:
        after_fork(_reset_lines)
        _lines.add(self)
        self.reset()

    def reset(self) -> None:
        """Empty, as at the start."""
        self.lock = threading.RLock()
        self.waiters: deque[Waiter] = deque()

    async def stand(self, waiter: Waiter) -> None:
        """Waits until the waiter, which is in the line, is served; a cancel leaves the line or gives back."""
        try:
            with held_up():  # the slot may be that of a branch which reads the same stream
                await waiter.future
        except BaseException:
            with self.lock:
                served = waiter.served
                if not served and waiter in self.waiters:
                    self.waiters.remove(waiter)
            if served:
                self.give_back()
            else:
                self.move_up()
            raise

    def give_back(self) -> None:
        """What a waiter was given is free again: it was cancelled before it could use it."""
        raise NotImplementedError

    def move_up(self) -> None:
        """Somebody has left the line."""


def _reset_lines() -> None:
    for line in list(_lines):
        line.reset()
