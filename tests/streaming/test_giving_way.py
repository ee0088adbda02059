"""Producers that never suspend: stops reach them all the same, and others on their loop have their turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from millrace import Pipeline, step
from millrace.streaming import RunCancelled, RunTimeout, Stream

PIECES, PACE = 200, 0.005
SOON = 0.3
"""Seconds, of the full second that the work takes."""


async def talks(x: Any) -> AsyncIterator[str]:
    """Blocks its loop, as code does that computes; and awaits nothing."""
    for i in range(PIECES):
        time.sleep(PACE)
        yield f"{i} "


async def counts(x: Any) -> AsyncIterator[int]:
    for i in range(PIECES):
        time.sleep(PACE)
        yield i


async def last(x: Any) -> AsyncIterator[str]:
    yield "end"


FLOWS = {
    "the answer": Pipeline(talks),
    "text on the way": Pipeline(talks, last),
    "data on the way": Pipeline(counts, last),
    "text that is only traced": Pipeline(step(talks, show="trace"), last),
}


@pytest.fixture(params=FLOWS.values(), ids=FLOWS.keys())
def flow(request: pytest.FixtureRequest) -> Pipeline[Any, Any]:
    found: Pipeline[Any, Any] = request.param
    return found


@pytest.fixture(params=["text", "events"])
def text(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "text")


def heard(stream: Stream, text: bool) -> Any:
    return stream.text() if text else stream


class TestStops:
    def test_a_deadline_where_a_thread_listens(self, flow: Pipeline[Any, Any], text: bool) -> None:
        began = time.monotonic()
        with pytest.raises(RunTimeout):
            list(heard(flow.stream("x", timeout=0.05), text))
        assert time.monotonic() - began < SOON

    @pytest.mark.anyio
    async def test_a_deadline_on_the_same_loop(self, flow: Pipeline[Any, Any], text: bool) -> None:
        began = time.monotonic()
        with pytest.raises(RunTimeout):
            [item async for item in heard(flow.stream("x", timeout=0.05), text)]
        assert time.monotonic() - began < SOON

    @pytest.mark.anyio
    async def test_a_cancel_on_the_same_loop(self, flow: Pipeline[Any, Any], text: bool) -> None:
        began = time.monotonic()
        async with flow.stream("x") as stream:
            asyncio.get_running_loop().call_later(0.05, stream.run.cancel)
            with pytest.raises(RunCancelled):
                [item async for item in heard(stream, text)]
        assert time.monotonic() - began < SOON


@pytest.mark.anyio
async def test_others_on_the_loop_have_their_turn(flow: Pipeline[Any, Any], text: bool) -> None:
    gaps = []

    async def ticks() -> None:
        before = time.monotonic()
        while True:
            await asyncio.sleep(0)
            gaps.append(time.monotonic() - before)
            before = time.monotonic()

    ticking = asyncio.create_task(ticks())
    with pytest.raises(RunTimeout):
        [item async for item in heard(flow.stream("x", timeout=0.2), text)]
    ticking.cancel()
    assert max(gaps) < 0.15
