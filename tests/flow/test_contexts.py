"""Context variables: a step sees the caller's, and what the steps before it in its run have set; nobody else does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from millrace import Diverter, If, Loop, Parallel, Pipeline, Switch, Warp, bind, step

MINE: ContextVar[str] = ContextVar("mine", default="unset")
CALLERS: ContextVar[str] = ContextVar("callers", default="unset")


@pytest.fixture(params=["call", "acall", "stream", "async stream", "start", "batch"])
def way(request: pytest.FixtureRequest) -> Any:
    return WAYS[request.param]


async def _read(flow: Any, x: Any) -> Any:
    async with flow.stream(x) as stream:
        async for _ in stream:
            pass
    return stream.result


WAYS: dict[str, Callable[[Any, Any], Any]] = {
    "call": lambda flow, x: flow(x),
    "acall": lambda flow, x: asyncio.run(flow.acall(x)),
    "stream": lambda flow, x: flow.stream(x).result,
    "async stream": lambda flow, x: asyncio.run(_read(flow, x)),
    "start": lambda flow, x: flow.start(x).result(10),
    "batch": lambda flow, x: flow.batch([x])[0],
}


def see(x: Any) -> str:
    return f"{x} {MINE.get()}"


async def see_async(x: Any) -> str:
    return f"{x} {MINE.get()}"


def set_in_a_function(x: Any) -> Any:
    MINE.set("set")
    return x


async def set_in_a_coroutine(x: Any) -> Any:
    MINE.set("set")
    await asyncio.sleep(0)
    return x


def set_in_a_generator(x: Any) -> Iterator[str]:
    MINE.set("set")
    yield str(x)


async def set_in_an_async_generator(x: Any) -> AsyncIterator[str]:
    MINE.set("set")
    yield str(x)


async def set_by_a_live_coroutine(pieces: AsyncIterator[str]) -> str:
    MINE.set("set")
    return "".join([piece async for piece in pieces])


def set_by_a_live_function(pieces: Iterator[str]) -> str:
    MINE.set("set")
    return "".join(pieces)


def set_by_a_live_generator(pieces: Iterator[str]) -> Iterator[str]:
    MINE.set("set")
    yield from pieces


SETTERS: list[Any] = [
    set_in_a_function,
    set_in_a_coroutine,
    set_in_a_generator,
    set_in_an_async_generator,
    set_by_a_live_coroutine,
    set_by_a_live_function,
    set_by_a_live_generator,
    step(set_in_a_function, name="inline", inline=True),
    lambda x: set_in_a_coroutine(x),
    lambda x: set_in_a_generator(x),
]


def ids(setter: Any) -> str:
    return getattr(setter, "__name__", None) or str(setter.name)


# ---------------------------------------------------------------- where it is seen


@pytest.mark.parametrize("setter", SETTERS, ids=ids)
def test_what_a_step_sets_is_seen_behind_it(setter: Any, way: Any) -> None:
    assert way(Pipeline(setter, see), "x") == "x set"
    assert way(Pipeline(setter, see_async), "x") == "x set"
    assert way(Pipeline(str, Pipeline(setter, name="inner"), see), "x") == "x set"
    assert way(Pipeline(str, see, setter, Pipeline(see_async, name="inner")), "x") == "x unset set"
    assert MINE.get() == "unset"


@pytest.mark.parametrize("setter", SETTERS, ids=ids)
@pytest.mark.parametrize("seer", [see, see_async])
def test_it_is_seen_behind_a_switch_and_a_loop(setter: Any, seer: Any) -> None:
    for flow in (
        Pipeline(Switch({"x": setter}), seer),
        Pipeline(If(bool, setter), seer),
        Pipeline(Loop(setter, count=2), seer),
        Pipeline(Loop(setter, until=bool), seer),
        Pipeline(setter, Switch({"x": seer})),
        Pipeline(setter, Parallel(seer, collect="".join)),
        Pipeline(setter, list, Warp(seer, collect="".join)),
        Pipeline(setter, list, Diverter(seer, collect="".join)),
        Pipeline(setter, Loop(seer, count=1)),
        Pipeline(setter, lambda x: Pipeline(seer)(x)),
        Pipeline(lambda x: Pipeline(setter)(x), seer),
        Pipeline(lambda x: Pipeline(str, set_in_a_coroutine, setter)(x), seer),
    ):
        for way in WAYS.values():
            assert way(flow, "x") == "x set", flow
    assert MINE.get() == "unset"


def test_what_a_predicate_or_a_key_sets_is_seen_in_the_branch(way: Any) -> None:
    def is_set(x: Any) -> bool:
        MINE.set("set")
        return True

    async def is_set_async(x: Any) -> bool:
        MINE.set("set")
        return True

    for predicate in (is_set, is_set_async):
        assert way(Switch({predicate: see}), "x") == "x set"
        assert way(If(predicate, see), "x") == "x set"
        assert way(Switch({True: see}, key=predicate), "x") == "x set"
        assert way(Pipeline(Loop(str, until=predicate), see), "x") == "x set"


def test_what_a_step_sets_is_seen_in_bound_steps(way: Any) -> None:
    with Pipeline() as p:
        p.first = set_in_a_coroutine
        p.second = set_in_a_generator
        p.last = bind(lambda given: see(given), p.input)
    assert way(p, "x") == "x set"


# ---------------------------------------------------------------- while pieces pass


async def numbered(n: int) -> AsyncIterator[str]:
    for i in range(n):
        MINE.set(f"{i}")
        yield f"{i}"


def numbered_in_a_thread(n: int) -> Iterator[str]:
    for i in range(n):
        MINE.set(f"{i}")
        yield f"{i}"


async def looks(pieces: AsyncIterator[str]) -> AsyncIterator[str]:
    async for piece in pieces:
        yield f"{piece}:{MINE.get()} "


def looks_in_a_thread(pieces: Iterator[str]) -> Iterator[str]:
    for piece in pieces:
        yield f"{piece}:{MINE.get()} "


async def looks_at_all(pieces: AsyncIterator[str]) -> str:
    return "".join([f"{piece}:{MINE.get()} " async for piece in pieces])


def looks_at_all_in_a_thread(pieces: Iterator[str]) -> str:
    return "".join(f"{piece}:{MINE.get()} " for piece in pieces)


LOOKERS = [looks, looks_in_a_thread, looks_at_all, looks_at_all_in_a_thread]


@pytest.mark.parametrize("source", [numbered, numbered_in_a_thread])
@pytest.mark.parametrize("looker", LOOKERS)
def test_it_travels_with_the_pieces(source: Any, looker: Any) -> None:
    for flow in (
        Pipeline(source, looker),
        Pipeline(Pipeline(source, name="a"), Pipeline(looker, name="b")),
        Pipeline(source, Parallel(looker, collect="".join)),
        Pipeline(source, Parallel(looker, looker, collect=lambda found: found[1])),
        Pipeline(source, Parallel(looker, looker, concurrency=1, collect=lambda found: found[1])),
    ):
        for way in WAYS.values():
            assert way(flow, 3) == "0:0 1:1 2:2 ", flow
    assert MINE.get() == "unset"


@pytest.mark.parametrize("source", [numbered, numbered_in_a_thread])
def test_also_to_a_branch_that_waits_for_all_of_them(source: Any, way: Any) -> None:
    assert way(Pipeline(source, Parallel(looks, see)), 3) == ("0:0 1:1 2:2 ", "012 2")
    joined = Parallel(looks, str, collect="".join)
    assert way(Pipeline(source, joined, see), 2) == "0:0 1:1 01 1"


@pytest.mark.parametrize("source", [numbered, numbered_in_a_thread])
@pytest.mark.parametrize("asynchronously", [True, False])
def test_a_later_setting_is_not_undone(source: Any, asynchronously: bool) -> None:
    """By what came from further up and is older, when that ends."""

    async def sets(pieces: AsyncIterator[str]) -> str:
        async for _ in pieces:
            MINE.set("mine")
        return "end"

    def sets_in_a_thread(pieces: Iterator[str]) -> str:
        for _ in pieces:
            MINE.set("mine")
        return "end"

    assert Pipeline(source, sets if asynchronously else sets_in_a_thread, see)(3) == "end mine"


def test_a_consumer_that_leaves_early_has_what_was_set_so_far(way: Any) -> None:
    async def first(pieces: AsyncIterator[str]) -> str:
        return await anext(pieces)

    for source in (numbered, numbered_in_a_thread):
        assert way(Pipeline(source, first, see), 1000) == "0 0"


# ---------------------------------------------------------------- where it is not seen


@pytest.mark.parametrize("setter", SETTERS, ids=ids)
def test_it_is_not_seen_in_other_branches_nor_behind_them(setter: Any, way: Any) -> None:
    began = threading.Event()

    def sets_and_tells(x: Any) -> None:
        began.set()

    def waits_and_sees(x: Any) -> str:
        assert began.wait(10)
        return see(x)

    flow = Pipeline(
        Parallel(Pipeline(setter, sets_and_tells), waits_and_sees, collect=lambda found: found[1]), see
    )
    assert way(flow, "x") == "x unset unset"
    began.clear()
    assert way(Pipeline(Warp(Pipeline(see, setter)), " ".join, see), ["a", "b"]) == "a unset b unset unset"
    assert MINE.get() == "unset"


@pytest.mark.parametrize("setter", SETTERS, ids=ids)
def test_it_is_not_seen_in_other_runs_nor_by_the_caller(setter: Any) -> None:
    flow = Pipeline(see_async, setter)

    async def many() -> None:
        found = await asyncio.gather(*(flow.acall(i) for i in range(20)))
        assert found == [f"{i} unset" for i in range(20)]
        assert MINE.get() == "unset"

    asyncio.run(many())
    assert flow.batch(range(5)) == [f"{i} unset" for i in range(5)]
    assert flow(1) == flow(1) == "1 unset"
    assert MINE.get() == "unset"


@pytest.mark.parametrize("setter", SETTERS, ids=ids)
def test_the_callers_are_seen_in_every_step(setter: Any, way: Any) -> None:
    seen: list[str] = []

    def look(x: Any) -> Any:
        seen.append(CALLERS.get())
        return x

    async def look_async(x: Any) -> Any:
        return look(x)

    def look_in_pieces(x: Any) -> Iterator[str]:
        seen.append(CALLERS.get())
        yield x

    async def look_live(pieces: AsyncIterator[str]) -> AsyncIterator[str]:
        seen.append(CALLERS.get())
        async for piece in pieces:
            yield piece

    def look_live_in_a_thread(pieces: Iterator[str]) -> Iterator[str]:
        seen.append(CALLERS.get())
        yield from pieces

    flow = Pipeline(
        look,
        look_async,
        setter,
        look_in_pieces,
        look_live,
        look_live_in_a_thread,
        Parallel(look, look_async, look_live, look_in_pieces, collect=lambda found: found[0]),
        Switch({look: Loop(look, count=1)}, key=look),
        lambda x: [x],
        Warp(look_live),
        Loop(look_async, until=look),
    )
    token = CALLERS.set("alice")
    try:
        assert way(flow, "x") == ["x"]
    finally:
        CALLERS.reset(token)
    assert seen == ["alice"] * 15


def test_a_stream_keeps_the_context_it_was_made_in() -> None:
    token = CALLERS.set("alice")
    stream = Pipeline(lambda x: CALLERS.get()).stream(0)
    CALLERS.reset(token)
    assert list(stream.text()) == ["alice"]


def test_what_the_consumer_of_a_stream_sets_stays_with_the_consumer() -> None:
    seen = []
    for i, piece in enumerate(Pipeline(numbered, looks).stream(3).text()):
        seen.append((piece, MINE.get()))
        MINE.set(f"consumer {i}")
    assert seen == [("0:0 ", "unset"), ("1:1 ", "consumer 0"), ("2:2 ", "consumer 1")]
    MINE.set("unset")
