from __future__ import annotations

import asyncio
import gc
import random
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from millrace import Parallel, Pipeline, Warp, session, step
from millrace.flow.policies import Limiter, Retry
from millrace.streaming import FlowBuildError, FlowCallError, MillraceError, RunTimeout, cancelled, status
from tests.support.leaks import eventually, eventually_async, leaks


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


async def leave_at_random(flow: Any, rnd: random.Random) -> None:
    """Begins a call and leaves it in some way, at some moment."""
    way, turns = rnd.choice(["task", "stream", "deadline", "cancel", "none"]), rnd.randrange(30)
    try:
        if way == "deadline":
            await flow.acall("ab", timeout=rnd.uniform(0.0005, 0.01))
        elif way in ("task", "none"):
            task = asyncio.create_task(flow.acall("ab"))
            for _ in range(turns):
                await asyncio.sleep(0)
            if way == "task":
                task.cancel()
            await asyncio.wait([task])
            task.cancelled() or task.exception()
        else:
            async with flow.stream("ab") as stream:
                async for _ in stream:
                    turns -= 10
                    if turns < 0:
                        if way == "cancel":
                            stream.run.cancel("enough")
                        break
    except (MillraceError, ConnectionError, TimeoutError):
        pass


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
