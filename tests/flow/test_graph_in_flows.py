"""Graphs among live steps: a graph takes its input live, and gives its output's pieces as they come."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from millrace import Args, Graph, Parallel, Pipeline, arg, bind
from millrace.streaming import Data, StepFinished, StepStarted
from tests.flow.parts import MANY, Source, both, chain, count, dashed, dotted, every_way


@pytest.fixture(params=["asynchronous", "threaded"])
def source(request: pytest.FixtureRequest) -> Any:
    made = Source()
    return made, getattr(made, request.param)


def test_in_a_pipeline(source: Any) -> None:
    made, letters = source
    g = Graph({"a": dotted, "b": dashed}, chain("a", "b"))
    assert (g.live, g.streams) == (True, True)
    flow = Pipeline(letters, g, dotted)
    assert every_way(flow, 2) == "0.-. 1.-. "
    before = made.made
    with flow.stream(MANY) as stream:
        assert next(iter(stream.text())) == "0.-. "
    assert made.made < before + 400


def test_the_input_goes_live_to_several_and_whole_to_others(source: Any) -> None:
    made, letters = source
    with Graph() as g:
        g.a, g.b, g.size = dotted, count, len
        g.all = bind(both, g.input, arg[0], arg[1], arg[2])
        for node in (g.a, g.b, g.size):
            g.edge(g.input, node)
            g.edge(node, g.all)
        g.edge(g.all, g.output)
    assert every_way(Pipeline(letters, g), 2) == ("0 1 ", "0. 1. ", 2, 4)
    assert every_way(g, "abc") == ("abc", "abc. ", 1, 3)
    assert made.closed == 3


def test_a_graph_that_streams_in_a_graph() -> None:
    made = Source()
    inner = Graph({"x": made.asynchronous, "y": dotted}, chain("x", "y"), name="inner")
    g = Graph(
        {"a": inner, "b": dashed, "c": Parallel(count, count)},
        [("input", "a"), ("a", "b"), ("a", "c"), (("b", "c"), "output")],
    )
    assert every_way(g, 3) == Args("0.- 1.- 2.- ", Args(3, 3))
    paths = [e.path for e in g.stream(1) if isinstance(e, StepStarted)]
    assert sorted(paths) == [
        ("a",),
        ("a", "x"),
        ("a", "y"),
        ("b",),
        ("c",),
        ("c", "count"),
        ("c", "count-2"),
    ]


def test_a_graph_between_live_steps_says_each_start_and_end_once() -> None:
    g = Graph({"a": dotted, "b": dashed}, chain("a", "b"), name="g")
    events = list(Pipeline(Source().asynchronous, g, count).stream(3))
    for kind in (StepStarted, StepFinished):
        paths = sorted(e.path for e in events if isinstance(e, kind))
        assert paths == [("asynchronous",), ("count",), ("g",), ("g", "a"), ("g", "b")]


def test_items_that_are_no_text() -> None:
    async def items(n: int) -> AsyncIterator[int]:
        for i in range(n):
            yield i

    async def doubled(xs: AsyncIterator[int]) -> AsyncIterator[int]:
        async for x in xs:
            yield 2 * x

    g = Graph({"a": items, "b": doubled}, chain("a", "b"))
    assert every_way(g, 3) == [0, 2, 4]
    assert [e.value for e in g.stream(2) if isinstance(e, Data) and e.output] == [0, 2]


def test_a_blocked_generator_does_not_hold_the_others() -> None:
    go = threading.Event()

    def waits(n: int) -> Iterator[str]:
        yield "a"
        go.wait(10)

    async def opens(pieces: AsyncIterator[str]) -> str:
        piece = await anext(pieces)
        go.set()
        return piece

    wiring = [("input", "a"), ("a", "b"), ("a", "c"), (("b", "c"), "output")]
    assert Graph({"a": waits, "b": opens, "c": count}, wiring)(1) == ("a", 1)
