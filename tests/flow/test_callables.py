"""Whatever can be called is a step, in every position; it decides and it collects, where it can."""

from __future__ import annotations

import asyncio
import functools
import operator
import types
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any

import pytest

from millrace import (
    Args,
    Diverter,
    Graph,
    If,
    Loop,
    Parallel,
    Pipeline,
    Switch,
    Warp,
    arg,
    bind,
    step,
)
from millrace.streaming import FlowBuildError
from tests.flow.decorators import decorated, decorated_async


def loud(x: str) -> str:
    return x + "!"


async def loud_async(x: str) -> str:
    await asyncio.sleep(0)
    return x + "!"


def loud_pieces(x: str) -> Iterator[str]:
    yield x
    yield "!"


async def loud_pieces_async(x: str) -> AsyncIterator[str]:
    yield x
    yield "!"


class Methods:
    def plain(self, x: str) -> str:
        return x + "!"

    async def asynchronous(self, x: str) -> str:
        return x + "!"

    def generator(self, x: str) -> Iterator[str]:
        yield from loud_pieces(x)

    async def async_generator(self, x: str) -> AsyncIterator[str]:
        yield x
        yield "!"

    @staticmethod
    def static(x: str) -> str:
        return x + "!"

    @staticmethod
    async def static_async(x: str) -> str:
        return x + "!"

    @classmethod
    def of_class(cls, x: str) -> str:
        return x + "!"

    @classmethod
    async def of_class_async(cls, x: str) -> str:
        return x + "!"

    partial = functools.partialmethod(lambda self, mark, x: x + mark, "!")

    def __call__(self, x: str) -> str:
        return x + "!"


class CalledAsync:
    async def __call__(self, x: str) -> str:
        return x + "!"


class CalledGenerator:
    def __call__(self, x: str) -> Iterator[str]:
        yield from loud_pieces(x)


class CalledAsyncGenerator:
    async def __call__(self, x: str) -> AsyncIterator[str]:
        yield x
        yield "!"


class CalledStatic:
    @staticmethod
    async def __call__(x: str) -> str:
        return x + "!"


class CalledOfClass:
    @classmethod
    def __call__(cls, x: str) -> str:
        return x + "!"


class Loud(str):
    def __new__(cls, x: str) -> Loud:
        return super().__new__(cls, x + "!")


class Meta(type):
    async def __call__(cls, x: str) -> str:
        return x + "!"


class WithMeta(metaclass=Meta):
    pass


@types.coroutine
def of_old(x: str) -> Generator[Any, Any, str]:
    yield from asyncio.get_running_loop().create_task(asyncio.sleep(0))
    return x + "!"


@functools.singledispatch
def dispatched(x: Any) -> str:
    raise TypeError


@dispatched.register
def _(x: str) -> str:
    return x + "!"


async def of_a_task(x: str) -> Any:
    return asyncio.ensure_future(loud_async(x))


async def of_a_coroutine(x: str) -> Any:
    return loud_async(x)


CALLABLES: dict[str, Any] = {
    "function": loud,
    "coroutine function": loud_async,
    "generator": loud_pieces,
    "async generator": loud_pieces_async,
    "lambda": lambda x: x + "!",
    "lambda of a coroutine": lambda x: loud_async(x),
    "lambda of a generator": lambda x: loud_pieces(x),
    "lambda of an async generator": lambda x: loud_pieces_async(x),
    "lambda of a coroutine of a coroutine": lambda x: of_a_coroutine(x),
    "coroutine of a task": of_a_task,
    "method": Methods().plain,
    "async method": Methods().asynchronous,
    "generator method": Methods().generator,
    "async generator method": Methods().async_generator,
    "static method": Methods.static,
    "async static method": Methods().static_async,
    "bare static method": vars(Methods)["static"],
    "bare async static method": vars(Methods)["static_async"],
    "class method": Methods.of_class,
    "async class method": Methods().of_class_async,
    "partial method": Methods().partial,
    "object": Methods(),
    "async object": CalledAsync(),
    "generator object": CalledGenerator(),
    "async generator object": CalledAsyncGenerator(),
    "object with a static call": CalledStatic(),
    "object with a call of its class": CalledOfClass(),
    "class": Loud,
    "class with an async metaclass": WithMeta,
    "decorated": decorated(loud),
    "decorated coroutine function": decorated(loud_async),
    "decorated generator": decorated(loud_pieces),
    "decorated async generator": decorated(loud_pieces_async),
    "async decorated": decorated_async(loud_async),
    "decorated method": decorated(Methods().plain),
    "cached": functools.lru_cache(loud),
    "dispatched": dispatched,
    "coroutine of old": of_old,
    "partial": functools.partial(lambda mark, x: x + mark, "!"),
    "partial of a coroutine function": functools.partial(loud_async),
    "partial of a generator": functools.partial(loud_pieces),
    "partial of an async generator": functools.partial(loud_pieces_async),
    "partial of a partial": functools.partial(functools.partial(lambda a, b, x: x + a + b, "!"), ""),
    "partial of an async object": functools.partial(CalledAsync()),
    "of C, without a signature": operator.methodcaller("__add__", "!"),
    "of C, bound": "{}!".format,
    "step": step(loud),
    "step of a coroutine function": step(loud_async, name="other"),
    "inline": step(loud, inline=True),
    "bound": bind(lambda mark, x: x + mark, "!", arg[0]),
    "bound coroutine function": bind(loud_async),
    "flow": Pipeline(loud),
    "named flow": Pipeline(loud_async, name="flow"),
}


