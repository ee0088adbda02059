"""Quotas: how much of a service one owner may have, and what is left of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..flow.policies.rates import Bucket
from ..streaming.errors import Overloaded
from ..streaming.units import pace_of

__all__ = ["Budget", "Quota", "QuotaExceeded"]


@dataclass(frozen=True, slots=True)
class Quota:
    """How much of a service one owner may have; None: as much as there is.

    Args:
        running: how many of its requests run at once. More of them wait, also while there are places.
        requests: how many requests it may send in a time, such as `"100/min"`.
        tokens: how many tokens its runs may read and produce in a time, such as `"1m/day"`. They are charged when a
            run ends, so the last run may owe some; until that is paid off there is no next one.

    Both rates are buckets that fill at an even pace: after a rest, all that a time allows may be had at once.

    Raises:
        ValueError: `running` is below 1, or a rate is none.
    """

    running: int | None = None
    requests: str | None = None
    tokens: str | None = None

    def __post_init__(self) -> None:
        if self.running is not None and self.running < 1:
            raise ValueError(f"Quota(running={self.running}): at least one request must be able to run")
        for name, rate in (("requests", self.requests), ("tokens", self.tokens)):
            if rate is not None:
                try:
                    pace_of(rate)
                except ValueError as error:
                    raise ValueError(f"Quota({name}={rate!r}): {error}") from None


class QuotaExceeded(Overloaded):
    """An owner has used up what its quota gives it in a time; others are served."""


class Budget:
    """What an owner has left of its quota's rates; the arithmetic alone, with the time given in seconds."""

    __slots__ = ("_requests", "_tokens", "quota")

    def __init__(self, quota: Quota, now: float) -> None:
        self.quota = quota
        self._requests = _bucket(quota.requests, now)
        self._tokens = _bucket(quota.tokens, now)

    def follow(self, quota: Quota, now: float) -> None:
        """The quota has changed: a rate that is another one begins anew, a rate that stays goes on."""
        if quota.requests != self.quota.requests:
            self._requests = _bucket(quota.requests, now)
        if quota.tokens != self.quota.tokens:
            self._tokens = _bucket(quota.tokens, now)
        self.quota = quota

    def lacks(self, now: float) -> tuple[Literal["requests", "tokens"], float] | None:
        """What is used up, and for how many seconds more; None where a request may come."""
        requests = 0.0 if self._requests is None else self._requests.wait(now)
        tokens = 0.0 if self._tokens is None else self._tokens.wait(now, 0.0)
        if requests <= 0 and tokens <= 0:
            return None
        return ("requests", requests) if requests > tokens else ("tokens", tokens)

    def take(self, now: float) -> None:
        """A request has come, and there was enough for it."""
        if self._requests is not None:
            self._requests.take(now)

    def give_back(self, now: float) -> None:
        """A request that had come was sent away after all."""
        if self._requests is not None:
            self._requests.give_back(now)

    def spend(self, tokens: float, now: float) -> None:
        """A run has ended that read and produced so many tokens."""
        if self._tokens is not None:
            self._tokens.spend(tokens, now)


def _bucket(rate: str | None, now: float) -> Bucket | None:
    if rate is None:
        return None
    count, seconds = pace_of(rate)
    return Bucket(count / seconds, max(1.0, count), now)
