"""Many flows in each other, one flow many times at once, and flows that call themselves."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from millrace import Graph, If, Loop, Parallel, Pipeline, Switch, Warp, bind, step
from millrace.streaming import FlowBuildError, RunCancelled, TextDelta, current_run, current_session, status
from tests.support.leaks import eventually

DEEP = 300

MINE: ContextVar[int] = ContextVar("mine", default=-1)


def add(x: int) -> int:
    return x + 1


async def add_async(x: int) -> int:
    return x + 1


async def letters(n: Any) -> AsyncIterator[str]:
    for _ in range(3):
        yield "x"


async def passes(pieces: AsyncIterator[str]) -> AsyncIterator[str]:
    async for piece in pieces:
        yield piece


def passes_in_a_thread(pieces: Iterator[str]) -> Iterator[str]:
    yield from pieces


async def count(pieces: AsyncIterator[str]) -> int:
    return len([piece async for piece in pieces])


def same(x: Any) -> Any:
    return x


def only(found: Any) -> Any:
    return found[0]


AROUND: dict[str, Callable[[Any], Any]] = {
    "unnamed pipelines": lambda flow: Pipeline(flow),
    "named pipelines": lambda flow: Pipeline(flow, name="p"),
    "pipelines of two": lambda flow: Pipeline(flow, same, name="p"),
    "parallels": lambda flow: Parallel(flow, collect=only),
    "ifs": lambda flow: If(lambda x: True, flow),
    "switches": lambda flow: Switch({}, default=flow),
    "loops": lambda flow: Loop(flow, count=1),
    "loops until": lambda flow: Loop(flow, until=lambda x: True),
    "warps": lambda flow: Pipeline(lambda x: [x], Warp(flow, collect=only)),
    "graphs": lambda flow: Graph({"n": flow}, edges=[("input", "n"), ("n", "output")]),
    "policies": lambda flow: step(flow, timeout=600),
    "bindings": lambda flow: bind(flow),
}


def nested(kind: str, inner: Any, depth: int = DEEP) -> Any:
    flow = Pipeline(inner)
    for _ in range(depth):
        flow = AROUND[kind](flow)
    return flow


@pytest.mark.parametrize("kind", AROUND)
def test_three_hundred_in_each_other(kind: str) -> None:
    for function in (add, add_async):
        flow = nested(kind, function)
        assert flow(1) == flow.stream(1).result == asyncio.run(flow.acall(1)) == 2


@pytest.mark.parametrize("kind", AROUND)
def test_a_stream_through_three_hundred_in_each_other(kind: str) -> None:
    for inner in (passes, passes_in_a_thread):
        flow = Pipeline(letters, nested(kind, inner), lambda text: text)
        assert flow(1) == flow.stream(1).result == asyncio.run(flow.acall(1)) == "xxx"
    assert Pipeline(nested(kind, letters), passes).stream(1).result == "xxx"
    if kind in ("named pipelines", "loops", "graphs", "policies"):  # no pieces are lost on the way
        events = list(Pipeline(letters, nested(kind, passes), passes).stream(1))
        assert [event.text for event in events if isinstance(event, TextDelta) and event.output] == ["x"] * 3


def test_an_error_in_the_deep_has_a_short_note() -> None:
    def fails(x: Any) -> None:
        raise LookupError("gone")

    for flow in (nested("named pipelines", fails), Pipeline(letters, nested("named pipelines", fails))):
        with pytest.raises(LookupError) as raised:
            flow(1)
        (note,) = raised.value.__notes__
        assert note.startswith("in p > p > p > ")
        assert " more) > " in note
        assert note.count(" > p > fails (test_depths.py:") == 1
        assert len(note) < 300


@pytest.mark.parametrize("kind", ["named pipelines", "ifs", "switches", "loops", "policies"])
def test_too_deep_is_refused_when_it_is_built(kind: str) -> None:
    with pytest.raises(
        FlowBuildError, match=r"nested \d+ deep, .* limit of 1000 allows 313; write it flatter"
    ):
        Pipeline(nested(kind, add, 1000), name="outer")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(3000)
    try:
        assert nested("named pipelines", add_async, 500)(1) == 2
    finally:
        sys.setrecursionlimit(limit)


@pytest.mark.parametrize("kind", ["unnamed pipelines", "parallels", "warps"])
def test_what_takes_no_stack_may_be_deeper(kind: str) -> None:
    assert nested(kind, add, 1000)(1) == 2


# ---------------------------------------------------------------- one flow, many times


async def who(x: int) -> tuple[int, str | None, int]:
    MINE.set(x)
    for _ in range(x % 7):
        await asyncio.sleep(0)
    return x, current_session(), MINE.get()


def who_in_a_thread(x: tuple[int, str | None, int]) -> tuple[Any, ...]:
    return (*x, current_session(), MINE.get())


async def told(x: tuple[Any, ...]) -> AsyncIterator[str]:
    for part in x:
        yield f"{part} "
        await asyncio.sleep(0)


def expected(i: int) -> str:
    return f"{i} s{i} {i} s{i} {i} "


def test_one_flow_in_a_thousand_sessions_at_once() -> None:
    with Pipeline(name="shared") as flow:
        flow.who = who
        flow.again = who_in_a_thread
        flow.told = told
        flow.all = bind(lambda x, who, text: (x, who[0], text), flow.input, flow.who, flow.told)

    async def main() -> None:
        found = await asyncio.gather(*(flow.acall(i, session=f"s{i}") for i in range(1000)))
        assert found == [(i, i, expected(i)) for i in range(1000)]

    asyncio.run(main())
    assert status() == type(status())(0, 0)


def test_one_flow_streams_to_many_listeners_at_once() -> None:
    flow = Pipeline(Loop(who, count=1), who_in_a_thread, told)

    async def listen(i: int) -> str:
        pieces = [piece async for piece in flow.stream(i, session=f"s{i}").text()]
        return "".join(pieces)

    async def main() -> None:
        assert await asyncio.gather(*map(listen, range(200))) == [expected(i) for i in range(200)]

    asyncio.run(main())


def test_one_flow_in_threads_and_loops_at_once() -> None:
    flow = Pipeline(who, Loop(lambda x: x, count=2), who_in_a_thread, told)
    found: dict[int, str] = {}

    def one(i: int) -> None:
        if i % 3 == 0:
            found[i] = flow(i, session=f"s{i}")
        elif i % 3 == 1:
            found[i] = asyncio.run(flow.acall(i, session=f"s{i}"))
        else:
            found[i] = "".join(flow.stream(i, session=f"s{i}").text())

    threads = [threading.Thread(target=one, args=(i,)) for i in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == {i: expected(i) for i in range(60)}


# ---------------------------------------------------------------- flows that call themselves


def test_a_flow_that_calls_itself() -> None:
    def down(x: int) -> list[int]:
        MINE.set(x)
        below = flow(x - 1) if x else []
        return [*below, x]

    async def down_async(x: int) -> list[int]:
        return [*(await flow_async.acall(x - 1) if x else []), x]

    def down_by_turns(x: int) -> list[int]:
        return [*(by_turns(x - 1) if x else []), x]

    flow: Pipeline[int, list[int]] = Pipeline(down, name="flow")
    flow_async: Pipeline[int, list[int]] = Pipeline(down_async, Pipeline(list, name="inner"))
    by_turns: Pipeline[int, list[int]] = Pipeline(add_async, lambda x: x - 1, down_by_turns, add_none)
    for made in (flow, flow_async, by_turns):
        wanted = list(range(31))
        assert made(30) == made.stream(30).result == asyncio.run(made.acall(30)) == wanted


async def add_none(x: list[int]) -> list[int]:
    return x


def test_a_flow_that_calls_itself_several_times_at_once() -> None:
    async def fibonacci(n: int) -> int:
        return n if n < 2 else sum(await Warp(flow).acall([n - 1, n - 2]))

    def fibonacci_in_a_thread(n: int) -> int:
        return n if n < 2 else sum(Parallel(lambda x: in_threads(x - 1), lambda x: in_threads(x - 2))(n))

    flow: Pipeline[int, int] = Pipeline(fibonacci)
    in_threads: Pipeline[int, int] = Pipeline(fibonacci_in_a_thread)
    assert flow(10) == 55
    assert in_threads(7) == 13


def test_each_level_has_a_longer_path_in_the_same_run() -> None:
    runs: set[Any] = set()

    async def down(x: int) -> int:
        runs.add(current_run())
        return x if x == 0 else await flow.acall(x - 1)

    flow: Pipeline[int, int] = Pipeline(down, name="flow")
    paths = [
        event.path for event in flow.stream(3) if event.kind == "step_started" and event.path[-1] == "down"
    ]
    assert paths == [("down", *["flow", "down"] * i) for i in range(4)]
    assert len(runs) == 1


@pytest.mark.parametrize("asynchronous", [True, False])
def test_without_an_end_it_ends_where_the_stack_does(asynchronous: bool) -> None:
    def for_ever(x: int) -> int:
        return flow(x + 1)

    async def for_ever_async(x: int) -> int:
        return await flow_async.acall(x + 1)

    flow: Pipeline[int, int] = Pipeline(for_ever)
    flow_async: Pipeline[int, int] = Pipeline(for_ever_async)
    with pytest.raises(RecursionError) as raised:
        (flow_async if asynchronous else flow)(0)
    (note,) = raised.value.__notes__
    assert len(note) < 500
    assert Pipeline(add_async, add)(1) == Pipeline(add).stream(2).result == 3
    eventually(lambda: status() == type(status())(0, 0))


def test_a_stop_reaches_all_levels() -> None:
    deepest, ended = threading.Event(), []

    async def down(x: int) -> None:
        try:
            if x:
                await flow.acall(x - 1)
            deepest.set()
            await asyncio.Event().wait()
        finally:
            ended.append(x)

    def down_in_a_thread(x: int) -> None:
        if x:
            in_threads(x - 1)
        else:
            flow(3)

    flow: Pipeline[int, None] = Pipeline(down)
    in_threads: Pipeline[int, None] = Pipeline(add_async, lambda x: x - 1, down_in_a_thread)
    with pytest.raises(RunCancelled), in_threads.stream(20) as stream:
        assert deepest.wait(10)
        stream.run.cancel()
        list(stream)
    eventually(lambda: sorted(ended) == [0, 1, 2, 3] and status() == type(status())(0, 0))
