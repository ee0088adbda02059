"""The line before a service: each owner's requests in the order in which they came, and the owners in turns."""

from __future__ import annotations

import sys
from collections import OrderedDict
from typing import TYPE_CHECKING

from .owners import Owner
from .quotas import Budget

if TYPE_CHECKING:
    from .admission import Ticket

__all__ = ["Account", "Holds", "Line"]

FIRST_HOLD = 1.0
"""Seconds for which a permit is taken to be held while none has been given back yet."""

WEIGHT = 1 / 8
"""Of the latest hold in what is usual."""


class Account:
    """What one owner has of a service at this moment.

    `running` of its requests run, `most` of them may; `served` is the number of the latest permit that it got.
    """

    __slots__ = ("budget", "most", "owner", "running", "served", "waiting")

    def __init__(self, owner: Owner, now: float) -> None:
        self.owner = owner
        self.running = 0
        self.served = 0
        self.waiting: OrderedDict[Ticket, None] = OrderedDict()
        self.budget: Budget | None = None
        self.follow(owner, now)

    def follow(self, owner: Owner, now: float) -> None:
        """The owner as it is known from now on: its quota may be another one."""
        quota = owner.quota
        self.owner = owner
        self.most = sys.maxsize if quota.running is None else quota.running
        if self.budget is not None:
            self.budget.follow(quota, now)
        elif quota.requests is not None or quota.tokens is not None:
            self.budget = Budget(quota, now)


class Line:
    """The tickets that wait. Whatever is done here costs by the number of owners who wait, not of tickets."""

    __slots__ = ("_accounts", "length")

    def __init__(self) -> None:
        self._accounts: dict[Account, None] = {}
        self.length = 0

    def add(self, ticket: Ticket) -> None:
        """Puts a ticket behind those of its owner."""
        account = ticket.account
        account.waiting[ticket] = None
        self._accounts[account] = None
        self.length += 1

    def remove(self, ticket: Ticket) -> None:
        """Takes a ticket out, wherever it stands."""
        account = ticket.account
        del account.waiting[ticket]
        self.length -= 1
        if not account.waiting:
            del self._accounts[account]

    def next(self) -> Ticket | None:
        """Whose turn it is: the oldest of the owner who has least running, of those the one served longest ago.

        None where nobody waits but owners who have as much running as they may.
        """
        best: Account | None = None
        for account in self._accounts:
            if account.running < account.most and (best is None or _turn(account) < _turn(best)):
                best = account
        return None if best is None else next(iter(best.waiting))

    def place(self, ticket: Ticket) -> int:
        """About how many are let in up to this one, itself counted, as the owners take turns; 0: it is not in line."""
        own = ticket.account
        if ticket not in own.waiting:
            return 0
        before = list(own.waiting).index(ticket)
        others = (
            min(len(account.waiting), before + (_turn(account) < _turn(own)))
            for account in self._accounts
            if account is not own
        )
        return before + sum(others) + 1

    def last(self, account: Account) -> Ticket | None:
        """Who has to go for one of `account`: the youngest of the owner who has most waiting.

        None where none has at least two more than `account` has.
        """
        longest = max(self._accounts, key=_length, default=None)
        if longest is None or len(longest.waiting) < len(account.waiting) + 2:
            return None
        return next(reversed(longest.waiting))


def _turn(account: Account) -> tuple[int, int]:
    return account.running, account.served


def _length(account: Account) -> tuple[int, int]:
    return len(account.waiting), account.served


class Holds:
    """How long permits are held; the arithmetic alone, with the time given in seconds."""

    __slots__ = ("_began", "_ended", "_usual", "out")

    def __init__(self) -> None:
        self.out = 0
        self._began = 0.0
        self._usual = FIRST_HOLD
        self._ended = False

    def begin(self, now: float) -> None:
        """A permit is given."""
        self.out += 1
        self._began += now

    def end(self, began: float, now: float) -> None:
        """A permit that was given at `began` is given back."""
        self.out -= 1
        self._began = self._began - began if self.out else 0.0
        held = now - began
        self._usual += (held - self._usual) * (WEIGHT if self._ended else 1.0)
        self._ended = True

    def usual(self, now: float) -> float:
        """Seconds, from the latest ones; never less than those that are out have been held so far on average."""
        so_far = now - self._began / self.out if self.out else 0.0
        return max(self._usual, so_far)
