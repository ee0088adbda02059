from __future__ import annotations

import asyncio
import pydoc
from collections.abc import AsyncIterator
from typing import Any

import pytest

from millrace import Args, Pipeline, arg, bind
from millrace.streaming import FlowBuildError, FlowCallError


def pair(*args: Any, **kwargs: Any) -> Any:
    return (*args, *sorted(kwargs.items()))


async def pair_async(*args: Any, **kwargs: Any) -> Any:
    return (*args, *sorted(kwargs.items()))


@pytest.mark.parametrize("function", [pair, pair_async])
def test_the_upstream_goes_first_unless_it_is_written(function: Any) -> None:
    for call in (lambda f, x: f(x), lambda f, x: asyncio.run(f.acall(x)), lambda f, x: f.stream(x).result):
        assert call(Pipeline(bind(function, 10)), 1) == (1, 10)
        assert call(Pipeline(bind(function, 10, k=2)), 1) == (1, 10, ("k", 2))
        assert call(Pipeline(bind(function)), Args(1, 2)) == (1, 2)
        assert call(Pipeline(bind(function, 10, arg[0])), 1) == (10, 1)
        assert call(Pipeline(bind(function, arg[1], k=arg[0])), Args("a", "b")) == ("b", ("k", "a"))


def test_a_bound_step_alone() -> None:
    assert bind(pair, 10, arg[0])(1) == (10, 1)


def test_streams_stay_streams() -> None:
    async def say(x: str, times: int) -> AsyncIterator[str]:
        for _ in range(times):
            yield x

    assert list(bind(say, 3).stream("a").text()) == ["a", "a", "a"]


def test_flows_can_be_bound_by_position() -> None:
    with Pipeline() as p:
        p.a = str.upper
        p.b = bind(Pipeline(str.lower, lambda x: x + "!"), p.a)
        p.c = bind(Pipeline(pair), p.input, p.b)
    assert p("aB") == ("aB", "ab!")
    with pytest.raises(FlowBuildError, match="by position only"):
        bind(Pipeline(str), x=1)


def test_indices() -> None:
    with pytest.raises(FlowCallError, match=r"arg\[2\].*only 1 came in"):
        Pipeline(bind(pair, arg[2]))(1)
    for index in (-1, "a", True):
        with pytest.raises(FlowBuildError, match="0 or above"):
            arg[index]  # type: ignore[index]


def test_arg_itself_is_refused() -> None:
    for write in (lambda: bind(pair, arg, 1), lambda: bind(pair, x=arg)):
        with pytest.raises(FlowBuildError, match=r"say which .* arg\[0\]"):
            write()


@pytest.mark.parametrize("wrap", [lambda one: [1, one], lambda one: (one,), lambda one: {"a": one}])
def test_what_stands_for_a_value_is_given_by_itself(wrap: Any) -> None:
    with pytest.raises(
        FlowBuildError, match=r"bind\(pair, ...\): arg\[0\] has no value inside of a list or a dict"
    ):
        bind(pair, wrap(arg[0]), 1)
    with pytest.raises(FlowBuildError, match=r"p\.a has no value inside of"), Pipeline() as p:
        p.a = str
        p.b = bind(pair, x=wrap(p.a))


def test_arg_explains_itself() -> None:
    assert "`bind(f, 10, arg[0])` called with `y` is `f(10, y)`" in pydoc.render_doc(arg)
