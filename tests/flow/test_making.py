from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from millrace import Module, Parallel, Pipeline, Step, Switch, arg, bind, step
from millrace.flow.functions import FunctionStep
from millrace.flow.policies import PolicyStep, Retry, bare
from millrace.streaming import FlowBuildError, StepStarted, TextDelta


def plain(x: int) -> str:
    return str(x)


async def coroutine(x: str) -> float:
    return float(x)


async def stream(x: float) -> AsyncIterator[str]:
    yield str(x)
    yield "!"


class Double(Module[int, int]):
    async def __call__(self, x: int) -> int:  # type: ignore[override]
        return x * 2


def test_without_policies_a_step_is_what_it_was() -> None:
    flow = Pipeline(plain)
    assert type(step(plain)) is FunctionStep
    assert step(flow) is flow
    assert step(step(plain), show="trace", retry=None).plain
    assert step(plain, retry=1).plain is False


def test_a_policy_step_looks_like_what_is_inside() -> None:
    for thing in (plain, coroutine, stream, Pipeline(plain, name="flow"), Double()):
        inner: Any = step(thing) if not isinstance(thing, Step) else thing
        made: Any = step(thing, retry=3, timeout=30, concurrency=2, cache=True, fallback=str)
        assert isinstance(made, PolicyStep)
        assert (made.name, made.live, made.streams, made.plain) == (
            inner.name,
            inner.live,
            inner.streams,
            False,
        )
        assert type(bare(made)) is type(inner)
        assert repr(inner) in repr(made) or type(inner) is FunctionStep


def test_a_name_for_anything() -> None:
    whole = step(Pipeline(str, len), name="count")
    module, again = step(Double(), name="double"), step(step(plain, retry=2), name="text")
    flow = Pipeline(whole, module, again)
    flow.check()
    assert flow("abc") == "6"
    paths = ["/".join(map(str, e.path)) for e in flow.stream("abc") if isinstance(e, StepStarted)]
    assert paths == ["count", "count/str", "count/len", "double", "text"]
    assert step(Pipeline(plain), name="x").plain
    assert Pipeline(step(Pipeline(plain), name="x"))(1) == "1"


def test_show_of_a_whole_flow() -> None:
    def output(flow: Any) -> list[str]:
        return [e.text for e in flow.stream(1.0) if isinstance(e, TextDelta) and e.output]

    inner = Pipeline(stream)
    assert output(Pipeline(step(inner, show="output"), len)) == ["1.0", "!"]
    assert output(Pipeline(step(inner, show="trace"))) == []
    assert output(Pipeline(step(inner, show="output", retry=3, timeout=9), len)) == ["1.0", "!"]


def test_options_of_a_step_stay_where_nothing_else_is_said() -> None:
    first = step(plain, name="first", inline=True, show="trace")
    second: Any = step(first, name="second")
    assert (second.name, second.inline, second.show) == ("second", True, "trace")
    bound: Any = step(bind(lambda x, y: (x, y), 2), name="bound")
    assert bound(1) == (1, 2)


def test_in_blocks_and_in_every_flow() -> None:
    calls: list[str] = []

    async def flaky(x: str) -> str:
        calls.append(x)
        if len(calls) % 2:
            raise ConnectionError
        return x + "."

    safe = step(flaky, retry=Retry(2, wait=0))
    with Pipeline() as p:
        p.first = safe
        with Parallel() as p.both:
            p.both.a = step(bind(lambda x, y: x + y, arg[0], p.first), timeout=30)
            p.both.b = safe
        p.chosen = step(Switch({lambda d: len(d) == 2: lambda d: d}, default=str), retry=2, name="choice")
        p.last = bind(lambda a, b: f"{a} {b}", p.both["a"], p.chosen["b"])
    assert p("x") == "x.x. x.."
    assert asyncio.run(p.acall("x")) == "x.x. x.."
    assert isinstance(p.first, PolicyStep)


@pytest.mark.parametrize(
    ("make", "cure"),
    [
        (lambda: step(Pipeline(str), inline=True), "only a plain function can stay on the loop"),
        (lambda: step(Pipeline(str), show="silent"), "say so of the steps inside"),
        (lambda: step(str, show="loud"), "use 'output', 'trace' or 'silent'"),
        (lambda: step({"a": str}, retry=3), r"Parallel\(\*\*branches\)"),
        (lambda: step(Double, retry=3), r"give an instance: Double\(\.\.\.\)"),
        (lambda: step(retry=0), "retry=0"),
        (lambda: step(str, timeout=0), "timeout=0"),
    ],
)
def test_what_cannot_be(make: Any, cure: str) -> None:
    with pytest.raises(FlowBuildError, match=cure):
        make()


def test_a_flow_that_is_still_written() -> None:
    with Pipeline() as p:
        p.a = str
        with pytest.raises(FlowBuildError, match="is being written"):
            step(p, retry=3)
        with (
            pytest.raises(FlowBuildError, match="cannot be written in a block; write the flow first"),
            step(Pipeline(), retry=3),
        ):
            pass
    assert step(p, retry=3)(1) == "1"
