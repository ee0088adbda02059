"""A slow listener slows its own producer and nobody else, and nothing is lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from millrace import Pipeline
from tests.streaming.parts import count

PIECES = 4000
SIZE = 16 * 1024
MOST = 24 << 20
"""Bytes that the process may grow by: 256 pieces in the queue, 64 more in a thread's buffer, and as much again."""


def piece(i: int) -> str:
    return f"{i:016d}" * (SIZE // 16)


class Producer:
    """Makes 64 MB as fast as it may."""

    def __init__(self) -> None:
        self.made = 0

    async def asynchronous(self, x: int) -> AsyncIterator[str]:
        for i in range(PIECES):
            self.made += 1
            yield piece(i)

    def threaded(self, x: int) -> Iterator[str]:
        for i in range(PIECES):
            self.made += 1
            yield piece(i)


def neighbours_speed(seconds: float) -> float:
    """Chunks of another stream for each second of processor time."""
    chunks, began, until = 0, time.process_time(), time.monotonic() + seconds
    while time.monotonic() < until:
        chunks += sum(1 for _ in Pipeline(count).stream(500).text())
    return chunks / (time.process_time() - began)


SECONDS = [pytest.param(3.0, marks=pytest.mark.slow), pytest.param(30.0, marks=pytest.mark.soak)]


@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize("where", ["memory", "files"])
@pytest.mark.parametrize("kind", [Producer.asynchronous, Producer.threaded])
def test_a_listener_that_pauses(kind: Callable[..., Any], where: str, seconds: float, tmp_path: Path) -> None:
    producer, process = Producer(), psutil.Process()
    alone = neighbours_speed(seconds / 6)
    with Pipeline(kind.__get__(producer)).stream(
        1, queue=f"file://{tmp_path}/runs" if where == "files" else None
    ) as stream:
        pieces = iter(stream.text())
        assert [next(pieces) for _ in range(10)] == [piece(i) for i in range(10)]
        before = process.memory_info().rss
        beside = neighbours_speed(seconds)
        grown, ahead = process.memory_info().rss - before, producer.made - 10
        rest = list(map(hash, pieces))
    assert ahead <= 256 + 64 + 8
    assert grown < MOST
    assert rest == [hash(piece(i)) for i in range(10, PIECES)]
    assert beside > 0.6 * alone


@pytest.mark.anyio
async def test_on_one_loop_others_go_on_beside_one_that_pauses() -> None:
    producer = Producer()
    async with Pipeline(producer.asynchronous).stream(1) as stream:
        reader = aiter(stream.text())
        await anext(reader)
        for _ in range(20):
            async for _ in Pipeline(count).stream(100).text():
                pass
        assert producer.made <= 260
        assert sum([1 async for _ in reader]) == PIECES - 1
    await asyncio.sleep(0)
