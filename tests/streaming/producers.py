"""Producers of pieces far from their end whenever they are stopped, and what must hold then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

from millrace.streaming import status
from tests.support.leaks import eventually, eventually_async

__all__ = ["KINDS", "MANY", "Producer", "limited", "stopped", "stopped_async"]

MANY = 1_000_000


class Producer:
    """Counts what it makes and how often it was cleaned up; far from its end whenever it is stopped."""

    def __init__(self) -> None:
        self.made = 0
        self.cleaned = 0

    async def pausing(self, x: Any) -> AsyncIterator[str]:
        try:
            for i in range(MANY):
                self.made += 1
                yield f"{i} "
                await asyncio.sleep(0)
        finally:
            self.cleaned += 1

    async def torrent(self, x: Any) -> AsyncIterator[str]:
        try:
            for i in range(MANY):
                self.made += 1
                yield f"{i} "
        finally:
            self.cleaned += 1

    async def stuck(self, x: Any) -> AsyncIterator[str]:
        try:
            for i in range(10):
                self.made += 1
                yield f"{i} "
            await asyncio.Event().wait()
        finally:
            self.cleaned += 1

    def threaded(self, x: Any) -> Iterator[str]:
        try:
            for i in range(MANY):
                self.made += 1
                yield f"{i} "
        finally:
            self.cleaned += 1


KINDS = ("pausing", "torrent", "stuck", "threaded")


def stopped(producer: Producer, made: int, ahead: int = 2) -> None:
    """At most `ahead` more items than at the stop, cleaned up once, nothing live."""
    eventually(lambda: producer.cleaned == 1 and status() == type(status())(0, 0))
    assert producer.made - made <= ahead
    assert producer.made < MANY / 2


async def stopped_async(producer: Producer, made: int, ahead: int = 2) -> None:
    await eventually_async(lambda: producer.cleaned == 1 and status() == type(status())(0, 0))
    assert producer.made - made <= ahead
    assert producer.made < MANY / 2


async def limited(items: Any, count: int) -> AsyncIterator[Any]:
    async for item in items:
        yield item
        count -= 1
        if not count:
            return
