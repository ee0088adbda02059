"""What is refused when a graph is built, and what happens when a node of it fails."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from millrace import Args, Graph, Parallel, Pipeline, bind
from millrace.streaming import FlowBuildError, StepFinished, status
from tests.support.leaks import eventually


def add(x: int) -> int:
    return x + 1


def both(*values: Any) -> tuple[Any, ...]:
    return values


def edges(text: str) -> list[Any]:
    """Edges written as `input>a a>b a,b>c c>output`."""
    found: list[Any] = []
    for edge in text.split():
        source, _, target = edge.partition(">")
        names = tuple(source.split(","))
        found.append((names if len(names) > 1 else source, target))
    return found


def nodes(names: str, function: Callable[..., Any] = both) -> dict[str, Callable[..., Any]]:
    return dict.fromkeys(names, function)


class TestWiring:
    @pytest.mark.parametrize(
        ("names", "wiring", "message"),
        [
            ("a", "input>b a>output", r"there is no node 'b' in this Graph; there is: a"),
            ("a", "b>a a>output", r"edge from 'b' to 'a'.* no node 'b'"),
            ("a", "a>output", r"'a' has no input; .* input -> a"),
            ("a", "input>a", "nothing leads to the output"),
            ("ab", "input>a input>b a>output", "nobody uses what the node 'b' gives"),
            ("ab", "input>a a>b a>output", "nobody uses what the node 'b' gives"),
            ("a", "a>a a>output", "wait for each other: a -> a;"),
            ("abc", "input>a c>a a>b b>c c>output", "wait for each other: a -> b -> c -> a;"),
            ("abcd", "input>a a>b b>c c>b c,d>output b>d", "wait for each other: b -> c -> b;"),
            ("a", "input>a input>a a>output", r"edge g.input -> a is there already"),
            ("ab", "input>a input>b a,b>output a,b>output", r"edge \(g.a, g.b\) -> output is there"),
            ("a", "input>a a>input", "nothing goes into it"),
            ("a", "output>a a>output", "nothing inside can take it"),
        ],
    )
    def test_what_cannot_run_is_refused_by_name(self, names: str, wiring: str, message: str) -> None:
        with pytest.raises(FlowBuildError, match=message):
            Graph(nodes(names), edges(wiring))

    def test_all_problems_are_told_at_once(self) -> None:
        with pytest.raises(FlowBuildError) as caught:
            Graph(nodes("abcd"), edges("a>b b>a c>d b>output"), name="notes", constants={"k": 1})
        text = str(caught.value)
        assert text.startswith("the graph notes has 5 problems:")
        for part in ("'c' has no input", "a -> b -> a", "what the node 'd' gives", "the constant 'k'"):
            assert part in text

    def test_constants(self) -> None:
        with pytest.raises(FlowBuildError, match="nothing can go into the constant 'k'"):
            Graph(nodes("a"), edges("input>k k>a a>output"), constants={"k": 1})
        with pytest.raises(FlowBuildError, match="'a' is a node and a constant"):
            Graph(nodes("a"), edges("input>output"), constants={"a": 1})

    def test_wrong_objects(self) -> None:
        wrong: Any
        for wrong, message in [
            (lambda: Graph([add]), "takes a dict of steps by name"),  # type: ignore[arg-type]
            (lambda: Graph({"a": 5}, edges("input>a a>output")), "5 is no step"),  # type: ignore[dict-item]
            (lambda: Graph({"a": add}, ["input>a"]), "'input>a' is no edge"),  # type: ignore[list-item]
            (lambda: Graph({"a": add}, [("input", "a", "b")]), "is no edge"),  # type: ignore[list-item]
            (lambda: Graph({"a": add}, [(add, "a")]), "is no place in this Graph"),  # type: ignore[list-item]
            (lambda: Graph({"a": add}, [((), "a")]), "begins nowhere"),
            (lambda: Graph({"input": add}), "can be called 'input'"),
            (lambda: Graph({1: add}), "can be called 1"),  # type: ignore[dict-item]
            (lambda: Graph({"a": add}, constants={"output": 1}), "can be called 'output'"),
            (lambda: Graph(concurrency=0), "concurrency=0"),
            (lambda: Graph(on_error="drop"), "'raise' or 'keep'"),  # type: ignore[arg-type]
        ]:
            with pytest.raises(FlowBuildError, match=message):
                wrong()


class TestBlocks:
    @pytest.mark.parametrize(
        ("write", "message"),
        [
            (lambda g: g.edge(g.input, g.c), "no step 'c' in this flow; there is: a, b"),
            (lambda g: g.edge(add, g.a), "is no place in this Graph.*g.load = load"),
            (lambda g: g.edge(5, g.a), r"5 is no place.*\(g.constant\('limit', 5\)\)"),
            (lambda g: g.edge((g.input, 5), g.a), "5 is no place"),
            (lambda g: g.edge(g.input, g.a["x"]), "not at a part of it"),
            (lambda g: g.edge(g.input, g.input), "nothing goes into it"),
            (lambda g: g.edge(g.output, g.a), "nothing inside can take it"),
            (lambda g: g.edge(g.input, (g.a, g.b)), "no end of an edge"),
            (lambda g: (g.edge(g.a["k"], g.b), g.edge(g.a["k"], g.b)), "is there already"),
            (lambda g: setattr(g, "edge", add), "cannot be named 'edge'"),
            (lambda g: setattr(g, "input", add), "cannot be named 'input'"),
            (lambda g: setattr(g, "output", add), "cannot be named 'output'"),
            (lambda g: setattr(g, "concurrency", add), "cannot be named 'concurrency'"),
            (lambda g: setattr(g, "a", add), "there already"),
            (lambda g: setattr(g, "c", g.a), "a reference is no step"),
            (lambda g: g.constant("a", 1), "the name 'a' is taken"),
            (lambda g: g.constant("edge", 1), "the name 'edge' is taken"),
            (lambda g: (g.constant("k", 1), setattr(g, "k", add)), "'k' is a node and a constant"),
            (lambda g: g(1), "inside of the block"),
            (lambda g: bool(g.a), "has no value while"),
        ],
    )
    def test_wrong_writing(self, write: Any, message: str) -> None:
        with pytest.raises(FlowBuildError, match=message), Graph() as g:
            g.a = g.b = add
            write(g)

    def test_references_to_the_output_are_refused(self) -> None:
        with pytest.raises(FlowBuildError, match="'a' refers to the output"), Graph() as g:
            g.a = bind(add, g.output)
            g.edge(g.a, g.output)

    def test_references_make_cycles_too(self) -> None:
        with pytest.raises(FlowBuildError, match="wait for each other: b -> a -> b"), Graph() as g:
            g.b = add
            g.a = Pipeline(bind(add, g.b), add)
            g.edge(g.a, g.b)
            g.edge(g.b, g.output)

    def test_a_node_that_takes_what_comes_needs_an_edge_beside_its_references(self) -> None:
        with pytest.raises(FlowBuildError, match="'b' has no input"), Graph() as g:
            g.a = add
            g.b = Pipeline(add, bind(add, g.a))
            g.edge(g.input, g.a)
            g.edge(g.b, g.output)

    def test_the_block_is_the_only_place(self) -> None:
        with Graph() as g:
            g.a = add
            g.edge(g.input, g.a)
            g.edge(g.a, g.output)
        for late in (
            lambda: g.edge(g.a, g.a),
            lambda: g.constant("k", 1),
            lambda: setattr(g, "b", add),
            lambda: g.input,
            lambda: g.output,
            lambda: g.__enter__() and None,
        ):
            with pytest.raises(FlowBuildError):
                late()
        with pytest.raises(AttributeError, match="no step 'b'; its steps: a"):
            _ = g.b
        with (
            pytest.raises(FlowBuildError, match="has steps already"),
            Graph({"a": add}, edges("input>a a>output")),
        ):
            pass

    def test_a_block_that_raises_builds_nothing(self) -> None:
        graph = Graph()
        with pytest.raises(KeyError), graph as g:
            g.a = add
            raise KeyError("mine")
        assert graph.edges == ()
        assert not graph.nodes

    def test_references_of_another_flow_tell_at_the_call(self) -> None:
        with Pipeline() as p:
            p.a = add
            other = p.a
        with Graph() as g:
            g.a = add
            g.edge(other, g.a)
            g.edge(g.a, g.output)
        with pytest.raises(FlowBuildError, match=r"p\.a is not known here"):
            g(1)
        with pytest.raises(FlowBuildError, match=r"p\.a belongs to another flow"), Graph() as g:
            g.edge(g.input, other)


class Boom(Exception):
    pass


async def fails(*_: Any) -> None:
    raise Boom("no")


class TestFailing:
    def test_the_earliest_failure_stops_the_others_at_once(self) -> None:
        ended: list[str] = []
        later: list[Any] = []

        async def sleeps(x: int) -> None:
            try:
                await asyncio.sleep(3)
            finally:
                await asyncio.sleep(0)
                ended.append("sleeps")

        with Graph(name="search") as g:
            g.a, g.sleeps, g.fails, g.join = (
                add,
                sleeps,
                Parallel(sleeps, fails),
                lambda *xs: (lambda *x: later.append(x))(xs),
            )
            g.edge(g.input, g.a)
            g.edge(g.a, g.sleeps)
            g.edge(g.a, g.fails)
            g.edge((g.sleeps, g.fails), g.join)
            g.edge(g.join, g.output)
        start = time.perf_counter()
        with pytest.raises(Boom) as caught:
            g(1)
        assert time.perf_counter() - start < 0.5
        assert ended == ["sleeps", "sleeps"]
        assert later == []
        (note,) = caught.value.__notes__
        assert note.startswith("in search > fails > fails (test_graph_failing.py:")
        assert "also failed" not in note

    def test_a_blocked_function_is_abandoned(self) -> None:
        go, begun = threading.Event(), threading.Event()

        def blocks(_: Any) -> None:
            begun.set()
            go.wait(10)

        async def fails_then(_: Any) -> None:
            await asyncio.to_thread(begun.wait)
            raise Boom

        g = Graph({"a": blocks, "b": fails_then}, edges("input>a input>b a,b>output"))
        with pytest.raises(Boom):
            g(1)
        assert status().abandoned == 1
        go.set()
        eventually(lambda: status().abandoned == 0)

    def test_others_that_failed_are_named(self) -> None:
        async def stubborn(_: Any) -> None:
            try:
                await asyncio.sleep(3)
            finally:
                raise ValueError("in the cleanup")

        g = Graph({"s": stubborn, "b": fails}, edges("input>s input>b s,b>output"))
        with pytest.raises(Boom) as caught:
            g(1)
        (note,) = caught.value.__notes__
        assert note.endswith("; also failed: s (ValueError)")

    def test_a_part_that_is_not_there_fails_in_the_node_that_takes_it(self) -> None:
        with Graph() as g:
            g.a, g.b = (lambda x: {"x": x}), add
            g.edge(g.input, g.a)
            g.edge(g.a["y"], g.b)
            g.edge(g.b, g.output)
        with pytest.raises(KeyError) as caught:
            g(1)
        assert caught.value.__notes__[0].startswith("in b ")

    @pytest.mark.parametrize("error", [StopIteration, StopAsyncIteration])
    def test_stop_iteration_is_a_runtime_error(self, error: type[Exception]) -> None:
        def stops(x: int) -> int:
            raise error

        for wiring in ("input>a a>output", "input>a a>b b>output"):
            names = {"a": stops, "b": add}
            g = Graph({name: names[name] for name in "ab" if f">{name}" in wiring}, edges(wiring))
            with pytest.raises(RuntimeError, match=f"step (a|stops) raised {error.__name__}"):
                g(1)

    def test_exit_leaves_at_once(self) -> None:
        def leaves(x: int) -> None:
            raise SystemExit(3)

        g = Graph({"a": leaves, "b": both}, edges("input>a input,a>b b>output"), on_error="keep")
        with pytest.raises(SystemExit):
            g(1)

    def test_keep(self) -> None:
        wiring = edges("input>a input>b b>c a,b,c>output")
        kept = Graph({"a": add, "b": fails, "c": both}, wiring, on_error="keep")
        value = kept(1)
        assert type(value) is Args
        assert value[0] == 2
        assert isinstance(value[1], Boom)
        assert value[2] == (value[1],)
        assert value[1].args == ("no",)

    def test_keep_raises_what_the_last_one_raises(self) -> None:
        last = Graph({"a": fails, "b": fails}, edges("input>a a>b b>output"), on_error="keep")
        with pytest.raises(Boom) as caught:
            last(1)
        assert caught.value.__notes__[0].startswith("in b ")

    def test_the_node_that_failed_says_so(self) -> None:
        g = Graph({"a": add, "b": fails, "c": both}, edges("input>a a>b a,b>c c>output"))
        events: list[Any] = []
        with pytest.raises(Boom):
            events.extend(g.stream(1))
        finished = [(e.path, e.error) for e in events if isinstance(e, StepFinished)]
        assert [path for path, _ in finished] == [("a",), ("b",)]
        assert finished[0][1] is None
        assert isinstance(finished[1][1], Boom)
