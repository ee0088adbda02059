"""Random graphs of random steps: against a plain evaluation, and stopped at a random moment."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from millrace import Args, Graph, step
from millrace.streaming import RunFinished
from tests.support.leaks import leaks

KINDS = ("plain", "inline", "async", "generator", "async generator", "live", "live async", "live function")
SET = [ContextVar[str](f"set-{i}") for i in range(12)]


@dataclass(frozen=True)
class Node:
    kind: str
    edges: tuple[tuple[int, ...], ...]
    """Each with one source or several; 0 is the input, 1 the first node."""


@st.composite
def shapes(draw: st.DrawFn, kinds: Sequence[str] = KINDS) -> list[Node]:
    """Nodes, each with edges from the input or the nodes before it."""
    nodes: list[Node] = []
    for i in range(draw(st.integers(1, 8))):
        kind = draw(st.sampled_from(kinds))
        places = st.integers(0, i)
        if kind.startswith("live"):
            edges = ((draw(places),),)  # takes one stream
        else:
            several = st.lists(places, min_size=1, max_size=3).map(tuple)
            edges = tuple(draw(st.lists(several, min_size=1, max_size=2, unique=True)))
        nodes.append(Node(kind, edges))
    return nodes


class Traced:
    """Steps for a shape that count their calls and their cleanups, and see what others have set."""

    def __init__(self, shape: list[Node]) -> None:
        self.shape = shape
        self.calls: Counter[int] = Counter()
        self.over: Counter[int] = Counter()
        self.seen: dict[int, set[int]] = {}

    def enter(self, i: int) -> None:
        self.calls[i] += 1
        self.seen[i] = {j for j, variable in enumerate(SET) if variable.get("") == f"{j}"}
        SET[i].set(f"{i}")

    def leave(self, i: int) -> None:
        self.over[i] += 1

    def made(self, i: int) -> Any:
        def pieces(text: str) -> list[str]:
            return [f"{i}", "(", text, ")"]

        def plain(*values: str) -> str:
            self.enter(i)
            try:
                return "".join(pieces(",".join(values)))
            finally:
                self.leave(i)

        async def asynchronous(*values: str) -> str:
            self.enter(i)
            try:
                await asyncio.sleep(0)
                return "".join(pieces(",".join(values)))
            finally:
                self.leave(i)

        def generator(*values: str) -> Iterator[str]:
            self.enter(i)
            try:
                yield from pieces(",".join(values))
            finally:
                self.leave(i)

        async def async_generator(*values: str) -> AsyncIterator[str]:
            self.enter(i)
            try:
                for piece in pieces(",".join(values)):
                    yield piece
                    await asyncio.sleep(0)
            finally:
                self.leave(i)

        def live(upstream: Iterator[str]) -> Iterator[str]:
            self.enter(i)
            try:
                yield f"{i}("
                yield from upstream
                yield ")"
            finally:
                self.leave(i)

        async def live_async(upstream: AsyncIterator[str]) -> AsyncIterator[str]:
            self.enter(i)
            try:
                yield f"{i}("
                async for piece in upstream:
                    yield piece
                yield ")"
            finally:
                self.leave(i)

        async def live_function(upstream: AsyncIterator[str]) -> str:
            self.enter(i)
            try:
                return f"{i}(" + "".join([piece async for piece in upstream]) + ")"
            finally:
                self.leave(i)

        steps = dict(
            zip(
                KINDS,
                (plain, plain, asynchronous, generator, async_generator, live, live_async, live_function),
                strict=True,
            )
        )
        kind = self.shape[i].kind
        return step(steps[kind], inline=kind == "inline")

    def graph(self, **options: Any) -> Graph[Any, Any]:
        names = ["input", *(f"n{i}" for i in range(len(self.shape)))]
        edges: list[Any] = []
        for i, node in enumerate(self.shape):
            for sources in node.edges:
                places = tuple(names[j] for j in sources)
                edges.append((places if len(places) > 1 else places[0], names[i + 1]))
        edges.append((tuple(names[i + 1] for i in self.ends()), "output"))
        return Graph({names[i + 1]: self.made(i) for i in range(len(self.shape))}, edges, **options)

    def ends(self) -> list[int]:
        """The nodes that no other one uses."""
        used = {j - 1 for node in self.shape for edge in node.edges for j in edge}
        return [i for i in range(len(self.shape)) if i not in used]

    def value(self, x: str) -> Args:
        """The plain evaluation, one node after the other."""
        values = [x]
        for i, node in enumerate(self.shape):
            values.append(f"{i}({','.join(values[j] for edge in node.edges for j in edge)})")
        return Args(*(values[i + 1] for i in self.ends()))

    def leading_to(self, i: int) -> set[int]:
        found: set[int] = set()
        for j in (j - 1 for edge in self.shape[i].edges for j in edge):
            if j >= 0:
                found |= {j} | self.leading_to(j)
        return found


@settings(deadline=None, max_examples=150)
@given(shapes(), st.sampled_from([None, 1, 2]), st.sampled_from(["sync", "async", "stream"]))
def test_a_graph_is_a_plain_evaluation_in_order(shape: list[Node], limit: int | None, way: str) -> None:
    traced = Traced(shape)
    graph = traced.graph(concurrency=limit)
    if way == "sync":
        value = graph("x")
    elif way == "async":
        value = asyncio.run(graph.acall("x"))
    else:
        *_, last = graph.stream("x")
        assert isinstance(last, RunFinished)
        value = last.result
    assert value == traced.value("x")
    assert traced.calls == traced.over == Counter(range(len(shape)))


@settings(deadline=None, max_examples=60)
@given(shapes(KINDS[:5]), st.sampled_from([None, 1]))
def test_context_variables_follow_the_edges(shape: list[Node], limit: int | None) -> None:
    traced = Traced(shape)
    assert traced.graph(concurrency=limit)("x") == traced.value("x")
    assert traced.seen == {i: traced.leading_to(i) for i in range(len(shape))}


@settings(deadline=None, max_examples=60)
@example([Node("async generator", ((0,),)), Node("live", ((1,),)), Node("live async", ((1,),))], 3, None)
@given(shapes(), st.integers(0, 40), st.sampled_from([None, 1, 2]))
def test_a_graph_left_at_a_random_event_leaves_nothing(
    shape: list[Node], event: int, limit: int | None
) -> None:
    traced = Traced(shape)
    with leaks():
        for i, _ in enumerate(traced.graph(concurrency=limit).stream("x")):
            if i == event:
                break
    assert traced.over == traced.calls


@settings(deadline=None, max_examples=60)
@given(shapes(), st.data())
def test_a_failure_anywhere_is_raised_as_itself_and_leaves_nothing(
    shape: list[Node], data: st.DataObject
) -> None:
    bad = data.draw(st.integers(0, len(shape) - 1))
    traced = Traced(shape)
    enter = traced.enter

    def failing(i: int) -> None:
        enter(i)
        if i == bad:
            raise ValueError(f"node {i}")

    traced.enter = failing  # type: ignore[method-assign]
    with leaks(), pytest.raises(ValueError, match=f"^node {bad}\n") as caught:
        traced.graph()("x")
    (note,) = caught.value.__notes__
    assert note.startswith(f"in n{bad} ")


@settings(deadline=None, max_examples=60)
@given(shapes(), st.sets(st.integers(0, 7)), st.sampled_from([None, 1, 2]))
def test_kept_failures_stay_behind_the_nodes_that_failed(
    shape: list[Node], bad: set[int], limit: int | None
) -> None:
    traced = Traced(shape)
    enter = traced.enter

    def failing(i: int) -> None:
        enter(i)
        if i in bad:
            raise ValueError(f"node {i}")

    traced.enter = failing  # type: ignore[method-assign]
    with leaks():
        values = traced.graph(concurrency=limit, on_error="keep")("x")
    for i, value, wanted in zip(traced.ends(), values, traced.value("x"), strict=True):
        if i in bad:
            assert isinstance(value, ValueError)
        elif not bad & traced.leading_to(i):
            assert value == wanted
