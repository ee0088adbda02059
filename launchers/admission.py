"""Admission: how many requests run at once, how many wait, whose turn it is, and who is refused.

A ticket is drawn without waiting, so that a refusal costs nothing; then it waits in line for its permit, which is
held until the last byte of the answer has been sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from types import TracebackType
from typing import Self

from ..streaming.errors import Overloaded
from ..streaming.limits import Limits
from .lines import Account, Holds, Line
from .owners import ANYBODY, Owner
from .quotas import QuotaExceeded
from .tallies import Tally

__all__ = ["Admission", "Ticket"]

SOONEST_RETRY = 1.0
LONGEST_RETRY = 30.0
"""Seconds that a caller who was refused for want of a place is asked to wait at most."""


class Admission:
    """Lets `limits.running` requests run, and `limits.waiting` more wait; those of different owners take turns.

    A permit goes to the owner who has least running, of those to the one served longest ago, and there to the
    request that came first. Where the line is full, the owner who has most in it makes room for one who has at
    least two fewer: its youngest is sent away. No owner has more than its quota.

    It belongs to one event loop. `tally` counts what became of those who asked.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.tally = Tally()
        self._line = Line()
        self._holds = Holds()
        self._accounts: dict[str | None, Account] = {}
        self._served = 0
        """How many permits have been given: the number of the latest one."""

    @property
    def running(self) -> int:
        """How many requests have a permit."""
        return self._holds.out

    @property
    def waiting(self) -> int:
        """How many requests wait for a permit."""
        return self._line.length

    @property
    def full(self) -> bool:
        """Whether as many run and wait as may; even then an owner who has less than others finds a place."""
        return self._holds.out >= self.limits.running and self._line.length >= self.limits.waiting

    def check(self, owner: Owner = ANYBODY) -> None:
        """Refuses where there is no place left for this owner, before anybody has done any work.

        Raises:
            QuotaExceeded: the owner has used up what it may have in a time.
            Overloaded: as many run and wait as may.
        """
        self._check(self._account(owner))

    def enter(self, owner: Owner = ANYBODY) -> Ticket:
        """A place in line, to be given back by `leave()` or by leaving its `with` block.

        Raises:
            QuotaExceeded: the owner has used up what it may have in a time.
            Overloaded: as many run and wait as may.
        """
        account = self._account(owner)
        displaced = self._check(account)
        now = monotonic()
        ticket = Ticket(self, account, now)
        if account.budget is not None:
            account.budget.take(now)
        if self._has_permit_for(account):
            self._admit(ticket, now)
        else:
            if displaced is not None:
                self._send_away(displaced)
            self._line.add(ticket)
        return ticket

    @asynccontextmanager
    async def permit(self, owner: Owner = ANYBODY) -> AsyncIterator[None]:
        """Holds a permit for the block.

        Raises:
            Overloaded: at once, as many run and wait as may; or it had to leave the line, see `Ticket.wait`.
        """
        with self.enter(owner) as ticket:
            await ticket.wait()
            yield

    def spent(self, owner: Owner, tokens: int) -> None:
        """A run of this owner has ended that read and produced so many tokens."""
        budget = (self._accounts.get(owner.name) or self._account(owner)).budget
        if budget is not None:
            budget.spend(tokens, monotonic())

    @property
    def retry_after(self) -> float:
        """Seconds in which a place may be expected, from how long permits are held."""
        return self._retry_after(None)

    def _retry_after(self, account: Account | None) -> float:
        rounds = (self._line.length + 1) / self.limits.running
        if account is not None:
            rounds = max(rounds, (len(account.waiting) + 1) / account.most)
        return min(max(SOONEST_RETRY, self._holds.usual(monotonic()) * rounds), LONGEST_RETRY)

    # ------------------------------------------------------------ who may come in

    def _account(self, owner: Owner) -> Account:
        account = self._accounts.get(owner.name)
        if account is None:
            account = self._accounts[owner.name] = Account(owner, monotonic())
        elif account.owner is not owner:
            now = monotonic()
            account.follow(owner, now)
            self._move_up(now)
        return account

    def _check(self, account: Account) -> Ticket | None:
        """Who has to go for the next request of an owner, if anybody.

        Raises:
            Overloaded: there is no place for it.
        """
        if account.budget is not None:
            self._check_budget(account)
        if self._line.length < self.limits.waiting or self._has_permit_for(account):
            return None
        displaced = self._line.last(account)
        if displaced is None:
            limits = self.limits
            raise Overloaded(
                f"the server is at its limit ({limits.running} running, {limits.waiting} waiting); "
                "try again later",
                self._retry_after(account),
            )
        return displaced

    def _has_permit_for(self, account: Account) -> bool:
        """Whether a request of an owner need not wait: whoever may have a free permit has it already."""
        return self._holds.out < self.limits.running and account.running < account.most

    def _check_budget(self, account: Account) -> None:
        assert account.budget is not None
        lacks = account.budget.lacks(monotonic())
        if lacks is not None:
            what, seconds = lacks
            rate = getattr(account.budget.quota, what)
            raise QuotaExceeded(
                f"your quota of {rate} {what} is used up; try again in {max(1, round(seconds))} s", seconds
            )

    # ------------------------------------------------------------ coming, waiting, going

    def _admit(self, ticket: Ticket, now: float) -> None:
        account = ticket.account
        account.running += 1
        account.served = self._served = self._served + 1
        ticket.admitted = True
        ticket.since = now
        self._holds.begin(now)

    def _move_up(self, now: float) -> None:
        """Gives the permits that are free to those whose turn it is."""
        while self._line.length and self._holds.out < self.limits.running:
            ticket = self._line.next()
            if ticket is None:
                break
            self._line.remove(ticket)
            self._admit(ticket, now)
            ticket.wake()

    def _send_away(self, ticket: Ticket, waited: float = 0.0) -> None:
        """Takes a ticket out of the line: for another owner, or because it `waited` for too long."""
        self._line.remove(ticket)
        budget = ticket.account.budget
        if budget is not None:
            budget.give_back(monotonic())
        why = (
            f"no place became free within {self.limits.queue_timeout:g} s"
            if waited
            else "the place in line was needed for somebody who has fewer"
        )
        ticket.refuse(Overloaded(f"{why}; try again later", self._retry_after(ticket.account), waited))

    def _give_back(self, ticket: Ticket) -> None:
        if ticket.admitted:
            now = monotonic()
            ticket.account.running -= 1
            self._holds.end(ticket.since, now)
            if self._line.length:
                self._move_up(now)
        else:
            self._line.remove(ticket)


