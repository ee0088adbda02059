"""Streaming through graphs: pieces pass along edges while they come, to one node or to several."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

import pytest

from millrace import Args, Graph, Pipeline, arg, bind
from millrace.streaming import TextDelta, status
from tests.flow.parts import MANY, Source, both, chain, count, count_sync, dashed, dotted, every_way
from tests.support.leaks import eventually, leaks


async def first(pieces: AsyncIterator[str]) -> str:
    return await anext(pieces)


@pytest.fixture(params=["asynchronous", "threaded"])
def source(request: pytest.FixtureRequest) -> Any:
    made = Source()
    return made, getattr(made, request.param)


class TestOneReader:
    def test_a_chain_is_as_a_pipeline(self, source: Any) -> None:
        _, letters = source
        for steps in ([dotted], [dotted, dashed], [dashed, dotted, count], [dashed, count_sync], [first]):
            nodes = {f"n{i}": step for i, step in enumerate([letters, *steps])}
            g = Graph(nodes, chain(*nodes))
            assert every_way(g, 3) == Pipeline(letters, *steps)(3)

    def test_pieces_pass_while_they_come(self, source: Any) -> None:
        made, letters = source
        g = Graph({"a": letters, "b": dotted, "c": dashed}, chain("a", "b", "c"))
        with g.stream(MANY) as stream:
            for piece in stream.text():
                assert piece == "0.- "
                break
        assert made.made < 400
        eventually(lambda: made.closed == 1)
        eventually(lambda: status().runs == 0)

    def test_only_the_output_node_is_output(self) -> None:
        g = Graph({"a": Source().asynchronous, "b": dotted, "c": dashed}, chain("a", "b", "c"))
        events = [e for e in g.stream(2) if isinstance(e, TextDelta)]
        assert "".join(e.text for e in events if e.output) == "0.- 1.- "
        assert {e.path for e in events if e.output} == {("c",)}
        assert {e.path for e in events if not e.output} == {("a",), ("b",)}

    def test_without_a_single_output_node_its_value_is_the_text(self) -> None:
        letters = Source().asynchronous
        g = Graph({"a": letters, "b": dotted}, [("input", "a"), ("a", "b"), (("a", "b"), "output")])
        assert list(g.stream(1).text()) == ["Args('0 ', '0. ')"]
        assert every_way(g, 2) == Args("0 1 ", "0. 1. ")

    def test_returning_early_stops_the_upstream(self, source: Any) -> None:
        made, letters = source
        with leaks():
            assert Graph({"a": letters, "b": first}, chain("a", "b"))(MANY) == "0 "
            eventually(lambda: made.closed == 1)
        assert made.made < 400

    def test_an_error_says_where_it_arose(self) -> None:
        async def breaks(n: int) -> AsyncIterator[str]:
            yield "one"
            raise ValueError(n)

        with Graph(name="g") as g:
            g.a, g.b, g.c = breaks, dotted, count
            g.edge(g.input, g.a)
            g.edge(g.a, g.b)
            g.edge(g.b, g.c)
            g.edge(g.c, g.output)
        with pytest.raises(ValueError, match="3") as caught:
            g(3)
        assert caught.value.__notes__[0].startswith("in g > a (test_graph_live.py:")

    def test_a_part_of_the_value_is_no_stream(self) -> None:
        async def items(n: int) -> AsyncIterator[int]:
            for i in range(n):
                yield i

        with Graph() as g:
            g.items, g.count = items, count
            g.edge(g.input, g.items)
            g.edge(g.items[-1], g.count)
            g.edge(g.count, g.output)
        assert every_way(g, 3) == 1

    def test_bound_nodes_take_pieces_too(self) -> None:
        async def marked(pieces: AsyncIterator[str], mark: str, more: str = "") -> AsyncIterator[str]:
            async for piece in pieces:
                yield piece.strip() + mark + more

        made = Source()
        with Graph() as g:
            g.mark = lambda n: "!" * n
            g.letters = bind(made.asynchronous, g.input)
            g.edge(g.mark, g.letters)
            g.edge(g.input, g.mark)
            g.marked = bind(marked, arg[0], g.mark)
            g.edge(g.letters, g.marked)
            g.more = bind(marked, "?")
            g.edge(g.marked, g.more)
            g.edge(g.more, g.output)
        assert every_way(g, 2) == "0!!?1!!?"
        with g.stream(MANY) as stream:
            assert next(iter(stream.text())).startswith("0!")
        eventually(lambda: made.closed == 4)

    def test_who_waits_for_the_whole_of_a_stream_does_not_take_it_live(self) -> None:
        """Were it live, the stream would wait for its reader, and the reader for the end of the stream."""

        async def marked(pieces: AsyncIterator[str], mark: Any) -> str:
            return f"{len([piece async for piece in pieces])} {mark}"

        with Graph() as g:
            g.letters = Source().asynchronous
            g.size = len
            g.edge(g.input, g.letters)
            g.edge(g.letters, g.size)
            g.marked = bind(marked, arg[0], g.size)
            g.edge(g.letters, g.marked)
            g.edge(g.marked, g.output)
        assert g(500) == f"1 {len(''.join(f'{i} ' for i in range(500)))}"


class TestSeveralReaders:
    def test_all_read_all_of_it(self, source: Any) -> None:
        made, letters = source
        g = Graph(
            {"a": letters, "b": dotted, "c": count, "d": count_sync, "e": len, "f": dashed, "g": both},
            [
                ("input", "a"),
                *(("a", name) for name in "bcde"),
                ("b", "f"),
                (("b", "c", "d", "e", "f", "a"), "g"),
                ("g", "output"),
            ],
        )
        values = every_way(g, 3)
        assert values == ("0. 1. 2. ", 3, 3, 6, "0.- 1.- 2.- ", "0 1 2 ")
        assert made.closed == made.made / 3 == 3
        assert g(200)[1:4] == (200, 200, len("".join(f"{i} " for i in range(200))))

    def test_it_is_read_while_it_comes_and_the_slowest_sets_the_pace(self) -> None:
        made = Source()

        async def main() -> tuple[Any, int]:
            gate = asyncio.Event()

            async def slow(pieces: AsyncIterator[str]) -> int:
                n = 0
                async for _ in pieces:
                    n += 1
                    if n == 2:
                        await gate.wait()
                return n

            async def fast(pieces: AsyncIterator[str]) -> int:
                n = 0
                async for _ in pieces:
                    n += 1
                    if n == 10:
                        for _ in range(1000):
                            await asyncio.sleep(0)
                        held.append(made.made)
                        gate.set()
                return n

            held: list[int] = []
            wiring = [("input", "a"), ("a", "b"), ("a", "c"), (("b", "c"), "output")]
            value = await Graph({"a": made.asynchronous, "b": slow, "c": fast}, wiring).acall(1000)
            return value, held[0]

        value, held = asyncio.run(main())
        assert value == (1000, 1000)
        assert held < 200

    def test_one_that_returns_early_does_not_stop_it_for_the_others(self, source: Any) -> None:
        made, letters = source
        wiring = [("input", "a"), ("a", "b"), ("a", "c"), (("b", "c"), "output")]
        assert Graph({"a": letters, "b": first, "c": count}, wiring)(300) == ("0 ", 300)
        with leaks():
            assert Graph({"a": letters, "b": first, "c": first}, wiring)(MANY) == ("0 ", "0 ")
            eventually(lambda: made.closed == 2)
        assert made.made < 1000
        whole = [("input", "a"), ("a", "b"), ("a", "c"), (("b", "c", "a"), "output")]
        assert len(Graph({"a": letters, "b": first, "c": first}, whole)(300)[2].split()) == 300

    def test_an_empty_stream(self) -> None:
        wiring = [("input", "a"), ("a", "b"), ("a", "c"), (("a", "b", "c"), "output")]
        assert every_way(Graph({"a": Source().asynchronous, "b": count, "c": dotted}, wiring), 0) == (
            "",
            0,
            "",
        )

    @pytest.mark.parametrize("limit", [1, 2, 3])
    def test_under_a_limit_it_runs_too(self, source: Any, limit: int) -> None:
        _, letters = source
        nodes = {"a": letters, "b": dotted, "c": count, "d": dotted, "e": count_sync, "f": both}
        wiring = [("input", "a"), ("a", "b"), ("a", "c"), ("b", "d"), ("b", "e"), (("c", "d", "e"), "f")]
        g = Graph(nodes, [*wiring, ("f", "output")], concurrency=limit)
        value = g(500)
        assert (value[0], value[2]) == (500, 500)

    def test_its_error_is_one_error_of_its_own(self) -> None:
        ended: list[str] = []

        async def breaks(n: int) -> AsyncIterator[str]:
            for i in range(n):
                yield str(i)
            raise ValueError("broken")

        async def reads(pieces: AsyncIterator[str]) -> None:
            try:
                async for _ in pieces:
                    pass
                ended.append("well")
            finally:
                ended.append("over")

        wiring = [("input", "a"), ("a", "b"), ("a", "c"), (("b", "c"), "output")]
        nodes = {"a": breaks, "b": reads, "c": reads}
        for n in (1, 3, 100):
            ended.clear()
            with pytest.raises(ValueError, match="broken") as caught:
                Graph(nodes, wiring, name="g")(n)
            (note,) = caught.value.__notes__
            assert note.startswith("in g > a (test_graph_live.py:")
            assert "also" not in note
            assert set(ended) == {"over"}
        with pytest.raises(ValueError, match="broken"):
            Graph(nodes, wiring)(0)
        kept = Graph(nodes, wiring, on_error="keep")(3)
        assert [type(value) for value in kept] == [ValueError, ValueError]

    def test_a_reader_may_catch_its_error(self) -> None:
        async def breaks(n: int) -> AsyncIterator[str]:
            yield "a"
            await asyncio.sleep(0)
            raise ValueError("broken")

        async def patient(pieces: AsyncIterator[str]) -> str:
            seen = ""
            try:
                async for piece in pieces:
                    seen += piece
            except ValueError:
                seen += "?"
            return seen

        nodes = {"a": breaks, "b": patient, "c": patient}
        wiring = [("input", "a"), ("a", "b"), ("a", "c")]
        assert every_way(Graph(nodes, [*wiring, (("b", "c"), "output")]), 1) == ("a?", "a?")
        assert every_way(Graph({"a": breaks, "b": patient}, chain("a", "b")), 1) == "a?"
        with pytest.raises(ValueError, match="broken"):  # the whole of it is needed too
            Graph(nodes, [*wiring, (("a", "b", "c"), "output")])(1)
        with pytest.raises(ValueError, match="broken"):
            Graph(nodes | {"c": count}, [*wiring, (("b", "c"), "output")])(1)

    def test_a_reader_that_fails_stops_all(self) -> None:
        made = Source()

        async def breaks(pieces: AsyncIterator[str]) -> None:
            await anext(pieces)
            raise ValueError

        wiring = [("input", "a"), ("a", "b"), ("a", "c"), (("b", "c"), "output")]
        with leaks():
            with pytest.raises(ValueError) as caught:
                Graph({"a": made.asynchronous, "b": breaks, "c": count}, wiring)(MANY)
            assert caught.value.__notes__[0].startswith("in b ")
            assert made.closed == 1
        assert made.made < 1000
        kept = Graph({"a": made.asynchronous, "b": breaks, "c": count}, wiring, on_error="keep")(300)
        assert isinstance(kept[0], ValueError)
        assert kept[1] == 300

    def test_what_it_sets_before_its_first_piece_is_seen_by_its_readers(self) -> None:
        mark: ContextVar[str] = ContextVar("mark", default="none")

        async def letters(n: int) -> AsyncIterator[str]:
            mark.set("first")
            yield "a"
            mark.set("last")

        async def look(pieces: AsyncIterator[str]) -> list[str]:
            return [mark.get() async for _ in pieces]

        g = Graph(
            {"a": letters, "b": look, "c": look, "d": lambda b, c: [*b, *c, mark.get()]},
            [("input", "a"), ("a", "b"), ("a", "c"), (("b", "c"), "d"), ("d", "output")],
        )
        assert g(1) == ["first", "first", "last"]
