"""Steps and graphs that several tests build flows of, and a call of a flow in every way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from typing import Any

from millrace import Graph

__all__ = [
    "MANY",
    "Source",
    "add",
    "both",
    "chain",
    "count",
    "count_sync",
    "dashed",
    "diamond",
    "dotted",
    "double",
    "every_way",
]

MANY = 1_000_000


class Source:
    """A step that streams, and counts."""

    def __init__(self) -> None:
        self.made = 0
        self.closed = 0

    async def asynchronous(self, n: int) -> AsyncIterator[str]:
        try:
            for i in range(n):
                self.made += 1
                yield f"{i} "
                await asyncio.sleep(0)
        finally:
            self.closed += 1

    def threaded(self, n: int) -> Iterator[str]:
        try:
            for i in range(n):
                self.made += 1
                yield f"{i} "
        finally:
            self.closed += 1


async def dotted(pieces: AsyncIterator[str]) -> AsyncIterator[str]:
    async for piece in pieces:
        yield piece.strip() + ". "


def dashed(pieces: Iterator[str]) -> Iterator[str]:
    for piece in pieces:
        yield piece.strip() + "- "


async def count(pieces: AsyncIterator[Any]) -> int:
    return len([piece async for piece in pieces])


def count_sync(pieces: Iterator[Any]) -> int:
    return sum(1 for _ in pieces)


def both(*values: Any) -> tuple[Any, ...]:
    return values


def chain(*names: str) -> list[tuple[str, str]]:
    places = ["input", *names, "output"]
    return list(pairwise(places))


def add(x: int) -> int:
    return x + 1


async def double(x: int) -> int:
    await asyncio.sleep(0)
    return x * 2


def every_way(flow: Any, x: Any) -> Any:
    """The value that three calls give: a plain one, a stream and an awaited one."""
    value, streamed = flow(x), flow.stream(x).result
    assert streamed == asyncio.run(flow.acall(x)) == value
    assert type(streamed) is type(value)
    return value


def diamond(a: Any, b: Any, c: Any, join: Any, **options: Any) -> Any:
    with Graph(**options) as g:
        g.a, g.b, g.c, g.join = a, b, c, join
        g.edge(g.input, g.a)
        g.edge(g.a, g.b)
        g.edge(g.a, g.c)
        g.edge((g.b, g.c), g.join)
        g.edge(g.join, g.output)
    return g
