"""Turns: how many requests are with a server at once, and who waits for a place."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque

from ...streaming.errors import Overloaded
from ...streaming.limits import Limits

__all__ = ["Turn", "Turns"]

LONGEST_RETRY = 30.0
"""Seconds that a refused caller is asked to wait at most."""


class Turns:
    """Lets `limits.running` requests go, first come first served, and `limits.waiting` more wait; from any loop."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._lock = threading.Lock()
        self._line: deque[Turn] = deque()
        self._running = 0
        self._usual_hold = 0.0

    @property
    def running(self) -> int:
        return self._running

    @property
    def waiting(self) -> int:
        return len(self._line)

    def enter(self) -> Turn:
        """A place, to be given back by `leave()`.

        Raises:
            Overloaded: as many go and wait as may; nothing was done.
        """
        with self._lock:
            turn = Turn(self)
            if self._running < self.limits.running:
                self._grant(turn)
            elif len(self._line) < self.limits.waiting:
                self._line.append(turn)
            else:
                raise Overloaded(
                    f"{self._running} requests are with the server and {len(self._line)} wait, as many as "
                    f"Limits(running={self.limits.running}, waiting={self.limits.waiting}) let in; try again later",
                    self.retry_after,
                )
        return turn

    @property
    def retry_after(self) -> float:
        """Seconds in which a place may be expected, from how long places have been held lately."""
        rounds = (len(self._line) + 1) / self.limits.running
        return round(min(max(1.0, self._usual_hold * rounds), LONGEST_RETRY), 1)

    def _grant(self, turn: Turn) -> None:
        self._running += 1
        turn.granted = time.monotonic()

    def give_back(self, turn: Turn) -> None:
        """Frees a place, and gives it to whoever has waited longest."""
        with self._lock:
            if turn.left:
                return
            turn.left = True
            if turn.granted is None:
                self._line.remove(turn)
                return
            held = time.monotonic() - turn.granted
            self._usual_hold += (held - self._usual_hold) / 8 if self._usual_hold else held
            self._running -= 1
            while self._line and self._running < self.limits.running:
                following = self._line.popleft()
                if following.wake():
                    self._grant(following)
                else:
                    following.left = True

    def wait_for(self, turn: Turn, waiter: asyncio.Future[None]) -> bool:
        """Has the waiter told when it is its turn; false when it is already."""
        with self._lock:
            if turn.granted is not None:
                return False
            turn.waiter = waiter
            return True


class Turn:
    """One request's place among those that go or wait."""

    def __init__(self, turns: Turns) -> None:
        self.granted: float | None = None
        self.left = False
        self.waiter: asyncio.Future[None] | None = None
        self._turns = turns

    async def wait(self) -> None:
        """Waits for the place.

        Raises:
            Overloaded: there was none within `limits.queue_timeout` seconds.
        """
        waiter = asyncio.get_running_loop().create_future()
        if not self._turns.wait_for(self, waiter):
            return
        seconds = self._turns.limits.queue_timeout
        try:
            async with asyncio.timeout(seconds):
                await waiter
        except TimeoutError:
            raise Overloaded(
                f"no turn came within {seconds:g} s, which is Limits(queue_timeout); try again later",
                self._turns.retry_after,
            ) from None

    def wake(self) -> bool:
        """Tells whoever waits; false when its event loop is closed, and whoever waited is gone."""
        waiter = self.waiter
        if waiter is not None:
            try:
                waiter.get_loop().call_soon_threadsafe(_set, waiter)
            except RuntimeError:
                return False
        return True

    def leave(self) -> None:
        """Gives the place back; a second time does nothing."""
        self._turns.give_back(self)


def _set(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
