"""Steps that take their upstream live: pieces flow through while they come."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from millrace import Pipeline
from millrace.streaming import TextDelta, status
from tests.support.leaks import eventually


class Source:
    def __init__(self) -> None:
        self.made = 0
        self.closed = 0

    async def asynchronous(self, x: int) -> AsyncIterator[str]:
        try:
            for i in range(x):
                self.made += 1
                yield str(i)
                await asyncio.sleep(0)
        finally:
            self.closed += 1

    def threaded(self, x: int) -> Iterator[str]:
        try:
            for i in range(x):
                self.made += 1
                yield str(i)
        finally:
            self.closed += 1


async def dotted(pieces: AsyncIterator[str]) -> AsyncIterator[str]:
    async for piece in pieces:
        yield piece + "."


def dashed(pieces: Iterator[str]) -> Iterator[str]:
    for piece in pieces:
        yield piece + "-"


async def count(pieces: AsyncIterator[str]) -> int:
    return len([piece async for piece in pieces])


def count_sync(pieces: Iterator[str]) -> int:
    return sum(1 for _ in pieces)


async def first_two(pieces: AsyncIterator[str]) -> str:
    return await anext(pieces) + await anext(pieces)


def first_two_sync(pieces: Iterator[str]) -> str:
    return next(pieces) + next(pieces)


@pytest.fixture(params=["asynchronous", "threaded"])
def source(request: pytest.FixtureRequest) -> Any:
    made = Source()
    return made, getattr(made, request.param)


@pytest.mark.parametrize(
    ("steps", "result"),
    [
        ([dotted], "0.1.2."),
        ([dashed], "0-1-2-"),
        ([dotted, dashed, dotted], "0.-.1.-.2.-."),
        ([dashed, dashed], "0--1--2--"),
        ([dotted, count], 3),
        ([dashed, count_sync], 3),
        ([dotted, count, str], "3"),
        ([count, dotted], "3."),
    ],
)
def test_they_compose(source: Any, steps: list[Any], result: Any) -> None:
    if steps == [count, dotted]:
        steps = [count, str, dotted]
    flow = Pipeline(source[1], *steps)
    assert flow(3) == result
    assert asyncio.run(flow.acall(3)) == result
    assert flow.stream(3).result == result
    assert source[0].closed == 3


def test_pieces_come_while_the_source_is_at_work(source: Any) -> None:
    made, function = source
    pieces = []
    for piece in Pipeline(function, dotted, dashed).stream(1_000_000).text():
        pieces.append(piece)
        if len(pieces) == 10:
            break
    assert pieces == [f"{i}.-" for i in range(10)]
    eventually(lambda: made.closed == 1 and status() == type(status())(0, 0))
    assert made.made < 2000


def test_all_of_them_are_heard() -> None:
    events = list(Pipeline(Source().asynchronous, dotted).stream(2))
    heard = [(event.text, event.output, event.path[-1]) for event in events if isinstance(event, TextDelta)]
    assert heard == [
        ("0", False, "asynchronous"),
        ("0.", True, "dotted"),
        ("1", False, "asynchronous"),
        ("1.", True, "dotted"),
    ]


@pytest.mark.parametrize("taker", [first_two, first_two_sync])
def test_returning_early_stops_the_upstream(source: Any, taker: Any) -> None:
    made, function = source
    assert Pipeline(function, taker)(1_000_000) == "01"
    eventually(lambda: made.closed == 1 and status().abandoned == 0)
    assert made.made < 200


def test_a_step_that_does_not_stream_gives_one_item() -> None:
    assert Pipeline(str, dotted)(5) == "5."
    assert Pipeline(str, dashed)(5) == "5-"
    assert Pipeline(dotted)("a") == "a."


@pytest.mark.parametrize("taker", [dotted, dashed, count, count_sync])
def test_an_error_upstream_comes_through(taker: Any) -> None:
    async def fails(x: Any) -> AsyncIterator[str]:
        yield "a"
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone") as raised:
        Pipeline(fails, taker)(0)
    assert len(raised.value.__notes__) == 1


def test_eight_generators_feed_eight_consumers() -> None:
    """A shared pool would deadlock here."""
    results: list[int] = []

    def one() -> None:
        results.append(Pipeline(Source().threaded, dashed, count_sync)(500))

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == [500] * 8
