"""An engine that nobody asks anything unloads, and loads again when somebody does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from millrace.modules.local import Engine, Request, Sampling
from millrace.modules.local.sharing import shared_engine
from tests.support import paced
from tests.support.gated import Gate, gated_engine, tiny_engine
from tests.support.leaks import eventually, eventually_async

pytestmark = pytest.mark.anyio
REQUEST = Request(prompt="the mill", sampling=Sampling(temperature=0.0, max_tokens=4))


@pytest.mark.parametrize("process", [False, pytest.param(True, marks=pytest.mark.slow)])
async def test_it_unloads_and_loads_again(process: bool) -> None:
    engine = Engine(paced.load_plainly, process=process, idle=0.2)
    first = await engine.submit(REQUEST).result()
    await eventually_async(lambda: engine.status().state == "cold")
    assert engine.status().blocks_total == 0
    assert (await engine.submit(REQUEST).result()).text == first.text
    await engine.ready()
    assert engine.status().ready
    await engine.aclose()
    assert engine.status().state == "closed"


async def test_work_keeps_it_loaded() -> None:
    gate = Gate()
    engine = gated_engine(gate, idle=0.05)
    await engine.ready()
    generation = engine.submit(REQUEST)
    gate.wait_reached()
    await asyncio.sleep(0.3)  # six times as long as it may be idle
    assert engine.status().ready
    gate.open_all()
    assert (await generation.result()).finish_reason == "length"
    await eventually_async(lambda: engine.status().state == "cold")
    engine.close()


async def test_a_request_at_that_very_moment_is_served() -> None:
    engine = tiny_engine(idle=0.01)
    for _ in range(5):
        assert (await engine.submit(REQUEST).result()).finish_reason == "length"
    engine.close()


def test_loading_does_not_count() -> None:
    engine = tiny_engine(idle=0.001)
    engine.wait_ready(30)
    eventually(lambda: engine.status().state == "cold")
    engine.close()


@pytest.mark.parametrize("idle", [0, -1, "10m", True])
def test_what_is_no_time_is_refused(idle: Any) -> None:
    with pytest.raises(ValueError, match=f"idle={idle!r}: give a number"):
        Engine(paced.load_plainly, idle=idle)
    engine = shared_engine(paced.load_plainly)
    with pytest.raises(ValueError, match=f"idle={idle!r}: give a number"):
        shared_engine(paced.load_plainly, idle=idle)
    assert engine.idle is None
