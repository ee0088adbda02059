"""Flows and counters that the tests of runs, queues and readers share."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

from millrace.streaming import Event

__all__ = ["Gate", "count", "count_in_thread", "seen", "taken"]


async def count(n: Any) -> AsyncIterator[str]:
    """`n` pieces, with a look at other tasks between them."""
    for i in range(int(n)):
        yield f"{i} "
        await asyncio.sleep(0)


def count_in_thread(n: Any) -> Iterator[str]:
    for i in range(int(n)):
        yield f"{i} "


class Gate:
    """A generator that makes a piece each time that it is let; from any thread."""

    def __init__(self) -> None:
        self._left = threading.Semaphore(0)
        self.made = 0

    def let(self, pieces: int = 1) -> None:
        self._left.release(pieces)

    async def pieces(self, n: Any) -> AsyncIterator[str]:
        for i in range(int(n)):
            while not self._left.acquire(blocking=False):
                await asyncio.sleep(0.0005)
            self.made += 1
            yield f"{i} "


def seen(events: Iterable[Event]) -> list[str]:
    """Events as text that tells every difference."""
    return [json.dumps(event.as_dict()) for event in events]


def taken(reader: Any, many: int) -> list[Any]:
    """The next few items of an iterator."""
    return [next(reader) for _ in range(many)]
