"""Flights: of many simultaneous calls with one key, one works and the others wait for what it gives."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable
from concurrent.futures import Future
from copy import copy
from typing import TYPE_CHECKING, Any, Literal

from ...streaming.runs import Run
from ..threads import HOLDS
from .lines import Line, Waiter

if TYPE_CHECKING:
    from .caches import Entry

__all__ = ["Flight", "Flights", "WaitingFor"]

PATIENCE = 0.5
"""Seconds after which a waiting call looks whether the leader can go on at all."""


class Flights(Line):
    """The calls of one cache that are at work, by key."""

    def reset(self) -> None:
        super().reset()
        self.open: dict[Hashable, Flight] = {}

    def join(self, key: Hashable, run: Run) -> tuple[Flight, bool]:
        """The flight of a key, and whether the caller leads it: then it has to land, fail or leave it."""
        made = Flight(self, key, run)
        with self.lock:
            flight = self.open.setdefault(key, made)
        return flight, flight is made


class Passenger(Waiter):
    """A call that waits. `leads`: the flight has been handed over to it."""

    __slots__ = ("leads", "run")

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run
        self.leads = False


class Flight:
    """One call at work, and those who wait for it, each on its own loop.

    Its outcome is an entry or an error. A leader that is cancelled hands it over to whoever has waited longest.
    """

    def __init__(self, flights: Flights, key: Hashable, leader: Run) -> None:
        self.key = key
        self.entry: Entry | None = None
        self.error: Exception | None = None
        self.pieces = 0
        """How many pieces the leader has given."""
        self.resting = False
        """Whether the leader waits for whoever takes its pieces."""
        self.waits: list[object] = []
        """What the leader waits for: other flights, and limiters."""
        self._flights = flights
        self._leader: Run | None = leader
        self._waiters: deque[Passenger] = deque()

    def keep_until(self, job: Future[Any]) -> None:
        """An abandoned function keeps nobody waiting: its value is dropped."""

    # ------------------------------------------------------------ the leader's side

    def land(self, entry: Entry) -> None:
        """The work is done."""
        self.entry = entry
        self._end()

    def fail(self, error: Exception) -> None:
        """The work has failed; whoever waits fails as well, and whoever comes later tries again."""
        self.error = twin_of(error)  # before the leader's run writes its note on it
        self._end()

    def leave(self) -> None:
        """The leader was stopped: the next one begins anew."""
        while True:
            with self._flights.lock:
                if not self._waiters:
                    self._leader = None
                    self._close()
                    return
                waiter = self._waiters.popleft()
                waiter.served = waiter.leads = True
                self._leader = waiter.run
                self.pieces, self.resting = 0, False
            if waiter.wake():
                return

    def _end(self) -> None:
        with self._flights.lock:
            self._close()
            waiters, self._waiters = self._waiters, deque()
            for waiter in waiters:
                waiter.served = True
        for waiter in waiters:
            waiter.wake()

    def _close(self) -> None:
        if self._flights.open.get(self.key) is self:
            del self._flights.open[self.key]

    # ------------------------------------------------------------ the others' side

    async def wait(self, run: Run) -> Literal["over", "leads", "beside"]:
        """Waits until the flight is over, or until the caller has to work itself: as its leader, or beside it.

        Beside it, where waiting might be for ever: the leader waits for a listener that does not read on, or for
        something that the caller holds, such as a slot.
        """
        if self in HOLDS.get():
            return "beside"
        waiter, pieces = Passenger(run), -1
        with self._flights.lock:
            if self.entry is not None or self.error is not None:
                return "over"
            if self._leader is None:
                self._leader = run
                return "leads"
            self._waiters.append(waiter)
        try:
            with WaitingFor(self):
                while not waiter.future.done():
                    await asyncio.wait([waiter.future], timeout=PATIENCE)
                    if self._is_held_up(pieces) and self._withdraw(waiter):
                        return "beside"
                    pieces = self.pieces
        except BaseException:
            if not self._withdraw(waiter) and waiter.leads:
                self.leave()
            raise
        return "leads" if waiter.leads else "over"

    def result(self) -> Entry:
        """The outcome, as a copy for one caller."""
        if self.error is not None:
            raise twin_of(self.error)
        assert self.entry is not None
        return self.entry.copy()

    def _withdraw(self, waiter: Passenger) -> bool:
        """Leaves the line; false where it is too late."""
        with self._flights.lock:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            return not waiter.served

    def _is_held_up(self, pieces: int) -> bool:
        """Whether the leader cannot go on by itself; `pieces` is how many it had given a while ago."""
        leader = self._leader
        if leader is None:
            return False
        if leader.over or leader.has_lost_its_loop():
            return True
        ahead, bound = getattr(leader.log, "ahead", ()), getattr(leader.log, "bound", 0)
        if (self.resting and self.pieces == pieces) or 0 < bound <= len(ahead):
            return True
        mine = [
            getattr(hold, "limiter", hold) for hold in HOLDS.get() if not getattr(hold, "released", False)
        ]
        return _leads_to(self, mine, set())


def _leads_to(flight: Flight, mine: list[object], seen: set[int]) -> bool:
    """Whether a flight waits for one of `mine`, or for a flight that does."""
    seen.add(id(flight))
    for thing in list(flight.waits):
        if any(thing is own for own in mine):
            return True
        if isinstance(thing, Flight) and id(thing) not in seen and _leads_to(thing, mine, seen):
            return True
    return False


class WaitingFor:
    """Around a wait: the flights on whose behalf it is can be seen to wait for `thing`."""

    __slots__ = ("_flights", "_thing")

    def __init__(self, thing: object) -> None:
        self._thing = thing
        self._flights = [hold for hold in HOLDS.get() if isinstance(hold, Flight)]

    def __enter__(self) -> None:
        for flight in self._flights:
            flight.waits.append(self._thing)

    def __exit__(self, *_: object) -> None:
        for flight in self._flights:
            flight.waits.remove(self._thing)


def twin_of(error: Exception) -> Exception:
    """An error like this one, for another run; the error itself where it cannot be copied."""
    try:
        twin = copy(error)
    except Exception:
        return error
    if type(twin) is not type(error) or twin is error:
        return error
    for name in [name for name in vars(twin) if name.startswith("_millrace_")]:
        del vars(twin)[name]
    if "__notes__" in vars(twin):
        vars(twin)["__notes__"] = list(vars(twin)["__notes__"])
    twin.__cause__, twin.__suppress_context__ = error.__cause__, error.__suppress_context__
    return twin.with_traceback(error.__traceback__)
