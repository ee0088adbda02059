from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from millrace import If, Loop, Pipeline
from millrace.streaming import FlowBuildError, StepStarted, status
from tests.support.leaks import eventually


def double(x: int) -> int:
    return x * 2


async def double_async(x: int) -> int:
    return x * 2


@pytest.mark.parametrize("body", [double, double_async, Pipeline(double)])
def test_turns(body: Any) -> None:
    for run in (lambda f: f(1), lambda f: f.stream(1).result, lambda f: asyncio.run(f.acall(1))):
        assert run(Loop(body, count=5)) == 32
        assert run(Loop(body, until=lambda x: x > 20)) == 32
        assert run(Loop(body, count=3, until=lambda x: x > 20)) == 8
        assert run(Loop(body, until=lambda x: True)) == 2


def test_wrong_writing() -> None:
    with pytest.raises(FlowBuildError, match="never end"):
        Loop(double)
    with pytest.raises(FlowBuildError, match="at least once"):
        Loop(double, count=0)
    with pytest.raises(FlowBuildError, match="predicate"):
        If(5, double, double)  # type: ignore[arg-type]


def test_each_turn_is_output_and_has_its_index() -> None:
    async def say(x: str) -> AsyncIterator[str]:
        yield x
        yield "."

    flow = Loop(say, count=3)
    assert list(flow.stream("a").text()) == ["a", ".", "a.", ".", "a..", "."]
    assert [e.path for e in flow.stream("a") if isinstance(e, StepStarted)] == [(0,), (1,), (2,)]


def test_an_endless_loop_stops() -> None:
    for flow in (Loop(double_async, until=lambda x: False), Loop(lambda x: 0, until=lambda x: False)):
        with pytest.raises(TimeoutError):
            flow(1, timeout=0.05)
        eventually(lambda: status() == type(status())(0, 0))


def test_an_error_names_the_turn() -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        Loop(lambda x: 1 / (x - 2) if x == 2 else x + 1, count=9)(0)
    assert raised.value.__notes__[0].startswith("in <lambda>[2] (test_loop.py:")


def test_if() -> None:
    flow = If(str.isdigit, int, len)
    assert (flow("12"), flow("abc")) == (12, 3)
    assert If(str.isdigit, int)("abc") == "abc"
    assert repr(flow).startswith("<If(")
