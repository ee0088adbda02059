"""Steps that wait for each other, at barriers, for slots, for one stream; and none of them waits for ever."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from millrace import Graph, Loop, Parallel, Pipeline, Warp, step
from millrace.flow import fanout, threads
from millrace.flow.pools import Pool
from millrace.streaming import FlowCallError, RunTimeout, status
from tests.support.leaks import eventually

LONG = 1000
"""Pieces; far more than a reader may be ahead of another."""


async def letters(n: int) -> AsyncIterator[str]:
    for _ in range(n):
        yield "x"


async def count(pieces: AsyncIterator[str]) -> int:
    return len([piece async for piece in pieces])


def count_in_a_thread(pieces: Iterator[str]) -> int:
    return sum(1 for _ in pieces)


async def dotted(pieces: AsyncIterator[str]) -> AsyncIterator[str]:
    async for piece in pieces:
        yield piece + "."


def both(a: int, b: int) -> int:
    return a + b


# ---------------------------------------------------------------- at a barrier


def functions_at(barrier: threading.Barrier) -> Callable[[Any], str]:
    def meet(x: Any) -> str:
        barrier.wait(10)
        return "met"

    return meet


def test_eight_functions_meet() -> None:
    meet = functions_at(threading.Barrier(8))
    assert Parallel(*[meet] * 8)(0) == ("met",) * 8
    assert Warp(meet)(range(8)) == ["met"] * 8
    assert Parallel(*[meet] * 8).stream(0).result == ("met",) * 8
    assert Pipeline(meet).batch(range(8)) == ["met"] * 8


@pytest.mark.parametrize("depth", [1, 5])
def test_eight_functions_meet_in_flows_called_by_functions(depth: int) -> None:
    meet = functions_at(threading.Barrier(8))

    def deeper(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda x: Pipeline(Parallel(function, str, collect=lambda found: found[0]))(x)

    for _ in range(depth):
        meet = deeper(meet)
    assert Warp(meet)(range(8)) == ["met"] * 8
    assert Warp(meet).stream(range(8)).result == ["met"] * 8


def test_more_functions_meet_than_the_pool_has_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "POOL", Pool(most=2))
    assert Warp(functions_at(threading.Barrier(4)))(range(4)) == ["met"] * 4


def test_eight_coroutines_meet() -> None:
    async def main() -> None:
        barrier = asyncio.Barrier(8)

        async def meet(x: int) -> str:
            await barrier.wait()
            return "met"

        assert await Parallel(*[meet] * 8).acall(0) == ("met",) * 8
        assert await Warp(meet).acall(range(8)) == ["met"] * 8

    asyncio.run(main())


def at_work(most: list[int]) -> Callable[[Any], Any]:
    """Notes how many of its kind are at work at once."""
    now = 0

    async def step(x: Any) -> Any:
        nonlocal now
        now += 1
        most.append(now)
        await asyncio.sleep(0.001)
        now -= 1
        return x

    return step


@pytest.mark.parametrize("kind", [Parallel, Warp, Graph])
def test_eight_coroutines_meet_two_at_a_time(kind: Any) -> None:
    """Who stands at a barrier is not at work; behind it only two are, of those that come later."""

    async def main() -> None:
        barrier, most = asyncio.Barrier(8), list[int]()

        async def meet(x: Any) -> str:
            await barrier.wait()
            return "met"

        if kind is Warp:
            assert await Warp(meet, concurrency=2).acall(range(8)) == ["met"] * 8
        elif kind is Graph:
            names = [f"m{i}" for i in range(8)]
            edges = [*(("input", name) for name in names), (tuple(names), "all"), ("all", "output")]
            graph = Graph({**dict.fromkeys(names, meet), "all": lambda *met: met}, edges, concurrency=2)
            assert await graph.acall(0) == ("met",) * 8
        else:
            late = at_work(most)
            flow = Parallel(*[meet] * 8, *[late] * 8, concurrency=2)
            assert await flow.acall(0) == (*["met"] * 8, *[0] * 8)
            assert max(most) == 2
        assert barrier.n_waiting == 0

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["branches", "items", "nodes"])
def test_eight_meet_from_within_the_branches_of_others(kind: str) -> None:
    async def main() -> None:
        barrier = asyncio.Barrier(8)

        async def meet(x: Any) -> str:
            await barrier.wait()
            return "met"

        async def other(x: Any) -> str:
            return "other"

        if kind == "branches":
            flow: Any = Parallel(*[Parallel(meet, other)] * 8, concurrency=2)
            assert await flow.acall(0) == (("met", "other"),) * 8
        elif kind == "items":
            flow = Warp(Warp(meet), concurrency=2)
            assert await flow.acall([[i] for i in range(8)]) == [["met"]] * 8
        else:
            edges = [("input", "m"), ("input", "o"), (("m", "o"), "output")]
            flow = Warp(Graph({"m": meet, "o": other}, edges=edges), concurrency=2)
            assert await flow.acall(range(8)) == [("met", "other")] * 8

    asyncio.run(asyncio.wait_for(main(), 20))


def test_eight_functions_meet_two_at_a_time() -> None:
    assert Parallel(*[functions_at(threading.Barrier(8))] * 8, concurrency=2)(0) == ("met",) * 8
    assert Warp(functions_at(threading.Barrier(8)), concurrency=2).stream(range(8)).result == ["met"] * 8


def test_who_waits_elsewhere_counts() -> None:
    async def main() -> None:
        go_on, most = asyncio.Event(), list[int]()

        async def wait(x: Any) -> None:
            most.append(x)
            await go_on.wait()

        task = asyncio.create_task(Warp(wait, concurrency=2).acall(range(8)))
        await asyncio.sleep(3 * fanout.PATIENCE)
        assert most == [0, 1]
        go_on.set()
        await task

    asyncio.run(main())


@pytest.mark.parametrize("asynchronous", [True, False])
def test_seven_of_eight_never_meet_and_end_by_a_timeout(asynchronous: bool) -> None:
    """Nobody can tell that from any other wait; and nothing is left of it."""
    barrier = threading.Barrier(8)

    def meet(x: Any) -> None:
        try:
            barrier.wait(10)
        except threading.BrokenBarrierError:
            pass

    async def main() -> None:
        meeting = asyncio.Barrier(8)

        async def meet_async(x: Any) -> None:
            await meeting.wait()

        with pytest.raises(RunTimeout):
            await Parallel(*[meet_async] * 7).acall(0, timeout=0.05)
        assert meeting.n_waiting == 0

    if asynchronous:
        asyncio.run(main())
    else:
        with pytest.raises(RunTimeout):
            Parallel(*[meet] * 7)(0, timeout=0.2)
        assert status().abandoned == 7
        barrier.abort()
    eventually(lambda: status() == type(status())(0, 0))


# ---------------------------------------------------------------- in the pool


def test_functions_that_nobody_waits_for_take_no_place_in_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "POOL", Pool(most=2))
    monkeypatch.setattr(Pool, "PATIENCE", 60.0)
    go_on, begun = threading.Event(), threading.Semaphore(0)

    def stuck(x: int) -> None:
        begun.release()
        go_on.wait(30)

    for abandoned in (2, 4, 6):
        run = Parallel(stuck, stuck).start(0)
        assert begun.acquire(timeout=5)
        assert begun.acquire(timeout=5)
        run.cancel()
        eventually(lambda abandoned=abandoned: status().abandoned == abandoned)  # type: ignore[misc]
    assert Parallel(str, str).stream(5, timeout=20).result == ("5", "5")
    go_on.set()
    eventually(lambda: status().abandoned == 0)


# ---------------------------------------------------------------- on one stream


def slots(make: Callable[[Any], Any]) -> list[Any]:
    return [make(count), make(count_in_a_thread)]


@pytest.mark.parametrize("counting", slots(lambda f: step(f, concurrency=1)), ids=["coroutine", "function"])
def test_branches_of_one_stream_that_share_a_slot(counting: Any) -> None:
    """One would wait for the slot, and the stream for it: the other could never end."""
    for flow in (
        Pipeline(letters, Parallel(counting, counting, collect=sum)),
        Pipeline(letters, Parallel(Pipeline(dotted, counting), Pipeline(dotted, counting), collect=sum)),
        Pipeline(letters, Parallel(Parallel(counting, counting, collect=sum), collect=sum)),
    ):
        assert flow(LONG, timeout=20) == 2 * LONG
    with Graph() as g:
        g.letters, g.a, g.b, g.both = letters, counting, counting, both
        g.edge(g.input, g.letters)
        g.edge(g.letters, g.a)
        g.edge(g.letters, g.b)
        g.edge((g.a, g.b), g.both)
        g.edge(g.both, g.output)
    assert g(LONG, timeout=20) == 2 * LONG


def test_a_live_step_with_one_slot_behind_itself() -> None:
    limited = step(dotted, concurrency=1)
    assert Pipeline(letters, limited, limited, count)(LONG, timeout=20) == LONG
    assert Pipeline(letters, Loop(limited, count=3), count)(LONG, timeout=20) == LONG


def test_a_step_with_one_slot_that_calls_itself() -> None:
    def again(x: int) -> int:
        return x if x == 0 else sum(Parallel(flow, flow)(x - 1)) + 1

    async def again_async(x: int) -> int:
        return x if x == 0 else sum(await Parallel(flow_async, flow_async).acall(x - 1)) + 1

    flow = Pipeline(step(again, concurrency=1))
    flow_async = Pipeline(step(again_async, concurrency=1))
    assert flow(4, timeout=20) == flow_async(4, timeout=20) == 15


@pytest.mark.parametrize("concurrency", [1, 2, 3, None])
def test_branches_of_one_stream_fewer_at_a_time(concurrency: int | None) -> None:
    flow = Pipeline(
        letters,
        Parallel(
            count,
            len,
            Parallel(
                count, count_in_a_thread, dotted, concurrency=concurrency, collect=lambda found: found[0]
            ),
            count_in_a_thread,
            collect=sum,
            concurrency=concurrency,
        ),
    )
    assert flow(LONG, timeout=20) == flow.stream(LONG, timeout=20).result == 4 * LONG


# ---------------------------------------------------------------- calls that would block their own loop


def test_a_synchronous_call_on_our_loop_raises_and_never_hangs() -> None:
    inner, inline = Pipeline(str), step(lambda x: inner(x), name="inline", inline=True)
    for flow in (
        Pipeline(inline),
        Parallel(inline),
        Pipeline(letters, Loop(inline, count=1)),
        Pipeline(letters, lambda x: [x], Warp(inline)),
    ):
        with pytest.raises(FlowCallError, match="acall"):
            flow.stream(1, timeout=20).result  # noqa: B018
    for call in (
        lambda x: list(inner.stream(x)),
        lambda x: list(inner.stream(x).text()),
        lambda x: inner.stream(x).__enter__(),
        lambda x: inner.batch([x]),
    ):
        with pytest.raises(FlowCallError, match="acall"):
            Pipeline(step(call, inline=True)).stream(1, timeout=20).result  # noqa: B018


@pytest.mark.anyio
async def test_a_synchronous_call_on_a_loop_of_the_users_works() -> None:
    flow = Pipeline(letters, Parallel(count, count_in_a_thread, collect=sum))
    assert flow(3) == 6
    assert flow.batch([1, 2]) == [2, 4]
    assert list(Pipeline(letters).stream(3).text()) == ["x", "x", "x"]
