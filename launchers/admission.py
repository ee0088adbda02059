"""Admission: how many requests run at once, how many wait, and who is refused.

A ticket is drawn without waiting, so that a refusal costs nothing; then it waits in line for its permit, which is
held until the last byte of the answer has been sent.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from types import TracebackType
from typing import Self

from ..streaming.errors import Overloaded
from ..streaming.limits import Limits
from .owners import ANYBODY, Owner
from .tallies import Tally

__all__ = ["Admission", "Ticket"]

LONGEST_RETRY = 30.0
"""Seconds that a refused caller is asked to wait at most."""


class Admission:
    """Lets `limits.running` requests run, first come first served, and `limits.waiting` more wait.

    It belongs to one event loop. `tally` counts what became of those who asked.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.tally = Tally()
        self.running = 0
        self._line: deque[Ticket] = deque()
        self._usual_hold = 0.0

    @property
    def waiting(self) -> int:
        """How many requests wait for a permit."""
        return len(self._line)

    @property
    def full(self) -> bool:
        """Whether the next request would be refused."""
        return self.running >= self.limits.running and len(self._line) >= self.limits.waiting

    def check(self, owner: Owner = ANYBODY) -> None:
        """Refuses where there is no place left, before anybody has done any work.

        Raises:
            Overloaded: as many run and wait as may.
        """
        if self.full:
            limits = self.limits
            raise Overloaded(
                f"the server is at its limit ({limits.running} running, {limits.waiting} waiting); "
                "try again later",
                self.retry_after,
            )

    def enter(self, owner: Owner = ANYBODY) -> Ticket:
        """A place in line, to be given back by `leave()` or by leaving its `with` block.

        Raises:
            Overloaded: as many run and wait as may.
        """
        self.check()
        ticket = Ticket(self)
        if self.running < self.limits.running:
            ticket.admit()
        else:
            self._line.append(ticket)
        return ticket

    @asynccontextmanager
    async def permit(self) -> AsyncIterator[None]:
        """Holds a permit for the block.

        Raises:
            Overloaded: at once, as many run and wait as may; or there was none within `limits.queue_timeout` s.
        """
        with self.enter() as ticket:
            await ticket.wait()
            yield

    @property
    def retry_after(self) -> float:
        """Seconds in which a place may be expected, from how long permits have been held lately."""
        rounds = (len(self._line) + 1) / self.limits.running
        return min(max(1.0, self._usual_hold * rounds), LONGEST_RETRY)

    def _give_back(self, ticket: Ticket) -> None:
        if not ticket.admitted:
            if ticket in self._line:
                self._line.remove(ticket)
            return
        held = monotonic() - ticket.since
        self._usual_hold += (held - self._usual_hold) / 8 if self._usual_hold else held
        self.running -= 1
        if self._line:
            self._line.popleft().admit()


class Ticket:
    """One request's place: in line, or with its permit."""

    __slots__ = ("_admission", "_left", "_turn", "admitted", "since")

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._turn: asyncio.Future[None] | None = None
        self._left = False
        self.admitted = False
        self.since = 0.0

    def admit(self) -> None:
        """Gives it the permit; called by Admission."""
        self._admission.running += 1
        self.admitted = True
        self.since = monotonic()
        self._wake()

    @property
    def place(self) -> int:
        """How many are let in up to this one, itself counted; 0 once it is no longer in line."""
        line = self._admission._line
        return line.index(self) + 1 if self in line else 0

    async def wait(self) -> bool:
        """Waits for the permit; false when the ticket was given back meanwhile, by somebody else.

        Raises:
            Overloaded: there was none within `limits.queue_timeout` seconds.
        """
        if not self.admitted and not self._left:
            seconds = self._admission.limits.queue_timeout
            self._turn = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(seconds):
                    await self._turn
            except TimeoutError:
                self.leave()
                raise Overloaded(
                    f"no place became free within {seconds:g} s; try again later",
                    self._admission.retry_after,
                    waited=seconds,
                ) from None
        return self.admitted and not self._left

    def leave(self) -> None:
        """Gives the permit or the place in line back; a second time does nothing."""
        if not self._left:
            self._left = True
            self._admission._give_back(self)
            self._wake()

    def _wake(self) -> None:
        if self._turn is not None and not self._turn.done():
            self._turn.set_result(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()
