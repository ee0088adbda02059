from __future__ import annotations

import asyncio
import functools
import math
import operator
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any

import pytest

from millrace import Args, Pipeline, Step, step
from millrace.streaming import FlowBuildError, RunFinished, TextDelta, status
from tests.support.leaks import eventually


class Plain:
    def __call__(self, x: int) -> int:
        return x + 1


class Asynchronous:
    async def __call__(self, x: int) -> int:
        return x + 1

    async def method(self, x: int) -> int:
        return x + 1


class Generating:
    async def __call__(self, x: int) -> AsyncIterator[str]:
        yield str(x + 1)


async def asynchronous(x: int) -> int:
    await asyncio.sleep(0)
    return x + 1


@functools.wraps(asynchronous)
def wrapped(x: int) -> Any:
    return asynchronous(x)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x + 1,
        Plain(),
        Asynchronous(),
        Asynchronous().method,
        asynchronous,
        wrapped,
        functools.partial(operator.add, 1),
        functools.partial(asynchronous),
        lambda x: asynchronous(x),
        math.nextafter and (lambda x: x + 1),
        step(asynchronous, name="other"),
        Pipeline(asynchronous),
    ],
)
def test_whatever_can_be_called(function: Any) -> None:
    assert Pipeline(function)(1) == 2
    assert asyncio.run(Pipeline(function).acall(1)) == 2
    assert Pipeline(function).stream(1).result == 2


@pytest.mark.parametrize("function", [str, int, math.sqrt, str.upper, operator.neg])
def test_classes_and_functions_of_c(function: Any) -> None:
    x = "a" if function is str.upper else 4
    assert Pipeline(function)(x) == Pipeline(function).stream(x).result == function(x)


def text(x: Any) -> Iterator[str]:
    yield from "abc"


async def text_async(x: Any) -> AsyncIterator[str]:
    for piece in "abc":
        yield piece


def items(x: Any) -> Iterator[int]:
    yield from (1, 2)


def returning(x: Any) -> Generator[str, None, dict[str, int]]:
    yield "a"
    return {"n": 1}


def nothing(x: Any) -> Iterator[int]:
    yield from ()


def no_text(x: Any) -> Iterator[str]:
    yield from ()


async def no_text_async(x: Any) -> AsyncIterator[str]:
    if x is NotImplemented:
        yield ""


@pytest.mark.parametrize(
    ("function", "value"),
    [
        (text, "abc"),
        (text_async, "abc"),
        (items, [1, 2]),
        (returning, {"n": 1}),
        (nothing, []),
        (no_text, ""),
        (no_text_async, ""),
        (Generating(), "1"),
        (lambda x: text(x), "abc"),
        (lambda x: text_async(x), "abc"),
    ],
)
def test_the_value_of_a_generator(function: Any, value: Any) -> None:
    assert Pipeline(function)(0) == value
    assert Pipeline(function).stream(0).result == value
    assert Pipeline(function, lambda x: [x])(0) == [value]


@pytest.mark.parametrize("function", [text, text_async, lambda x: text(x)])
def test_pieces_are_told_apart_from_intermediate_ones(function: Any) -> None:
    def said(flow: Step[Any, Any]) -> list[tuple[str, bool]]:
        return [(event.text, event.output) for event in flow.stream(0) if isinstance(event, TextDelta)]

    assert said(Pipeline(function)) == [("a", True), ("b", True), ("c", True)]
    assert said(Pipeline(function, len)) == [("a", False), ("b", False), ("c", False)]
    assert said(Pipeline(step(function, show="output"), len)) == [("a", True), ("b", True), ("c", True)]
    assert said(Pipeline(step(function, show="trace"))) == [("a", False), ("b", False), ("c", False)]
    assert said(Pipeline(step(function, show="silent"))) == []
    assert list(Pipeline(function, len).stream(0).text()) == ["3"]


def test_a_step_shows_its_name() -> None:
    assert repr(step(str.strip)) == "<FunctionStep strip>"
    assert repr(step(str.strip, name="clean")) == "<FunctionStep clean>"


