from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace import step
from millrace.flow.policies import Limiter, Rate, Retry
from millrace.flow.policies.rates import Bucket
from millrace.streaming import FlowBuildError, RunTimeout
from tests.support.leaks import eventually, eventually_async


@settings(deadline=None)
@given(
    st.floats(0.01, 1000),
    st.integers(1, 50),
    st.lists(st.floats(0, 10), max_size=60),
)
def test_in_any_time_no_more_than_the_burst_and_what_came_back(
    pace: float, size: int, pauses: list[float]
) -> None:
    now, taken = 100.0, []
    bucket = Bucket(pace, size, now)
    for pause in pauses:
        now += pause
        while bucket.take(now):
            taken.append(now)
    for i, begin in enumerate(taken):
        for j in range(i, len(taken)):
            assert j - i + 1 <= size + (taken[j] - begin) * pace + 1e-6


@settings(deadline=None)
@given(st.floats(0.01, 1000), st.integers(1, 20), st.integers(1, 50))
def test_nobody_waits_longer_than_needed(pace: float, size: int, calls: int) -> None:
    now = start = 5.0
    bucket = Bucket(pace, size, now)
    for _ in range(calls):
        while not bucket.take(now):
            now += bucket.wait(now) + 1e-9
    assert now - start <= max(0, calls - size) / pace + calls * 1e-6 + 1e-6


@settings(deadline=None)
@given(st.floats(0.01, 1000), st.integers(1, 20), st.floats(0, 1000))
def test_what_is_owed_comes_back_at_the_same_pace(pace: float, size: int, spent: float) -> None:
    bucket = Bucket(pace, size, 5.0)
    bucket.spend(spent, 5.0)
    owed = max(0.0, spent - size)
    assert bucket.wait(5.0, 0.0) == pytest.approx(owed / pace)
    assert bucket.wait(6.0, 0.0) == pytest.approx(max(0.0, owed / pace - 1.0), abs=1e-6)


@pytest.mark.parametrize(
    ("written", "count", "per", "burst"),
    [
        (10, 10, 1.0, 10),
        (0.5, 0.5, 1.0, 1),
        ("10/s", 10, 1.0, 10),
        ("60/m", 60, 60.0, 60),
        ("60 / minute", 60, 60.0, 60),
        ("1000/h", 1000, 3600.0, 1000),
        ("5/30s", 5, 30.0, 5),
        ("1.5/sec", 1.5, 1.0, 1),
        ("100/1.5h", 100, 5400.0, 100),
    ],
)
def test_ways_to_write_one(written: Any, count: float, per: float, burst: int) -> None:
    rate = Rate.of(written)
    assert (rate.count, rate.per, rate.burst) == (count, per, burst)
    assert Rate.of(rate) is rate


@pytest.mark.parametrize(
    "written",
    [0, -1, True, float("inf"), float("nan"), "10", "s", "/s", "10/x", "0/s", "10/0s", "-1/s", [10]],
)
def test_what_is_none(written: Any) -> None:
    with pytest.raises(FlowBuildError, match=r"rate=.*: give calls per second"):
        step(str, rate=written)


@pytest.mark.parametrize(
    "make", [lambda: Rate(0), lambda: Rate(1, per=0), lambda: Rate(1, burst=0), lambda: Rate("1")]
)
def test_settings_that_cannot_be(make: Callable[[], Any]) -> None:
    with pytest.raises(FlowBuildError, match=r"Rate\(\w+="):
        make()


def test_calls_begin_evenly_after_the_burst() -> None:
    begun: list[float] = []

    async def work(x: int) -> int:
        begun.append(time.monotonic())
        return x

    flow = step(work, rate=Rate(100, burst=5))
    assert flow.batch(range(15)) == list(range(15))
    for i in range(len(begun)):
        for j in range(i, len(begun)):
            assert j - i + 1 <= 5 + (begun[j] - begun[i]) * 100 + 0.1
    assert begun[-1] - begun[0] < 2


def test_every_attempt_needs_a_token_and_so_does_every_thread_and_loop() -> None:
    rate = Rate(50, burst=1)
    begun: list[float] = []
    tried: set[int] = set()

    def work(x: int) -> int:
        begun.append(time.monotonic())
        if x not in tried:
            tried.add(x)
            raise ConnectionError
        return x

    flow = step(work, rate=rate, retry=Retry(2, wait=0), concurrency=1)
    threads = [threading.Thread(target=flow, args=(i,)) for i in range(2)]
    threads += [threading.Thread(target=lambda i=i: asyncio.run(flow.acall(9 + i))) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(begun) == 8
    assert begun[-1] - begun[0] >= 7 / 50 - 0.01


@pytest.mark.anyio
async def test_a_cancel_leaves_the_line_and_the_next_moves_up() -> None:
    rate = Rate(1, per=600, burst=1)
    await rate.take()
    first, second = (asyncio.create_task(rate.take()) for _ in range(2))
    await eventually_async(lambda: len(rate.waiters) == 2)
    first.cancel()
    await eventually_async(lambda: len(rate.waiters) == 1)
    rate.give_back()
    await asyncio.wait_for(second, 5)
    assert not rate.waiters


@pytest.mark.anyio
async def test_a_cancel_together_with_the_token_gives_it_back() -> None:
    rate = Rate(1, per=600, burst=1)
    await rate.take()
    first, second = (asyncio.create_task(rate.take()) for _ in range(2))
    await eventually_async(lambda: len(rate.waiters) == 2)
    rate.give_back()  # the first is served, and has not run
    first.cancel()
    await asyncio.wait_for(second, 5)
    assert first.cancelled()


def test_who_waits_for_a_token_can_be_stopped_and_gives_the_slot_back() -> None:
    limiter = Limiter(1)
    flow = step(str, rate=Rate(1, per=600, burst=1), concurrency=limiter)
    assert flow(1) == "1"
    with pytest.raises(RunTimeout):
        flow(2, timeout=0.05)
    assert limiter.working == 0
    run = flow.start(3)
    eventually(lambda: limiter.working == 1)
    run.cancel()
    eventually(lambda: limiter.working == 0)


def test_a_loop_that_is_lost_while_it_waits() -> None:
    rate = Rate(100, burst=1)

    async def leave() -> None:
        await rate.take()
        waiting = asyncio.create_task(rate.take())
        await eventually_async(lambda: len(rate.waiters) == 1)
        waiting.cancel()

    asyncio.run(leave())
    asyncio.run(asyncio.wait_for(rate.take(), 5))
    assert not rate.waiters
