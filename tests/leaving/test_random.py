"""Hundreds of stops at random moments: nothing is left, and the engine is as at the start."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from millrace import Limits, LocalModel, Parallel, Pipeline, Sampling, Warp
from millrace.streaming import MillraceError, status
from tests.support.gated import tiny_engine
from tests.support.leaks import eventually_async, leaks

STOPS = 500


async def pausing(x: Any) -> AsyncIterator[str]:
    for i in range(1000):
        yield f"{i} "
        await asyncio.sleep(0)


def threaded(x: Any) -> Iterator[str]:
    for i in range(1000):
        yield f"{i} "


async def dotted(pieces: AsyncIterator[str]) -> AsyncIterator[str]:
    async for piece in pieces:
        yield piece + "."


async def leave_at_random(flow: Pipeline[Any, Any], rnd: random.Random) -> None:
    """Reads some events, then leaves in some way."""
    many, way = (
        rnd.choice([0, 1, 2, 5, 20, 200]),
        rnd.choice(["break", "block", "cancel", "deadline", "raise", "task"]),
    )
    if way == "task":
        task = asyncio.create_task(flow.acall("the mill"))
        for _ in range(many):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return
    stream = flow.stream("the mill", timeout=rnd.uniform(0.0005, 0.02) if way == "deadline" else None)
    try:
        if way == "break":
            async for _ in stream:
                many -= 1
                if many < 0:
                    break
            return
        async with stream:
            async for _ in stream:
                many -= 1
                if many < 0:
                    if way == "raise":
                        raise KeyError
                    if way == "cancel":
                        stream.run.cancel("enough")
                    if way == "block":
                        break
    except (KeyError, MillraceError):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_five_hundred_random_stops(seed: int) -> None:
    rnd = random.Random(seed)
    engine = tiny_engine(limits=Limits(running=8, waiting=64))
    engine.wait_ready(60)
    model = LocalModel(engine, sampling=Sampling(temperature=0.0, max_tokens=60))
    flows: list[Any] = [
        Pipeline(pausing),
        Pipeline(threaded),
        Pipeline(str, pausing, dotted),
        Pipeline(str, threaded, dotted, len),
        Pipeline(Parallel(pausing, threaded, model, collect=list), len),
        Pipeline(model),
        Pipeline(str.upper, model, dotted),
        Pipeline(lambda _: ["a", "b", "c"], Warp(model, concurrency=2)),
    ]

    async def stops() -> None:
        for _ in range(STOPS // 10):
            await asyncio.gather(*(leave_at_random(rnd.choice(flows), rnd) for _ in range(10)))
        await eventually_async(lambda: status() == type(status())(0, 0))
        await eventually_async(lambda: engine.status().running == engine.status().blocks_used == 0)

    def alone() -> Any:
        return model("the mill turns")

    try:
        before = alone()
        with leaks():
            asyncio.run(stops())
        assert alone() == before
        now = engine.status()
        assert (now.running, now.waiting, now.blocks_used) == (0, 0, 0)
    finally:
        engine.close()
