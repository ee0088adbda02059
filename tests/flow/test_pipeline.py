from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace import Pipeline, bind, step
from millrace.streaming import FlowBuildError, StepStarted


def add(x: int) -> int:
    return x + 1


def double(x: int) -> int:
    return x * 2


async def square(x: int) -> int:
    return x * x


FUNCTIONS = {"add": add, "double": double, "square": square}


def test_three_ways_to_write_the_same() -> None:
    with Pipeline() as written:
        written.first = add
        written.second = double
    assert Pipeline(add, double)(3) == (step(add) | double)(3) == written(3) == 8
    assert Pipeline()(3) == 3
    assert [s.name for s in (step(add) | double | str).steps] == ["add", "double", "str"]


@given(st.lists(st.sampled_from(sorted(FUNCTIONS)), max_size=6), st.integers(-5, 5), st.randoms())
def test_nesting_is_associative(names: list[str], x: int, rnd: random.Random) -> None:
    functions: list[Any] = [FUNCTIONS[name] for name in names]
    expected = x
    for function in functions:
        expected = asyncio.run(square(expected)) if function is square else function(expected)
    while len(functions) > 1:
        at = rnd.randrange(len(functions) - 1)
        functions[at : at + 2] = [Pipeline(*functions[at : at + 2], name=rnd.choice([None, "inner"]))]
    flow = Pipeline(*functions)
    assert flow(x) == flow.stream(x).result == asyncio.run(flow.acall(x)) == expected


def paths(flow: Pipeline[Any, Any], x: Any) -> list[str]:
    return ["/".join(map(str, event.path)) for event in flow.stream(x) if isinstance(event, StepStarted)]


def test_names_and_paths() -> None:
    flow = Pipeline(add, add, lambda x: x, Pipeline(double, square, name="inner"), Pipeline(square, add))
    assert paths(flow, 1) == [
        "add",
        "add-2",
        "lambda-3",
        "inner",
        "inner/double",
        "inner/square",
        "square",
        "add-3",
    ]


def test_three_hundred_nested() -> None:
    flow: Pipeline[Any, Any] = Pipeline(add, name="p")
    for _ in range(300):
        flow = Pipeline(flow, name="p")
    assert flow(1) == flow.stream(1).result == 2


def test_references() -> None:
    with Pipeline(name="rag") as rag:
        rag.clean = str.strip
        rag.notes = lambda question: {"bm25": question.upper(), "size": len(question)}
        rag.prompt = bind(
            lambda question, notes, size: f"{question}|{notes}|{size}",
            question=rag.input,
            notes=rag.notes["bm25"],
            size=rag.notes["size"].real,
        )
    assert rag(" hi ") == " hi |HI|2"
    assert rag.stream(" hi ").result == " hi |HI|2"
    assert asyncio.run(rag.acall(" hi ")) == " hi |HI|2"
    assert rag.prompt.name == "<lambda>"


def test_references_from_a_nested_flow_to_an_outer_one() -> None:
    with Pipeline() as outer:
        outer.a = add
        with Pipeline() as outer.inner:
            outer.inner.b = double
            outer.inner.c = bind(lambda *xs: xs, outer.input, outer.a, outer.inner.b, outer.inner.input)
        outer.end = list
    for run in (outer, lambda x: outer.stream(x).result, lambda x: asyncio.run(outer.acall(x))):
        assert run(1) == [1, 2, 4, 2]


def test_references_do_not_mix_between_calls() -> None:
    with Pipeline() as p:
        p.a = square
        p.b = bind(lambda a, x: (a, x), p.a, p.input)

    async def many() -> None:
        assert await asyncio.gather(*(p.acall(i) for i in range(50))) == [(i * i, i) for i in range(50)]

    asyncio.run(many())


def test_an_unknown_or_later_step() -> None:
    with pytest.raises(FlowBuildError, match="no step 'later'"), Pipeline() as p:
        p.a = bind(add, p.later)


@pytest.mark.parametrize(
    "name", ["stream", "acall", "name", "steps", "_x", "input", "plain", "ready", "release"]
)
def test_names_that_belong_to_the_flow(name: str) -> None:
    with pytest.raises(FlowBuildError, match=name), Pipeline() as p:
        setattr(p, name, add)


def test_wrong_writing() -> None:
    with pytest.raises(FlowBuildError, match="once"), Pipeline() as p:
        p.a = add
        p.a = double
    with pytest.raises(FlowBuildError, match="inside of the block"), Pipeline() as p:
        p.a = add
        p(1)
    with Pipeline() as p:
        p.a = add
    with pytest.raises(FlowBuildError, match="built"):
        p.b = double
    with pytest.raises(FlowBuildError, match="built"):
        Pipeline(add).other = 5  # type: ignore[attr-defined]
    with pytest.raises(FlowBuildError, match="references are made inside"):
        _ = p.input
    with pytest.raises(AttributeError, match="its steps: a"):
        _ = p.b
    with pytest.raises(FlowBuildError, match="bind a function to it"), Pipeline() as p:
        p.a = add
        p.b = p.a
    with pytest.raises(FlowBuildError, match="has steps already"), Pipeline(add) as p:
        pass


@pytest.mark.parametrize(
    "use",
    [bool, list, lambda r: r + 1, lambda r: r == 1, lambda r: r < 1, len, lambda r: 1 in r, lambda r: r()],
)
def test_a_reference_has_no_value_yet(use: Any) -> None:
    with pytest.raises(FlowBuildError, match="no value while the flow is being written"), Pipeline() as p:
        p.a = add
        use(p.a)


def test_a_block_that_raises_is_left_as_it_is() -> None:
    with pytest.raises(KeyError), Pipeline() as p:
        p.a = add
        raise KeyError


def test_one_note_says_where() -> None:
    def fails(x: Any) -> None:
        raise LookupError("gone")

    flow = Pipeline(add, Pipeline(double, fails, name="inner"), name="outer")
    for run in (flow, lambda x: flow.stream(x).result, lambda x: asyncio.run(flow.acall(x))):
        with pytest.raises(LookupError) as raised:
            run(1)
        (note,) = raised.value.__notes__
        assert note.startswith("in outer > inner > fails (test_pipeline.py:")
        assert note.endswith(" s")


def test_a_shared_exception_collects_no_notes() -> None:
    shared = LookupError("gone")

    def fails(x: Any) -> None:
        raise shared

    for _ in range(3):
        with pytest.raises(LookupError):
            Pipeline(fails)(1)
    assert len(shared.__notes__) == 1


class Slotted(Exception):
    __slots__ = ()


def test_it_is_printed_readably() -> None:
    assert repr(Pipeline(add, Pipeline(double, name="inner"), name="p")) == "<Pipeline p(add, inner)>"