def same(x: Any) -> Any:
    return x


async def joined(pieces: AsyncIterator[str]) -> str:
    return "".join([piece async for piece in pieces])


POSITIONS: dict[str, Callable[[Any], Any]] = {
    "alone": lambda f: Pipeline(f),
    "first": lambda f: Pipeline(f, same),
    "in the middle": lambda f: Pipeline(same, same, f, same),
    "last": lambda f: Pipeline(same, f),
    "behind a coroutine": lambda f: Pipeline(loud_async, lambda x: x[:-1], f),
    "before a live step": lambda f: Pipeline(f, joined),
    "in a flow": lambda f: Pipeline(same, Pipeline(f, name="inner"), same),
    "branch": lambda f: Parallel(f, same, collect=lambda found: found[0]),
    "post": lambda f: Parallel(same, collect=lambda found: found[0], post=f),
    "body": lambda f: Loop(f, count=1),
    "body until": lambda f: Loop(f, until=bool),
    "case": lambda f: Switch({"a": f}),
    "default": lambda f: Switch({}, default=f),
    "then": lambda f: If(bool, f),
    "item": lambda f: Pipeline(lambda x: [x], Warp(f, collect="".join)),
    "diverted": lambda f: Pipeline(lambda x: Args(x), Diverter(f, collect="".join)),
    "bound": lambda f: bind(f),
    "node": lambda f: Graph({"node": f}, edges=[("input", "node"), ("node", "output")]),
    "joined": lambda f: Pipeline(lambda x: Pipeline(f)(x)),
    "with a policy": lambda f: step(f, timeout=60),
}


@pytest.mark.parametrize("name", CALLABLES)
def test_in_every_position(name: str) -> None:
    for position, made in POSITIONS.items():
        flow = made(CALLABLES[name])
        assert flow("a") == flow.stream("a").result == "a!", position

    async def on_this_loop() -> None:
        for position, made in POSITIONS.items():
            assert await made(CALLABLES[name]).acall("a") == "a!", position

    asyncio.run(on_this_loop())


# ---------------------------------------------------------------- deciding


def is_a(x: str) -> bool:
    return x == "a"


async def is_a_async(x: str) -> bool:
    await asyncio.sleep(0)
    return x == "a"


def is_a_returned(x: str) -> Generator[str, None, bool]:
    yield "deciding"
    return x == "a"


class IsA:
    async def __call__(self, x: str) -> bool:
        return x == "a"


PREDICATES: dict[str, Any] = {
    "function": is_a,
    "coroutine function": is_a_async,
    "generator": is_a_returned,
    "lambda": lambda x: x == "a",
    "lambda of a coroutine": lambda x: is_a_async(x),
    "lambda of a generator": lambda x: is_a_returned(x),
    "decorated coroutine function": decorated(is_a_async),
    "async object": IsA(),
    "partial": functools.partial(operator.eq, "a"),
    "method of C": "a".__eq__,
    "flow": Pipeline(is_a),
    "async flow": Pipeline(is_a_async),
    "inline": step(is_a, inline=True),
    "with a policy": step(is_a_async, timeout=60),
}

DECIDING: dict[str, Callable[[Any], Any]] = {
    "condition": lambda f: If(f, lambda x: "yes", lambda x: "no"),
    "case": lambda f: Switch({(lambda x: False): same, f: lambda x: "yes", "b": lambda x: "no"}),
    "second case": lambda f: Switch({(lambda x: 0): same, f: lambda x: "yes"}, default=lambda x: "no"),
    "key": lambda f: Switch({True: lambda x: "yes", False: lambda x: "no"}, key=f),
    "key of predicates": lambda f: Switch({same: lambda x: "yes"}, key=f, default=lambda x: "no"),
    "until": lambda f: Pipeline(
        Loop(lambda x: "a" if x == "bb" else x + "b"[: x != "a"], until=f), lambda x: "yes" if x == "a" else x
    ),
}


@pytest.mark.parametrize("name", PREDICATES)
def test_deciding(name: str) -> None:
    for position, made in DECIDING.items():
        flow = Pipeline(same, made(PREDICATES[name]), same)
        for x, expected in (("a", "yes"), ("b", "yes" if position == "until" else "no")):
            assert flow(x) == flow.stream(x).result == asyncio.run(flow.acall(x)) == expected, position


COLLECTORS: dict[str, Any] = {
    "function": loud_async,
    "lambda of a coroutine": lambda found: loud_async(found),
    "object": CalledAsync(),
    "generator": loud_pieces,
}


@pytest.mark.parametrize("name", COLLECTORS)
def test_collecting(name: str) -> None:
    collect = COLLECTORS[name]

    def texts(found: Any) -> Any:
        return collect("".join(found))

    for flow in (Parallel(same, same, collect=texts), Pipeline(list, Warp(same, collect=texts), str)):
        assert flow("aa"[: 2 - isinstance(flow, Parallel)]) == "aa!"


@pytest.mark.parametrize("flow", [Pipeline(str), step(str), Parallel(str)])
def test_a_step_does_not_collect(flow: Any) -> None:
    for made in (lambda: Parallel(str, collect=flow), lambda: Warp(str, collect=flow)):
        with pytest.raises(FlowBuildError, match="is given as post="):
            made()