class Ticket:
    """One request's place: in line, or with its permit. `since` is when it got the place, and then the permit."""

    __slots__ = ("_admission", "_left", "_refusal", "_turn", "account", "admitted", "since")

    def __init__(self, admission: Admission, account: Account, now: float) -> None:
        self.account = account
        self.admitted = False
        self.since = now
        self._admission = admission
        self._turn: asyncio.Future[None] | None = None
        self._left = False
        self._refusal: Overloaded | None = None

    @property
    def place(self) -> int:
        """How many are let in up to this one, itself counted; 0 once it is no longer in line."""
        return self._admission._line.place(self)

    async def wait(self) -> bool:
        """Waits for the permit; false when the ticket was given back meanwhile, by somebody else.

        Raises:
            Overloaded: there was none within `limits.queue_timeout` seconds; or, with `waited` 0, the place was
                needed for an owner who has fewer.
        """
        if not self.admitted and not self._left:
            self._turn = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(self._admission.limits.queue_timeout):
                    await self._turn
            except TimeoutError:
                if not self.admitted and not self._left:
                    self._admission._send_away(self, monotonic() - self.since)
        if self._refusal is not None:
            raise self._refusal
        return self.admitted and not self._left

    def leave(self) -> None:
        """Gives the permit or the place in line back; a second time does nothing."""
        if not self._left:
            self._left = True
            self._admission._give_back(self)
            self.wake()

    def refuse(self, refusal: Overloaded) -> None:
        """It has lost its place; called by Admission."""
        self._left = True
        self._refusal = refusal
        self.wake()

    def wake(self) -> None:
        """Lets go on who waits for the permit."""
        if self._turn is not None and not self._turn.done():
            self._turn.set_result(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()
