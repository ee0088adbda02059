"""Admission: how many requests an engine takes, and how long they may wait."""

from __future__ import annotations

import time
from collections import Counter, deque
from typing import Any

from ...streaming.errors import Overloaded
from ...streaming.limits import Limits
from .generations import Generation
from .requests import Delta

__all__ = ["Admission", "FirstTokens", "RateMeter"]

NEVER = float("inf")
WEIGHT = 0.2
"""Of the newest request in the mean time of requests."""


class Admission:
    """The requests that an engine has taken and not yet ended; its owner holds a lock around every call."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.live: set[Generation] = set()
        self.stops: Counter[str] = Counter()
        """Ended requests by finish reason."""
        self.first_tokens = FirstTokens()
        self.open_since: float | None = None
        """When the engine became ready: waiting for it to load does not count as waiting."""
        self._mean_time: float | None = None
        self._last_end = time.monotonic()

    @property
    def running(self) -> int:
        return sum(generation.status == "running" for generation in self.live)

    @property
    def waiting(self) -> int:
        """Taken in, not running and not over."""
        return sum(generation.status in ("preparing", "waiting") for generation in self.live)

    def figures(self) -> dict[str, Any]:
        """What it knows of an EngineStatus."""
        return {
            "running": self.running,
            "waiting": self.waiting,
            "running_limit": self.limits.running,
            "waiting_limit": self.limits.waiting,
            "time_to_first_token": self.first_tokens.mean,
            "stops": dict(self.stops),
        }

    def idle_for(self) -> float:
        """Seconds since the last request ended, or since the engine became ready; 0 while one is there."""
        if self.live or self.open_since is None:
            return 0.0
        return time.monotonic() - max(self._last_end, self.open_since)

    def check(self) -> None:
        """Raises Overloaded when as many requests run and wait as may."""
        taken = self.running + self.waiting
        if taken >= self.limits.running + self.limits.waiting:
            raise Overloaded(
                f"{taken} requests run or wait, as many as Limits(running={self.limits.running}, "
                f"waiting={self.limits.waiting}) let in; try again later",
                self.retry_after(),
            ).for_clients()

    def add(self, generation: Generation) -> None:
        generation.on_first = self.first_tokens.note
        self.live.add(generation)

    def release(self, generation: Generation) -> None:
        """Counts the end of a request and frees its place; a second time does nothing."""
        if generation not in self.live:
            return
        self.live.discard(generation)
        self._last_end = time.monotonic()
        self.stops[generation.finish_reason or "error"] += 1
        if generation.finish_reason in ("stop", "length", "tool_calls"):
            spent = time.monotonic() - generation.submitted
            before = spent if self._mean_time is None else self._mean_time
            self._mean_time = before + WEIGHT * (spent - before)

    def retry_after(self) -> float:
        """Seconds until a place may be free: the mean time of a request, for as many turns as stand before."""
        turns = len(self.live) / self.limits.running
        mean = 1.0 if self._mean_time is None else self._mean_time
        return round(min(max(mean * turns, 1.0), self.limits.queue_timeout), 1)

    def due(self, generation: Generation) -> float:
        """The `time.monotonic()` at which a request that does not run yet has waited too long."""
        if generation.begun or generation.finish_reason is not None:
            return NEVER
        deadline = generation.request.deadline
        due = NEVER if deadline is None else deadline
        if self.open_since is None:
            return due
        return min(due, max(generation.submitted, self.open_since) + self.limits.queue_timeout)

    def next_due(self) -> float:
        """When the next of the waiting requests has waited too long."""
        return min(map(self.due, self.live), default=NEVER)

    def overdue(self) -> list[Generation]:
        """The requests that have waited too long."""
        now = time.monotonic()
        return [generation for generation in self.live if self.due(generation) <= now]

    def last_words(self, generation: Generation) -> Delta:
        """The end of a request that has waited too long: its own deadline, or the line's."""
        deadline = generation.request.deadline
        if deadline is not None and time.monotonic() >= deadline:
            return Delta(finish_reason="timeout", usage=generation.usage)
        error = Overloaded(
            f"no turn came within {self.limits.queue_timeout:g} s, which is Limits(queue_timeout); try again later",
            self.retry_after(),
            waited=time.monotonic() - generation.submitted,
        )
        return Delta(finish_reason="error", usage=generation.usage, error=error.for_clients())


class FirstTokens:
    """How long the latest requests waited for their first output; from any thread."""

    KEPT = 64

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=self.KEPT)

    def note(self, seconds: float) -> None:
        self._seconds.append(seconds)

    @property
    def mean(self) -> float | None:
        """In seconds; None before the first."""
        seconds = tuple(self._seconds)
        return sum(seconds) / len(seconds) if seconds else None


class RateMeter:
    """Tokens per second over the last few seconds."""

    WINDOW = 5.0
    SPACING = 0.1

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque()

    def note(self, total: int) -> None:
        """Remembers how many tokens there are by now."""
        now = time.monotonic()
        if not self._marks or now - self._marks[-1][0] > self.SPACING:
            self._marks.append((now, total))
            while now - self._marks[0][0] > self.WINDOW:
                self._marks.popleft()

    def rate(self, total: int) -> float:
        """Tokens per second since the oldest mark in the window; 0 when nothing happened in it."""
        now = time.monotonic()
        for at, count in tuple(self._marks):
            if now - at <= self.WINDOW:
                return (total - count) / max(now - at, self.SPACING)
        return 0.0