def test_step_as_a_decorator() -> None:
    @step
    def plain(x: int) -> int:
        return x + 1

    @step(name="search", show="trace")
    async def named(x: int) -> int:
        return x + 1

    assert isinstance(plain, Step)
    assert plain(1) == named(1) == 2
    assert (plain.name, named.name) == ("plain", "search")
    assert (plain | named)(1) == 3
    assert (str | step(len))(123) == 3
    assert asyncio.run(named.acall(1)) == 2
    assert list(plain.stream(1).text()) == ["2"]


@pytest.mark.parametrize(
    ("thing", "cure"),
    [
        ({"a": str}, r"Parallel\(\*\*"),
        ([str, int], "Pipeline"),
        ((str, int), "Pipeline"),
        (5, "called with a value"),
        (None, "called with a value"),
    ],
)
def test_what_is_no_step(thing: Any, cure: str) -> None:
    with pytest.raises(FlowBuildError, match=cure):
        Pipeline(thing)
    with pytest.raises(FlowBuildError, match=cure):
        step(str) | thing


def test_what_runs_already() -> None:
    coroutine = asynchronous(1)
    with pytest.raises(FlowBuildError, match="already running"):
        Pipeline(coroutine)
    coroutine.close()
    with pytest.raises(FlowBuildError, match="already running"):
        Pipeline(text(1))
    with pytest.raises(FlowBuildError, match="'output', 'trace' or 'silent'"):
        step(str, show="loud")  # type: ignore[call-overload]
    with pytest.raises(FlowBuildError, match="where they are made"):
        step(Pipeline(str), show="silent")
    with pytest.raises(FlowBuildError, match="only a plain function"):
        step(Pipeline(str), inline=True)


@pytest.mark.parametrize("value", [None, 0, "", [], {}, False, 0.0])
def test_falsy_values_pass(value: Any) -> None:
    for flow in (Pipeline(), Pipeline(lambda x: x), Pipeline(lambda x: x, asynchronous_same, lambda x: x)):
        assert flow(value) == value
        assert flow.stream(value).result == value


async def asynchronous_same(x: Any) -> Any:
    return x


def test_only_args_unpack() -> None:
    def add(a: int, b: int) -> int:
        return a + b

    async def add_async(a: int, b: int) -> int:
        return a + b

    assert Pipeline(add)(Args(1, 2)) == Pipeline(add_async)(Args(1, 2)) == 3
    assert Pipeline(lambda _: Args(3, 4), add)(0) == 7
    assert Pipeline(lambda _: Args(3, 4), add).stream(0).result == 7
    assert Pipeline(lambda _: (3, 4), len)(0) == 2
    assert Args(1, 2) == (1, 2)
    assert repr(Args(1, "a")) == "Args(1, 'a')"


@pytest.mark.parametrize("asynchronously", [False, True])
def test_stop_iteration_becomes_an_error_that_names_the_step(asynchronously: bool) -> None:
    def stops(x: Any) -> None:
        raise StopIteration(3)

    flow = Pipeline(str, stops)
    with pytest.raises(RuntimeError, match="stops raised StopIteration"):
        if asynchronously:
            asyncio.run(flow.acall(1))
        else:
            flow(1)


def test_a_generator_that_yields_after_close() -> None:
    closing = []

    async def stubborn(x: Any) -> AsyncIterator[str]:
        try:
            while True:
                yield "x"
        except GeneratorExit:
            closing.append(True)
            yield "y"

    for _ in Pipeline(stubborn).stream(0).text():
        break
    eventually(lambda: closing and status().runs == 0)


def test_inline_stays_on_the_loop() -> None:
    import threading

    def where(_: Any) -> str:
        return threading.current_thread().name

    assert Pipeline(step(where, inline=True)).stream(0).result == "millrace-loop"
    assert Pipeline(where).stream(0).result == "millrace-step"
    assert Pipeline(where)(0) == threading.current_thread().name  # nobody listens: the caller's own thread


def test_a_run_that_is_one_step_says_so() -> None:
    events = list(step(text).stream(0))
    assert [event.kind for event in events] == ["run_started", *["text_delta"] * 3, "run_finished"]
    assert isinstance(events[-1], RunFinished)
    assert events[-1].result == "abc"
