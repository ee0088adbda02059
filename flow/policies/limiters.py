"""Concurrency: how many calls of a step work at once, over all sessions, threads and event loops."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from ...streaming.errors import FlowBuildError
from .lines import Line, Waiter

__all__ = ["Limiter", "Permit"]


class Limiter(Line):
    """At most `most` at once; who has waited longest comes next.

    `step(f, concurrency=8)` makes one for the step. Several steps share one that is given to each of them:
    `step(f, concurrency=limiter)`.

    Raises:
        FlowBuildError: `most` is no whole number of 1 or more.
    """

    def __init__(self, most: int) -> None:
        if not isinstance(most, int) or isinstance(most, bool) or most < 1:
            raise FlowBuildError(
                f"concurrency={most!r}: give how many may work at once, a whole number of 1 or more, or a Limiter"
            )
        self.most = most
        super().__init__()

    def reset(self) -> None:
        super().reset()
        self.working = 0

    @property
    def waiting(self) -> int:
        """How many wait for a slot."""
        return len(self.waiters)

    async def enter(self) -> Permit:
        """Waits for a slot; the permit is to be released."""
        if not self._take(None):
            waiter = Waiter()  # outside of the lock: an allocation may run the garbage collector
            if not self._take(waiter):
                await self.stand(waiter)
        return Permit(self)

    def _take(self, waiter: Waiter | None) -> bool:
        """Takes a slot if one is free; otherwise `waiter` joins the line."""
        with self.lock:
            if self.working < self.most and not self.waiters:
                self.working += 1
                return True
            if waiter is not None:
                self.waiters.append(waiter)
            return False

    def give_back(self) -> None:
        """A slot is free: it goes to the first in the line that can still be reached."""
        while True:
            with self.lock:
                if not self.waiters:
                    self.working -= 1
                    return
                waiter = self.waiters.popleft()
                waiter.served = True
            if waiter.wake():
                return

    def __repr__(self) -> str:
        return f"<Limiter {self.working} of {self.most}, {self.waiting} waiting>"


class Permit:
    """A slot that is taken, until `release` and the end of every function that was abandoned while it was held.

    So many calls really work at once: a plain function that outlives its run or its timeout keeps the slot.
    """

    def __init__(self, limiter: Limiter | None) -> None:
        self.limiter = limiter
        self.released = False
        self._holders = 1

    def keep_until(self, job: Future[Any]) -> None:
        """The slot stays taken until `job` has ended as well, if it is still taken."""
        if self.limiter is None:
            return
        with self.limiter.lock:
            if not self._holders:
                return
            self._holders += 1
        job.add_done_callback(self._let_go)

    def release(self) -> None:
        """Gives the slot back; a second time changes nothing."""
        if not self.released:
            self.released = True
            self._let_go()

    def _let_go(self, job: Future[Any] | None = None) -> None:
        if self.limiter is None:
            return
        with self.limiter.lock:
            self._holders -= 1
            last = not self._holders
        if last:
            self.limiter.give_back()
