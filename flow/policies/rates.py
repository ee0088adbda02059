"""Rate: how many calls of a step begin in a time, by a token bucket."""

from __future__ import annotations

import math
import time
from functools import partial

from ...streaming.errors import FlowBuildError
from ...streaming.memory import call_soon
from ...streaming.units import pace_of
from .lines import Line, Waiter

__all__ = ["Bucket", "Rate"]


class Bucket:
    """Tokens that come back at an even pace, up to `size`; the arithmetic alone, with the time given in seconds."""

    __slots__ = ("_at", "_tokens", "pace", "size")

    def __init__(self, pace: float, size: float, now: float) -> None:
        self.pace = pace
        self.size = size
        self._tokens = size
        self._at = now

    def take(self, now: float) -> bool:
        """Takes a token, if there is one."""
        self._fill(now)
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def give_back(self, now: float) -> None:
        self._fill(now)
        self._tokens = min(self.size, self._tokens + 1.0)

    def spend(self, tokens: float, now: float) -> None:
        """Takes so many, whether they are there or not; what was not there is owed."""
        self._fill(now)
        self._tokens -= tokens

    def wait(self, now: float, tokens: float = 1.0) -> float:
        """Seconds until there are so many; of 0, until nothing is owed."""
        self._fill(now)
        return max(0.0, (tokens - self._tokens) / self.pace)

    def _fill(self, now: float) -> None:
        if now > self._at:
            self._tokens = min(self.size, self._tokens + (now - self._at) * self.pace)
            self._at = now


class Rate(Line):
    """At most `count` calls begin in `per` seconds, on average; who has waited longest comes next.

    A token bucket: up to `burst` begin at once after a rest, by default `count`; then one each `per / count`
    seconds. `burst=1` spaces all of them evenly. `step(f, rate="10/s")` makes one for the step: the number before
    the slash is `count`; after it stands s, m, h or d, or a time such as `30s`. A number alone is per second.
    Several steps share a Rate that is given to each of them.

    Raises:
        FlowBuildError: a setting that cannot be; it says which.
    """

    def __init__(self, count: float, per: float = 1.0, *, burst: int | None = None) -> None:
        for name, value in (("count", count), ("per", per)):
            if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < math.inf:
                raise FlowBuildError(f"Rate({name}={value!r}): give a number above 0")
        if burst is not None and (not isinstance(burst, int) or isinstance(burst, bool) or burst < 1):
            raise FlowBuildError(f"Rate(burst={burst!r}): give a whole number of 1 or more")
        self.count = count
        self.per = per
        self.burst = burst if burst is not None else max(1, int(count))
        super().__init__()

    @classmethod
    def of(cls, given: float | str | Rate) -> Rate:
        """What `step(f, rate=...)` takes."""
        if isinstance(given, Rate):
            return given
        if isinstance(given, (int, float)) and not isinstance(given, bool) and 0 < given < math.inf:
            return cls(given)
        if isinstance(given, str):
            try:
                return cls(*pace_of(given))
            except (ValueError, FlowBuildError):
                pass
        raise FlowBuildError(
            f"rate={given!r}: give calls per second, such as 10 or 0.5, or text such as '10/s', '60/m', '5/30s', "
            "or a Rate"
        )

    def reset(self) -> None:
        super().reset()
        self._bucket = Bucket(self.count / self.per, self.burst, time.monotonic())
        self._timed: Waiter | None = None

    async def take(self) -> None:
        """Waits for a token and takes it; a cancel gives it back."""
        if self._take(None):
            return
        waiter = Waiter()
        if not self._take(waiter):
            self.move_up()
            await self.stand(waiter)

    def _take(self, waiter: Waiter | None) -> bool:
        """Takes a token if there is one; otherwise `waiter` joins the line."""
        with self.lock:
            if not self.waiters and self._bucket.take(time.monotonic()):
                return True
            if waiter is not None:
                self.waiters.append(waiter)
            return False

    def give_back(self) -> None:
        with self.lock:
            self._bucket.give_back(time.monotonic())
        self.move_up()

    def move_up(self) -> None:
        """Serves those at the head of the line for whom there are tokens; a timer is set for the next one."""
        while (waiter := self._head()) is not None:
            if waiter.served:
                if not waiter.wake():
                    self.give_back()
            elif call_soon(waiter.loop, partial(self._set_timer, waiter)):
                return

    def _head(self) -> Waiter | None:
        """The first in the line, served if there is a token for it; None: nothing is to be done."""
        with self.lock:
            while self.waiters and self.waiters[0].loop.is_closed():
                self.waiters.popleft()
            if not self.waiters:
                return None
            waiter = self.waiters[0]
            if self._bucket.take(time.monotonic()):
                self.waiters.popleft()
                waiter.served = True
            elif self._timed is waiter:
                return None
            else:
                self._timed = waiter
            return waiter

    def _set_timer(self, waiter: Waiter) -> None:
        """On the waiter's own loop, which lives for as long as it waits."""
        with self.lock:
            seconds = self._bucket.wait(time.monotonic())
        waiter.loop.call_later(seconds, self._due, waiter)

    def _due(self, waiter: Waiter) -> None:
        with self.lock:
            if self._timed is waiter:
                self._timed = None
        self.move_up()

    def __repr__(self) -> str:
        return f"<Rate {self.count:g} in {self.per:g} s, {len(self.waiters)} waiting>"
