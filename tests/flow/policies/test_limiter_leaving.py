"""Slots come back from whoever leaves: functions that are abandoned, calls in the line, and at random."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from millrace import Parallel, Pipeline, step
from millrace.flow.policies import Limiter, Retry
from millrace.streaming import cancelled, status
from tests.flow.policies.leaving import leave_at_random
from tests.support.leaks import eventually, eventually_async, leaks

# ---------------------------------------------------------------- abandoned functions


def test_an_abandoned_function_keeps_its_slot_until_it_ends() -> None:
    limiter, go_on, started = Limiter(1), threading.Event(), threading.Event()

    def stuck(x: int) -> int:
        started.set()
        go_on.wait(20)
        return x

    flow = step(stuck, concurrency=limiter, timeout=0.2)
    with pytest.raises(TimeoutError):
        flow(1)
    assert started.is_set()
    assert (limiter.working, status().abandoned) == (1, 1)
    run = flow.start(2)
    eventually(lambda: limiter.waiting == 1)
    go_on.set()
    assert run.result(10) == 2
    eventually(lambda: (limiter.working, status().abandoned) == (0, 0))


@pytest.mark.parametrize("inside", [lambda s: s, lambda s: Parallel(s, s), lambda s: Pipeline(str, s)])
def test_abandoned_inside_of_what_holds_the_slot(inside: Any) -> None:
    limiter, go_on, started = Limiter(1), threading.Event(), threading.Event()

    def stuck(x: Any) -> Any:
        started.set()
        go_on.wait(20)
        return x

    with step(inside(stuck), concurrency=limiter, name="held").stream(1) as stream:
        for _ in stream:
            if started.wait(10):
                break
    assert (status().runs, limiter.working) == (0, 1)
    go_on.set()
    eventually(lambda: (limiter.working, status().abandoned) == (0, 0))


def test_a_generator_gives_it_back_when_its_thread_has_closed_it() -> None:
    limiter, closed = Limiter(1), threading.Event()

    def slow_to_close(x: int) -> Iterator[str]:
        try:
            while True:
                yield "."
        finally:
            closed.wait(20)

    for _ in step(slow_to_close, concurrency=limiter).stream(1).text():
        break
    eventually(lambda: status().runs == 0)
    assert limiter.working == 1
    closed.set()
    eventually(lambda: limiter.working == 0)


# ---------------------------------------------------------------- cancels in every phase


@pytest.mark.anyio
async def test_a_cancel_in_the_line_leaves_the_line() -> None:
    limiter = Limiter(1)
    held = await limiter.enter()
    waiting = [asyncio.create_task(limiter.enter()) for _ in range(3)]
    await eventually_async(lambda: limiter.waiting == 3)
    waiting[1].cancel()
    await eventually_async(lambda: limiter.waiting == 2)
    held.release()
    held.release()  # a second time changes nothing
    (await waiting[0]).release()
    (await waiting[2]).release()
    assert (limiter.working, limiter.waiting) == (0, 0)


@pytest.mark.anyio
async def test_a_cancel_together_with_the_slot_gives_it_to_the_next() -> None:
    limiter = Limiter(1)
    held = await limiter.enter()
    first, second = (asyncio.create_task(limiter.enter()) for _ in range(2))
    await eventually_async(lambda: limiter.waiting == 2)
    held.release()  # served, and not yet run
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    (await second).release()
    assert (limiter.working, limiter.waiting) == (0, 0)


def test_a_loop_that_is_lost_with_somebody_in_the_line() -> None:
    limiter = Limiter(1)
    kept: list[Any] = []

    def lose_a_loop() -> None:
        loop = asyncio.new_event_loop()
        task = loop.create_task(limiter.enter())
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        kept.append(task)
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    async def hold() -> None:
        permit = await limiter.enter()
        thread = threading.Thread(target=lose_a_loop)
        thread.start()
        await asyncio.to_thread(thread.join)
        assert limiter.waiting == 1
        permit.release()  # whoever stands there cannot be reached
        permit = await asyncio.wait_for(limiter.enter(), 5)
        permit.release()

    asyncio.run(hold())
    assert (limiter.working, limiter.waiting) == (0, 0)
    kept.clear()
    gc.collect()  # the task is closed where it waits
    assert (limiter.working, limiter.waiting) == (0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_after_five_hundred_random_cancels_no_slot_is_lost(seed: int) -> None:
    rnd = random.Random(seed)
    limiter = Limiter(2)

    async def chancy(x: str) -> str:
        if rnd.random() < 0.3:
            raise ConnectionError
        await asyncio.sleep(rnd.choice([0, 0, 0.001]))
        return x

    async def pieces(x: str) -> AsyncIterator[str]:
        for piece in x:
            yield piece
            await asyncio.sleep(0)
        if rnd.random() < 0.3:
            raise ConnectionError

    def plain(x: str) -> str:
        if rnd.random() < 0.3:
            raise ConnectionError
        return x

    def generator(x: str) -> Iterator[str]:
        for piece in x:
            if cancelled():
                return
            yield piece

    options: dict[str, Any] = {
        "concurrency": limiter,
        "rate": "2000/s",
        "retry": Retry(3, wait=0.001),
        "timeout": 0.5,
        "fallback": str.upper,
    }
    flows: list[Any] = [step(f, **options) for f in (chancy, pieces, plain, generator)]
    flows += [step(f, cache="shared", **options) for f in (chancy, pieces, plain, generator)]
    flows += [step(Pipeline(str, chancy, pieces), name="whole", cache=True, **options), Parallel(*flows[:4])]

    async def storm() -> None:
        for _ in range(25):
            await asyncio.gather(*(leave_at_random(rnd.choice(flows), rnd) for _ in range(20)))
        await eventually_async(lambda: (status().runs, status().abandoned) == (0, 0))
        await eventually_async(lambda: (limiter.working, limiter.waiting) == (0, 0))
        for flow in flows:
            try:
                await asyncio.wait_for(flow.acall("ab"), 20)
            except ConnectionError:
                pass

    with leaks():
        asyncio.run(storm())
    eventually(lambda: (limiter.working, limiter.waiting) == (0, 0))
