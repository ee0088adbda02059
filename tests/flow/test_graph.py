"""Graphs: nodes, edges and constants; each node once, as soon as its inputs are there."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest

from millrace import Args, Graph, Parallel, Pipeline, Warp, arg, bind, session
from millrace.flow import threads
from millrace.streaming import FlowCallError, StepStarted, current_session
from tests.support.leaks import eventually_async, leaks


def add(x: int) -> int:
    return x + 1


async def double(x: int) -> int:
    await asyncio.sleep(0)
    return x * 2


def both(*values: Any) -> tuple[Any, ...]:
    return values


def every_way(flow: Any, x: Any) -> Any:
    value = flow(x)
    assert flow.stream(x).result == asyncio.run(flow.acall(x)) == value
    assert type(flow.stream(x).result) is type(value)
    return value


def diamond(a: Any, b: Any, c: Any, join: Any, **options: Any) -> Any:
    with Graph(**options) as g:
        g.a, g.b, g.c, g.join = a, b, c, join
        g.edge(g.input, g.a)
        g.edge(g.a, g.b)
        g.edge(g.a, g.c)
        g.edge((g.b, g.c), g.join)
        g.edge(g.join, g.output)
    return g


DIAMOND = [("input", "a"), ("a", "b"), ("a", "c"), (("b", "c"), "join"), ("join", "output")]


class TestResults:
    def test_a_block_and_the_constructor_are_the_same(self) -> None:
        block = diamond(add, double, add, both)
        constructed = Graph({"a": add, "b": double, "c": add, "join": both}, edges=DIAMOND)
        assert every_way(block, 3) == every_way(constructed, 3) == (8, 5)
        assert block.a(1) == 2
        assert repr(constructed.edges) == (
            "(g.input -> a, g.a -> b, g.a -> c, (g.b, g.c) -> join, g.join -> output)"
        )

    def test_the_object_that_was_entered_is_the_graph_too(self) -> None:
        graph = Graph(name="sums")
        with graph as g:
            g.a = add
            g.edge(g.input, g.a)
            g.edge(g.a, g.output)
        assert graph(1) == g(1) == 2

    def test_several_values_are_args_in_the_order_written(self) -> None:
        nodes = {"a": add, "b": double, "join": both}
        ways = [("input", "a"), ("input", "b")]
        after = ("join", "output")
        for edges, value in [
            ([(("b", "a"), "join")], (6, 4)),
            ([("a", "join"), ("b", "join")], (4, 6)),
            ([(("a", "b"), "join"), ("input", "join"), (("a", "a"), "join")], (4, 6, 3, 4, 4)),
            ([(("a",), "join"), ("b", "join")], (4, 6)),
        ]:
            assert every_way(Graph(nodes, [*ways, *edges, after]), 3) == value

    def test_the_output_can_be_several_values_too(self) -> None:
        edges = [("input", "a"), ("input", "b")]
        nodes = {"a": add, "b": double}
        assert every_way(Graph(nodes, [*edges, (("b", "a", "input"), "output")]), 3) == Args(6, 4, 3)
        assert every_way(Graph(nodes, [*edges, ("a", "output"), ("b", "output")]), 3) == Args(4, 6)
        assert every_way(Graph({"a": add}, [("input", "a"), (("a",), "output")]), 3) == Args(4)

    def test_args_of_one_node_unpack_in_the_next(self) -> None:
        g = Graph(
            {"split": Parallel(add, double), "join": both},
            [("input", "split"), ("split", "join"), ("join", "output")],
        )
        assert every_way(g, 3) == (4, 6)

    def test_without_a_node_it_passes_its_input_on(self) -> None:
        assert every_way(Graph(edges=[("input", "output")]), 5) == 5
        assert every_way(Graph(edges=[(("input", "input"), "output")]), 5) == Args(5, 5)

    @pytest.mark.parametrize("value", [None, 0, "", False, [], {}, ()])
    def test_falsy_values_pass(self, value: Any) -> None:
        g = Graph(
            {"a": lambda x: x, "b": lambda x: value, "c": both},
            [("input", "a"), ("input", "b"), (("a", "b", "k"), "c"), (("c", "a"), "output")],
            constants={"k": value},
        )
        assert every_way(g, value) == Args((value, value, value), value)

    def test_constants(self) -> None:
        with Graph() as g:
            g.a = add
            g.sum = lambda *values: sum(values)
            g.edge(g.input, g.a)
            g.edge((g.a, g.constant("ten", 10)), g.sum)
            g.edge(g.ten, g.sum)
            g.edge(g.constant("five", 5), g.sum)
            g.edge(g.sum, g.output)
        assert every_way(g, 0) == 26
        assert g.ten == 10
        alone = Graph({"a": add}, [("k", "a"), ("a", "output")], constants={"k": 4})
        assert every_way(alone, "whatever") == 5

    def test_parts_of_a_value(self) -> None:
        with Graph() as g:
            g.parse = lambda text: {"words": text.split(), "size": len(text)}
            g.first = str.upper
            g.real = lambda x: x
            g.edge(g.input, g.parse)
            g.edge(g.parse["words"][0], g.first)
            g.edge(g.parse["size"].real, g.real)
            g.edge((g.first, g.real, g.parse["words"][-1]), g.output)
        assert every_way(g, "ab cd") == Args("AB", 5, "cd")

    def test_the_same_step_under_two_names_runs_for_each(self) -> None:
        g = Graph({"a": add, "b": add}, [("input", "a"), ("a", "b"), ("b", "output")])
        assert every_way(g, 1) == 3


class TestReferences:
    def test_bind_makes_edges(self) -> None:
        with Graph() as g:
            g.a, g.b = add, double
            g.edge(g.input, g.a)
            g.edge(g.a, g.b)
            g.say = bind(lambda q, notes, k: (q, notes, k), q=g.input, notes=g.b, k=g.constant("k", "!"))
            g.edge(g.say, g.output)
        assert every_way(g, 3) == (3, 8, "!")

    def test_bound_nodes_take_their_edges_by_position(self) -> None:
        with Graph() as g:
            g.a, g.b = add, double
            g.edge(g.input, g.a)
            g.edge(g.input, g.b)
            g.join = bind(both, arg[1], g.input, arg[0])
            g.edge((g.a, g.b), g.join)
            g.more = bind(both, 7)
            g.edge(g.join, g.more)
            g.edge(g.more, g.output)
        assert every_way(g, 3) == ((6, 3, 4), 7)

    def test_an_edge_into_a_node_bound_to_references_means_after(self) -> None:
        order: list[str] = []

        async def late(x: int) -> int:
            for _ in range(20):
                await asyncio.sleep(0)
            order.append("late")
            return x

        def publish(x: int) -> int:
            order.append("publish")
            return x

        with Graph() as g:
            g.late = late
            g.publish = bind(publish, g.input)
            g.edge(g.input, g.late)
            g.edge(g.late, g.publish)
            g.edge(g.publish, g.output)
        assert g(4) == 4
        assert order == ["late", "publish"]

    def test_flows_inside_refer_to_nodes_and_so_wait_for_them(self) -> None:
        with Graph() as g:
            g.text = str
            g.edge(g.input, g.text)
            with Pipeline() as g.inner:
                g.inner.size = bind(len, g.text)
                g.inner.both = bind(both, g.inner.size, g.input)
                g.inner.last = Parallel(both, bind(both, g.text))
            g.edge(g.inner, g.output)
        assert every_way(g, 30) == Args(((2, 30),), ("30",))

    def test_graphs_refer_to_the_flows_around_them(self) -> None:
        with Pipeline() as p:
            p.a = add
            p.b = double
            with Graph() as p.g:
                p.g.x = add
                with Graph() as p.g.inner:
                    p.g.inner.y = bind(both, p.a, p.g.x, p.g.inner.input)
                    p.g.inner.z = both
                    p.g.inner.edge((p.a, p.g.x, p.g.inner.y), p.g.inner.z)
                    p.g.inner.edge(p.g.inner.z, p.g.inner.output)
                p.g.edge(p.b, p.g.x)
                p.g.edge(p.a, p.g.inner)
                p.g.edge((p.g.inner, p.a), p.g.output)
        assert every_way(p, 1) == Args((2, 5, (2, 5, 2)), 2)


class TestTogether:
    def test_a_diamond_runs_each_node_once_and_the_middle_ones_together(self) -> None:
        calls: list[str] = []

        def of(name: str, meet: Callable[[], Any] | None = None) -> Any:
            async def node(*values: Any) -> str:
                calls.append(name)
                if meet is not None:
                    await meet()
                return f"{name}({','.join(map(str, values))})"

            return node

        async def main() -> str:
            barrier = asyncio.Barrier(2)
            g = diamond(of("a"), of("b", barrier.wait), of("c", barrier.wait), of("d"))
            value: str = await g.acall("x")
            return value

        assert asyncio.run(main()) == "d(b(a(x)),c(a(x)))"
        assert sorted(calls) == ["a", "b", "c", "d"]

    def test_plain_functions_meet_in_their_threads(self) -> None:
        barrier = threading.Barrier(2, timeout=5)

        def meet(x: int) -> int:
            barrier.wait()
            return x

        assert diamond(add, meet, meet, both)(1) == (2, 2)

    def test_a_node_waits_for_its_own_inputs_only(self) -> None:
        async def main() -> Any:
            gate = asyncio.Event()

            async def slow(x: int) -> int:
                await gate.wait()
                return x

            async def opens(x: int) -> int:
                gate.set()
                return x

            edges = [("input", "slow"), ("input", "a"), ("a", "opens"), (("slow", "opens"), "output")]
            return await Graph({"slow": slow, "a": double, "opens": opens}, edges).acall(1)

        assert asyncio.run(main()) == Args(1, 2)

    @pytest.mark.parametrize("limit", [1, 2, 3, None])
    def test_a_limit_holds_and_nothing_hangs(self, limit: int | None) -> None:
        now = most = 0

        async def count(*xs: int) -> int:
            nonlocal now, most
            now += 1
            most = max(most, now)
            for _ in range(3):
                await asyncio.sleep(0)
            now -= 1
            return len(xs)

        nodes = {f"n{i}": count for i in range(6)} | {"join": count}
        edges: list[Any] = [("input", f"n{i}") for i in range(6)]
        g = Graph(nodes, [*edges, (tuple(nodes)[:6], "join"), ("join", "output")], concurrency=limit)
        assert g(1) == 6
        assert most == (limit or 6)

    def test_200_nodes_on_4_threads(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(threads, "POOL", threads.Pool(most=4))
        nodes = {f"n{i}": lambda *xs: 1 + max(xs) for i in range(200)}
        edges: list[Any] = [("input", "n0")]
        edges += [((f"n{i // 2}", f"n{i - 1}"), f"n{i}") for i in range(1, 200)]
        assert Graph(nodes, [*edges, ("n199", "output")])(0) == 200
        wide = [*[("input", f"n{i}") for i in range(199)]]
        wide.append((tuple(nodes)[:199], "n199"))
        assert Graph(nodes, [*wide, ("n199", "output")])(0) == 2
        assert threads.POOL._threads <= 4

    def test_a_chain_of_300(self) -> None:
        for function in (add, lambda x: double(x / 2 + 0.5)):
            nodes = {f"n{i}": function for i in range(300)}
            names = ["input", *nodes, "output"]
            assert Graph(nodes, list(itertools.pairwise(names)))(0) == 300

    def test_300_graphs_in_each_other(self) -> None:
        g: Any = double
        for _ in range(300):
            g = Graph({"a": g}, [("input", "a"), ("a", "output")])
        assert g(2) == 4

    def test_1000_runs_at_once_share_nothing(self) -> None:
        async def who(x: int) -> tuple[int, str | None]:
            await asyncio.sleep(0)
            return x, current_session()

        g = diamond(who, lambda pair: pair, who, both)

        async def one(i: int) -> None:
            with session(f"user-{i}"):
                first, (pair, name) = await g.acall(i)
                assert first == pair == (i, f"user-{i}")
                assert name == f"user-{i}"

        async def main() -> None:
            await asyncio.gather(*map(one, range(1000)))

        asyncio.run(main())

    def test_a_graph_that_calls_itself(self) -> None:
        async def down(x: int) -> int:
            return x if x == 0 else await g.acall(x - 1)

        edges = [("input", "a"), ("input", "b"), (("a", "b"), "c"), ("c", "output")]
        g = Graph({"a": down, "b": add, "c": lambda a, b: a + b}, edges)
        assert g(3) == 0 + 1 + 2 + 3 + 4

    def test_nested_in_pipelines_warps_and_graphs(self) -> None:
        g = diamond(add, Pipeline(add, double), double, both)
        assert every_way(Pipeline(add, g, list), 1) == [8, 6]
        assert every_way(Warp(g), [0, 1]) == [(4, 2), (6, 4)]
        nested = diamond(g, len, Graph({"x": both}, [("input", "x"), ("x", "output")]), both)
        assert every_way(nested, 1) == (2, ((6, 4),))

    def test_paths_are_the_names(self) -> None:
        g = diamond(add, Pipeline(add, double), double, both, name="sums")
        paths = {e.path for e in Pipeline(g).stream(1) if isinstance(e, StepStarted)}
        names = {("a",), ("b",), ("c",), ("join",), ("b", "add"), ("b", "double")}
        assert paths == {("sums", *path) for path in [(), *names]}


class TestContext:
    def test_what_a_node_sets_is_seen_by_those_it_leads_to_and_nobody_else(self) -> None:
        names = "abcdef"
        variables = {name: ContextVar[str](name) for name in names}
        seen: dict[str, str] = {}

        def look(name: str) -> None:
            seen[name] = "".join(n for n in names if variables[n].get("") == n)
            variables[name].set(name)

        def node(name: str) -> Any:
            async def asynchronous(*_: Any) -> None:
                look(name)
                await asyncio.sleep(0)

            def plain(*_: Any) -> None:
                look(name)

            return plain if name in "ace" else asynchronous

        edges: list[Any] = [("input", "a"), ("a", "b"), ("a", "c"), ("b", "d"), (("c", "input"), "e")]
        edges += [(("d", "e"), "f"), ("f", "output")]
        g = Graph({name: node(name) for name in names}, edges)

        def after(_: Any) -> str:
            return "".join(n for n in names if variables[n].get("") == n)

        assert every_way(Pipeline(g, after), 1) == "abcdef"
        assert seen == {"a": "", "b": "a", "c": "a", "d": "ab", "e": "ac", "f": "abcde"}
        assert after(None) == ""

    def test_where_several_set_the_same_the_one_nearest_to_the_output_counts(self) -> None:
        color: ContextVar[str] = ContextVar("color", default="none")

        def paint(name: str | None) -> Any:
            def node(*_: Any) -> str:
                if name is not None:
                    color.set(name)
                return color.get()

            return node

        assert diamond(paint("a"), paint("b"), paint(None), paint(None))(0) == "b"
        assert diamond(paint("a"), paint(None), paint("c"), paint(None))(0) == "c"
        assert diamond(paint("a"), paint("b"), paint("c"), paint(None))(0) == "c"

    def test_the_callers_are_visible(self) -> None:
        color: ContextVar[str] = ContextVar("color", default="none")
        g = diamond(lambda _: color.get(), both, both, lambda *_: color.get())
        color.set("red")
        assert every_way(g, 0) == "red"


class TestLeaving:
    def test_an_unwritten_graph_cannot_be_called(self) -> None:
        with pytest.raises(FlowCallError, match="has not been written"):
            Graph()(1)

    @pytest.mark.anyio
    async def test_a_stop_reaches_all_nodes(self) -> None:
        began, ended = [], []

        async def wait(x: int) -> None:
            began.append(x)
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                ended.append(x)

        later: list[Any] = []
        with leaks():
            task = asyncio.create_task(diamond(add, wait, wait, lambda *values: later.append(values)).acall(1))
            while len(began) < 2:
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await eventually_async(lambda: len(ended) == 2)
        assert later == []
