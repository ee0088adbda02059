"""The algebra of flows: what holds for all values, all steps and all ways to nest and call them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace import (
    Args,
    Diverter,
    Graph,
    If,
    Loop,
    Parallel,
    Pipeline,
    Step,
    Switch,
    Warp,
    arg,
    bind,
    step,
)
from millrace.streaming import Data, TextDelta
from tests.support.random_flows import Plan, Witness, leaves, plans


def every_way(flow: Any, x: Any) -> Any:
    """The value that all ways of calling give."""
    value = flow(x)
    for other in (
        flow.stream(x).result,
        asyncio.run(flow.acall(x)),
        flow.batch([x])[0],
        flow.start(x).result(20),
    ):
        assert other == value
        assert type(other) is type(value)
    return value


def same(x: Any) -> Any:
    return x


async def same_async(x: Any) -> Any:
    await asyncio.sleep(0)
    return x


def yields(x: Any) -> Iterator[Any]:
    yield x


# ---------------------------------------------------------------- nesting

SEEDS = st.integers(0, 10_000)


def bracketed(steps: list[Any], seed: int) -> Pipeline[Any, Any]:
    """The same steps in pipelines in pipelines, some of them named."""
    left, rnd = list(steps), random.Random(seed)
    while len(left) > 1:
        start = rnd.randrange(len(left) - 1)
        end = rnd.randrange(start + 2, len(left) + 1)
        left[start:end] = [Pipeline(*left[start:end], name=rnd.choice([None, "inner"]))]
        if rnd.random() < 0.2:
            left.insert(rnd.randrange(len(left) + 1), Pipeline())
    return Pipeline(*left)


def said(flow: Step[Any, Any], x: Any) -> list[tuple[str, bool]]:
    return [(event.text, event.output) for event in flow.stream(x) if isinstance(event, TextDelta)]


@settings(max_examples=80, deadline=None)
@given(st.lists(leaves, min_size=2, max_size=7), st.sampled_from(["", "x", "aB", "hello world"]), SEEDS)
def test_nesting_is_associative_in_results_and_in_what_is_said(some: list[Plan], x: str, seed: int) -> None:
    steps = [plan.build(Witness()) for plan in some]
    flat, nested = Pipeline(*steps), bracketed(steps, seed)
    expected = Plan("pipeline", tuple(some)).value(x)
    assert every_way(flat, x) == every_way(nested, x) == expected
    assert said(nested, x) == said(flat, x)
    assert list(nested.stream(x).text()) == list(flat.stream(x).text())


@settings(max_examples=50, deadline=None)
@given(st.lists(plans(4), min_size=2, max_size=4), st.sampled_from(["", "x", "hello world"]), SEEDS)
def test_nesting_of_flows_is_associative(some: list[Plan], x: str, seed: int) -> None:
    steps = [plan.build(Witness()) for plan in some]
    expected = Plan("pipeline", tuple(some)).value(x)
    assert (
        Pipeline(*steps)(x)
        == bracketed(steps, seed)(x)
        == bracketed(steps, seed).stream(x).result
        == expected
    )


@settings(max_examples=50, deadline=None)
@given(leaves, st.sampled_from(["", "x", "hello world"]), st.sampled_from([None, "named"]))
def test_a_flow_of_one_step_is_that_step(plan: Plan, x: str, name: str | None) -> None:
    made = plan.build(Witness())
    for flow in (
        Pipeline(made, name=name),
        Pipeline(Pipeline(), made, name=name),
        Pipeline(made, Pipeline(), name=name),
        Loop(made, count=1, name=name),
        If(lambda x: True, made, name=name),
        Switch({}, default=made, name=name),
        Parallel(made, collect=lambda found: found[0], name=name),
        Pipeline(lambda x: [x], Warp(made, collect=lambda found: found[0]), name=name),
        Graph({"n": made}, edges=[("input", "n"), ("n", "output")], name=name),
        bind(made, arg[0]),
    ):
        assert flow(x) == flow.stream(x).result == plan.value(x)


# ---------------------------------------------------------------- a value beside its pieces


def pieces_and_value(x: Any) -> Generator[str, None, Any]:
    """Its value is not what its pieces are together."""
    yield "piece"
    return {"value": x}


async def digits(x: Any) -> AsyncIterator[str]:
    for digit in str(x):
        yield digit


async def count(pieces: AsyncIterator[Any]) -> int:
    return len([piece async for piece in pieces])


def given_and_count() -> Any:
    with Pipeline(name="written") as p:
        p.count = count
        p.both = bind(lambda given, found: (found, given), p.input, p.count)
    return p


def nodes() -> Any:
    with Graph() as g:
        g.count, g.same, g.both = count, same, lambda a, b: (a, b)
        g.edge(g.input, g.count)
        g.edge(g.input, g.same)
        g.edge((g.count, g.same), g.both)
        g.edge(g.both, g.output)
    return g


SOURCES: dict[str, tuple[Any, Any]] = {
    "what a generator returns": (pieces_and_value, {"value": 5}),
    "a branch that does not stream": (Switch({"x": digits}, default=lambda x: x), 5),
    "one of items": (yields, [5]),
}
TAKERS: dict[str, Any] = {
    "branches": Parallel(count, same),
    "branches in a pipeline": Pipeline(Parallel(count, same), name="inner"),
    "branches in branches": Parallel(Parallel(count, same), collect=lambda found: found[0]),
    "branches that are chosen": Parallel(count, same, choose=lambda x: [0, 1]),
    "branches one at a time": Parallel(count, same, concurrency=1),
    "branches under a policy": step(Parallel(count, same), retry=2),
    "the input of a flow": given_and_count(),
    "nodes": nodes(),
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("taker", TAKERS)
def test_a_step_that_takes_no_stream_is_given_the_value(source: str, taker: str) -> None:
    made, value = SOURCES[source]
    flow = Pipeline(made, TAKERS[taker], lambda *both: both[0] if len(both) == 1 else both)
    for way in (lambda f: f(5), lambda f: f.stream(5).result, lambda f: asyncio.run(f.acall(5))):
        counted, given = way(flow)
        assert given == value
        if taker != "branches that are chosen":  # which are given all of it, like others
            assert counted == 1


@pytest.mark.parametrize("source", SOURCES)
def test_a_flow_that_does_nothing_passes_the_value(source: str) -> None:
    made, value = SOURCES[source]
    nothing: Any = Pipeline(name="nothing")
    for flow in (
        Pipeline(made, nothing),
        Pipeline(made, nothing, same),
        Pipeline(made, Pipeline(nothing, same, name="x")),
    ):
        assert flow(5) == flow.stream(5).result == value


# ---------------------------------------------------------------- branches and items


def late(ticks: int, name: Any) -> Any:
    async def waits(x: Any) -> Any:
        for _ in range(ticks):
            await asyncio.sleep(0)
        return name, x

    return waits


ORDERS = st.lists(st.integers(0, 20), max_size=8)
LIMITS = st.sampled_from([None, 1, 2, 3])


@settings(max_examples=100, deadline=None)
@given(ORDERS, LIMITS, st.sampled_from(["raise", "keep"]))
def test_branches_keep_their_order_whichever_is_first(ticks: list[int], limit: Any, on_error: Any) -> None:
    branches = [late(count, i) for i, count in enumerate(ticks)]
    expected = [(i, "x") for i in range(len(ticks))]
    flow = Parallel(*branches, concurrency=limit, on_error=on_error)
    assert list(flow("x")) == list(flow.stream("x").result) == expected
    named = Parallel(**{f"n{i}": b for i, b in enumerate(branches)}, concurrency=limit, on_error=on_error)
    if branches:
        assert list(named("x").items()) == [(f"n{i}", value) for i, value in enumerate(expected)]
    diverter = Diverter(*branches, concurrency=limit, on_error=on_error)
    assert list(diverter(list(range(len(ticks))))) == [(i, i) for i in range(len(ticks))]


@settings(max_examples=100, deadline=None)
@given(leaves, st.lists(st.text("abC", max_size=3), max_size=6), LIMITS)
def test_a_warp_of_a_step_is_a_list_of_its_values(plan: Plan, xs: list[str], limit: Any) -> None:
    made = plan.build(Witness())
    flow = Warp(made, concurrency=limit)
    assert flow(xs) == flow.stream(xs).result == flow(iter(xs)) == [plan.value(x) for x in xs]
    assert Warp(flow)([xs, xs]) == [[plan.value(x) for x in xs]] * 2
    assert Warp(made, collect="".join, concurrency=limit)(xs) == "".join(plan.value(x) for x in xs)
    assert Pipeline(made).batch(xs, concurrency=limit) == [plan.value(x) for x in xs]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=8), LIMITS)
def test_items_keep_their_order_whichever_is_first(ticks: list[int], limit: Any) -> None:
    async def waits(count: int) -> int:
        for _ in range(count):
            await asyncio.sleep(0)
        return count

    assert Warp(waits, concurrency=limit)(ticks) == ticks
    assert Pipeline(waits).batch(ticks, concurrency=limit) == ticks


# ---------------------------------------------------------------- falsy values

FALSY: list[Any] = [None, 0, 0.0, False, "", b"", [], {}, set(), (), range(0)]


async def yields_async(x: Any) -> AsyncIterator[Any]:
    yield x


def returns(x: Any) -> Generator[str, None, Any]:
    yield "a"
    return x


async def first(pieces: AsyncIterator[Any]) -> Any:
    return await anext(pieces)


def first_in_a_thread(pieces: Iterator[Any]) -> Any:
    return next(pieces)


async def passes(pieces: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for piece in pieces:
        yield piece


def written() -> Any:
    with Pipeline() as p:
        p.first = same_async
        p.second = bind(lambda *values: values, p.input, p.first)
        p.third = bind(lambda given, both: both[1], p.input, p.second)
    return p


def graph() -> Any:
    with Graph() as g:
        g.a, g.b, g.end = same, same_async, lambda a, b: a
        g.edge(g.input, g.a)
        g.edge(g.input, g.b)
        g.edge((g.a, g.b), g.end)
        g.edge(g.end, g.output)
    return g


PASSING: dict[str, Any] = {
    "nothing": Pipeline(),
    "functions": Pipeline(same, same),
    "coroutines": Pipeline(same_async, same_async),
    "both": Pipeline(same, same_async, same, name="named"),
    "nested": Pipeline(same_async, Pipeline(same, Pipeline(name="empty"), name="inner"), same),
    "inline": Pipeline(step(same, inline=True), same_async),
    "late": Pipeline(lambda x: same_async(x), same),
    "live": Pipeline(yields, first),
    "live, in a thread": Pipeline(yields_async, first_in_a_thread),
    "live, of a value": Pipeline(same_async, first),
    "live, three": Pipeline(yields_async, passes, passes, first),
    "branch": Parallel(same, same_async, collect=lambda found: found[1]),
    "named branch": Parallel(a=same, b=same_async, collect=lambda found: found["b"]),
    "branch of a stream": Pipeline(yields_async, Parallel(first, passes, collect=lambda found: found[0])),
    "post": Parallel(same, collect=lambda found: found[0], post=same_async),
    "diverted": Pipeline(lambda x: [x, 1], Diverter(same_async, same, collect=lambda found: found[0])),
    "item": Pipeline(lambda x: [x], Warp(same_async, collect=lambda found: found[0])),
    "case": Switch({(lambda x: True): same_async}),
    "default": Switch({(lambda x: False): str}, default=same),
    "then": If(lambda x: True, same),
    "otherwise": If(lambda x: False, str, same_async),
    "neither": If(lambda x: False, str),
    "turns": Loop(same_async, count=3),
    "until": Loop(same, until=lambda x: True),
    "bound": Pipeline(bind(lambda a, b: b, 1, arg[0])),
    "written": written(),
    "graph": graph(),
    "called": Pipeline(lambda x: Pipeline(same_async)(x)),
    "with a timeout": step(same_async, timeout=60),
    "with retries": step(same, retry=2),
    "limited": step(same_async, concurrency=1),
    "with a fallback": step(same, fallback=str),
}


@pytest.mark.parametrize("name", PASSING)
def test_falsy_values_pass(name: str) -> None:
    flow = PASSING[name]
    for value in FALSY:
        for found in (flow(value), flow.stream(value).result, asyncio.run(flow.acall(value))):
            assert found == value
            assert type(found) is type(value)
    assert flow.batch(FALSY) == FALSY


@pytest.mark.parametrize("value", FALSY, ids=repr)
def test_falsy_values_are_values(value: Any) -> None:
    """Where something is made of them, kept, compared or decided by."""
    assert Parallel(same, same_async)(value) == Args(value, value)
    assert Parallel(a=same, b=same_async)(value) == {"a": value, "b": value}
    assert Warp(same_async)([value, value]) == [value, value]
    assert Parallel(same, collect=lambda found: value)(1) == value
    assert Parallel(same, collect=lambda found: 1, post=lambda x: value)(2) == value
    assert If(same, lambda x: "yes", lambda x: "no")(value) == "no"
    assert Loop(lambda x: [*x, 1], count=3, until=lambda x: value)([]) == [1, 1, 1]
    if type(value).__hash__ is not None:
        assert Switch({value: lambda x: "found"}, default=lambda x: "other")(value) == "found"
        assert Switch({value: lambda x: "found"}, key=lambda x: value)(1) == "found"
    assert every_way(Pipeline(returns), value) == ("a" if value is None else value)
    edges: Any = [(("none", "input"), "a"), ("a", "output")]
    g: Any = Graph({"a": lambda a, b: (a, b)}, edges=edges, constants={"none": value})
    assert g(1) == (value, 1)


@pytest.mark.parametrize("value", FALSY, ids=repr)
def test_falsy_pieces_stay_pieces(value: Any) -> None:
    async def three(x: Any) -> AsyncIterator[Any]:
        for _ in range(3):
            yield value

    expected = "" if value == "" and isinstance(value, str) else [value] * 3
    assert every_way(Pipeline(three), 0) == expected
    assert Pipeline(three, passes, passes)(0) == expected
    assert Pipeline(three, lambda x: [x])(0) == [expected]
    events = [event for event in Pipeline(three).stream(0) if isinstance(event, (TextDelta, Data))]
    assert [event.text if isinstance(event, TextDelta) else event.value for event in events] == [value] * 3


@pytest.mark.parametrize("value", FALSY, ids=repr)
def test_a_falsy_value_is_cached_like_others(value: Any) -> None:
    calls: list[Any] = []

    def counted(x: Any) -> Any:
        calls.append(x)
        return value

    cached = step(counted, cache="shared")
    assert cached("x") == cached("x") == value
    assert calls == ["x"]


def test_no_arguments_are_arguments_too() -> None:
    for way in (lambda f, x: f(x), lambda f, x: f.stream(x).result, lambda f, x: asyncio.run(f.acall(x))):
        assert way(Pipeline(), Args()) == Args()
        assert way(Parallel(), 1) == Args()
        assert way(Pipeline(Parallel(), lambda *values: values), 1) == ()
        assert way(Pipeline(Loop(lambda *values: Args(*values), count=2)), Args()) == Args()
        assert way(Parallel(same, same).keep(), 1) == Args()
        assert way(Warp(same), []) == []
        assert way(Diverter(), Args()) == Args()
