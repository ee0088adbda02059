"""Feeds: a run's events for the one request that sends them on, and how long it has been silent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from ...streaming.events import Event
from ...streaming.paces import Pace
from .patience import Timings

__all__ = ["Events", "Feed", "Paced", "Silence"]


class Events(Protocol):
    """What a feed reads: a stream's listener, or one of a run's readers."""

    def take(self) -> Event | None:
        """The next event that is there; None: wait."""

    def waiter(self) -> asyncio.Future[None]:
        """To be awaited for the next event."""

    def forget(self) -> None:
        """Nobody waits any more."""


class Paced:
    """Events of a run that waits for whoever takes them."""

    def __init__(self, events: Events, pace: Pace) -> None:
        self._events, self._pace = events, pace
        self.waiter, self.forget = events.waiter, events.forget

    def take(self) -> Event | None:
        event = self._events.take()
        if event is not None and hasattr(event, "seq"):
            self._pace.took(event.seq)
        return event


class Feed:
    """The events of one run, which can be waited for, and whose waiting can be ended by others."""

    __slots__ = ("_events", "_waiter", "take")

    def __init__(self, events: Events) -> None:
        self._events = events
        self._waiter: asyncio.Future[None] | None = None
        self.take: Callable[[], Event | None] = events.take

    async def wait(self) -> None:
        """Until there is an event, or `nudge`."""
        self._waiter = self._events.waiter()
        await self._waiter

    def nudge(self) -> None:
        """Wakes whoever waits, for another reason than an event."""
        if self._waiter is not None and not self._waiter.done():
            self._events.forget()
            self._waiter.set_result(None)


class Silence:
    """Notices when nothing was sent for too long: first for `first_output`, later for `heartbeat` seconds.

    One timer, moved when it fires: a piece that is sent costs none. Until `begin` it is patient without end: what
    waits in line is not silent.
    """

    __slots__ = ("_feed", "_loop", "_patience", "_since", "_timer", "_timings", "too_long")

    def __init__(self, feed: Feed, timings: Timings) -> None:
        self._feed = feed
        self._timings = timings
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self.too_long = False

    def begin(self) -> None:
        """The run has begun."""
        self._since, self._patience = self._loop.time(), self._timings.first_output
        if self._timer is None:
            self._timer = self._loop.call_later(self._patience, self._look)

    def broken(self) -> None:
        """Something was sent."""
        self.too_long = False
        self._since = self._loop.time()
        self._patience = self._timings.heartbeat

    def _look(self) -> None:
        left = self._since + self._patience - self._loop.time()
        if left <= 0:
            self.too_long = True
            left = self._timings.heartbeat
            self._feed.nudge()
        self._timer = self._loop.call_later(left, self._look)

    def __enter__(self) -> Silence:
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
