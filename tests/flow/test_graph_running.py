"""Graphs at work: each node once, independent ones together, in contexts of their own, many runs at once."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest

from millrace import Args, Graph, Pipeline, Warp, session
from millrace.flow import threads
from millrace.streaming import FlowCallError, StepStarted, current_session
from tests.flow.parts import add, both, diamond, double, every_way
from tests.support.leaks import eventually_async, leaks


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
            task = asyncio.create_task(
                diamond(add, wait, wait, lambda *values: later.append(values)).acall(1)
            )
            while len(began) < 2:
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await eventually_async(lambda: len(ended) == 2)
        assert later == []
