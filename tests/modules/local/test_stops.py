"""Five hundred stops at random moments: the pool is as at the start, and neighbours say what they say alone."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from millrace import Limits
from millrace.modules.local import Generation, Request, Sampling
from tests.support.gated import tiny_engine

pytestmark = pytest.mark.anyio
GREEDY = Sampling(temperature=0.0, max_tokens=12)


@pytest.mark.slow
async def test_five_hundred_at_random() -> None:
    engine = tiny_engine(limits=Limits(running=6, waiting=40))
    await engine.ready()
    alone = [
        (await engine.submit(Request(prompt=f"bread {i}", sampling=GREEDY)).result()).text for i in range(4)
    ]
    chance, stood = random.Random(3), Counter[str]()

    async def stop(number: int) -> None:
        prompt = "the mill grinds corn " * chance.choice((1, 1, 20)) + str(number % 7)
        generation = engine.submit(Request(prompt=prompt, sampling=Sampling(max_tokens=200, seed=number)))
        await moment(generation)
        stood[generation.status] += 1
        generation.cancel()
        if chance.random() < 0.2:
            generation.cancel("again")
        await generation.aclose()
        assert generation.finish_reason in ("cancelled", "stop")  # some have said all there was before

    async def moment(generation: Generation) -> None:
        for _ in range(chance.choice((0, 0, 1, 2, 8))):
            if chance.random() < 0.5:
                await asyncio.sleep(0)
            elif await anext(generation, None) is None:
                break

    async def neighbour(number: int) -> None:
        done = await engine.submit(Request(prompt=f"bread {number % 4}", sampling=GREEDY)).result()
        assert done.text == alone[number % 4]

    for batch in range(25):
        await asyncio.gather(*(stop(batch * 20 + i) for i in range(20)), *(neighbour(i) for i in range(4)))
    status = engine.status()
    assert (status.blocks_used, status.running, status.waiting) == (0, 0, 0)
    assert sum(status.stops.values()) == 500 + 4 + 100
    assert status.stops["cancelled"] > 450
    assert {"preparing", "waiting", "running"} <= stood.keys()
    engine.close()
