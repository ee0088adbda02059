"""Limiters: so many are at work at once and no more, over sessions, threads and loops; and who comes next."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from millrace import Parallel, Pipeline, Warp, session, step
from millrace.flow.policies import Limiter, Retry
from millrace.streaming import FlowBuildError, FlowCallError, RunTimeout
from tests.support.leaks import eventually_async


class Counted:
    """A step in many forms that counts how many of its calls are at work at once."""

    def __init__(self) -> None:
        self.now = self.most = self.calls = 0
        self.lock = threading.Lock()
        self.order: list[Any] = []
        self.gate = asyncio.Event

    def begin(self, x: Any) -> None:
        with self.lock:
            self.calls += 1
            self.now += 1
            self.most = max(self.most, self.now)
            self.order.append(x)

    def end(self) -> None:
        with self.lock:
            self.now -= 1

    async def coroutine(self, x: Any) -> Any:
        self.begin(x)
        try:
            await asyncio.sleep(0.001)
        finally:
            self.end()
        return x

    async def stream(self, x: Any) -> AsyncIterator[str]:
        self.begin(x)
        try:
            for _ in range(3):
                yield "."
                await asyncio.sleep(0.0005)
        finally:
            self.end()

    def plain(self, x: Any) -> Any:
        self.begin(x)
        try:
            threading.Event().wait(0.001)
        finally:
            self.end()
        return x

    def generator(self, x: Any) -> Iterator[str]:
        self.begin(x)
        try:
            yield "."
            threading.Event().wait(0.001)
            yield "."
        finally:
            self.end()


KINDS = ["coroutine", "stream", "plain", "generator"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("most", [1, 3])
def test_so_many_at_once_and_no_more(kind: str, most: int) -> None:
    counted = Counted()
    flow = step(getattr(counted, kind), concurrency=most)
    flow.batch(range(30))
    assert (counted.calls, counted.now) == (30, 0)
    assert 1 <= counted.most <= most


@pytest.mark.anyio
async def test_as_many_as_may_work_do_so() -> None:
    barrier, limiter = asyncio.Barrier(3), Limiter(3)

    async def meet(x: int) -> int:
        await barrier.wait()
        return x

    assert await step(meet, concurrency=limiter).abatch(range(6), timeout=20) == list(range(6))
    with pytest.raises(RunTimeout):
        await step(meet, concurrency=2).abatch(range(3), timeout=0.05)
    assert limiter.working == 0


@pytest.mark.parametrize("kind", KINDS)
def test_over_all_sessions_threads_and_loops(kind: str) -> None:
    counted = Counted()
    limited = step(getattr(counted, kind), concurrency=2)
    flow = Parallel(limited, limited)

    def synchronous(i: int) -> None:
        with session(f"s{i}"):
            flow(i)

    def own_loop(i: int) -> None:
        async def calls() -> None:
            await asyncio.gather(*(flow.acall(i) for _ in range(3)))

        asyncio.run(calls())

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4) for work in (synchronous, own_loop)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (counted.calls, counted.now) == (4 * 2 + 4 * 6, 0)
    assert 1 <= counted.most <= 2


@pytest.mark.anyio
async def test_who_has_waited_longest_comes_next() -> None:
    counted = Counted()
    limiter = Limiter(1)
    flow = step(counted.coroutine, concurrency=limiter)
    tasks, permit = [], await limiter.enter()
    for i in range(8):
        tasks.append(asyncio.create_task(flow.acall(i)))
        await eventually_async(lambda i=i: limiter.waiting == i + 1)  # type: ignore[misc]
    permit.release()
    await asyncio.gather(*tasks)
    assert counted.order == list(range(8))


def test_one_limiter_for_several_steps_and_one_for_each() -> None:
    one, other, shared = Counted(), Counted(), Limiter(2)
    both = Parallel(step(one.coroutine, concurrency=shared), step(one.coroutine, concurrency=shared))
    Pipeline(lambda _: range(10), Warp(both))(0)
    assert (one.calls, shared.working) == (20, 0)
    assert one.most <= 2
    limited = step(concurrency=1)  # as a decorator, for two steps: each has its own
    Pipeline(lambda _: range(5), Warp(Parallel(limited(other.coroutine), limited(other.coroutine))))(0)
    assert (other.calls, other.most <= 2) == (10, True)


def test_a_slot_is_not_held_between_two_attempts() -> None:
    counted, limiter = Counted(), Limiter(1)
    seen: list[int] = []

    async def fails(x: int) -> int:
        counted.begin(x)
        counted.end()
        raise ConnectionError

    def pause(attempt: int) -> float:
        seen.append(limiter.working)
        return 0.0

    with pytest.raises(ConnectionError):
        step(fails, concurrency=limiter, retry=Retry(3, wait=pause))(1)
    assert (seen, limiter.working) == ([0, 0], 0)


@pytest.mark.anyio
async def test_a_stream_holds_its_slot_until_it_is_left() -> None:
    limiter = Limiter(1)
    counted = Counted()
    flow = step(counted.stream, concurrency=limiter)
    async with flow.stream(1) as stream:
        async for _ in stream.text():
            assert limiter.working == 1
            break
    await eventually_async(lambda: (limiter.working, counted.now) == (0, 0))


# ---------------------------------------------------------------- what calls itself


def test_a_step_that_calls_itself_needs_no_slot_of_its_own() -> None:
    async def countdown(n: int) -> int:
        return 0 if n == 0 else 1 + await flow.acall(n - 1)

    def in_threads(n: int) -> int:
        return 0 if n == 0 else 1 + threaded(n - 1)

    async def as_stream(n: int) -> AsyncIterator[str]:
        yield str(n)
        if n:
            async for piece in streamed.stream(n - 1).text():
                yield piece

    async def in_branches(n: int) -> int:
        return 1 if n == 0 else sum(await Parallel(branching, branching).acall(n - 1))

    flow: Any = step(countdown, concurrency=1)
    threaded: Any = step(in_threads, concurrency=1)
    streamed: Any = step(as_stream, concurrency=1)
    branching: Any = step(in_branches, concurrency=1)
    assert flow.batch([5, 5, 5], timeout=20) == [5, 5, 5]
    assert threaded.batch([5, 5], timeout=20) == [5, 5]
    assert streamed.batch([3, 3], timeout=20) == ["3210", "3210"]
    assert branching(3, timeout=20) == 8


def test_a_live_step_behind_itself() -> None:
    async def twice(pieces: AsyncIterator[str]) -> AsyncIterator[str]:
        async for piece in pieces:
            yield piece * 2

    limited = step(twice, concurrency=1)
    assert Pipeline(limited, limited)("a", timeout=20) == "aaaa"


@pytest.mark.parametrize("most", [0, -1, True, 1.5, "3"])
def test_numbers_that_cannot_be(most: Any) -> None:
    with pytest.raises(FlowBuildError, match=r"concurrency=.*: give how many may work at once"):
        step(str, concurrency=most)
    with pytest.raises(FlowBuildError, match="concurrency="):
        Limiter(most)


def test_calling_a_limited_step_inside_of_a_coroutine_is_refused_not_hung() -> None:
    flow = step(str, concurrency=1)

    async def wrong(x: int) -> str:
        return flow(x)

    with pytest.raises(FlowCallError):
        Pipeline(wrong)(1)
