"""Graphs: nodes, edges and constants; each node once, as soon as its inputs are there."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from millrace import Args, Graph, Parallel, Pipeline, arg, bind
from tests.flow.parts import add, both, diamond, double, every_way

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
