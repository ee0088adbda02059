"""What type checkers make of flows. Never run: a test gives it to mypy and to pyright.

`assert_type` says what is to be inferred; a line that ends in `# refused` is the only place for an error.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator
from functools import partial
from typing import Any, TypeVar, assert_type

from millrace import (
    Args,
    Diverter,
    Graph,
    If,
    LocalModel,
    Loop,
    Message,
    Module,
    Parallel,
    Pipeline,
    Step,
    Switch,
    Warp,
    bind,
    step,
)
from millrace.streaming import Progress

T = TypeVar("T")


def number(text: str) -> int:
    return len(text)


def text(number: int) -> str:
    return str(number)


def half(number: float) -> float:
    return number / 2


async def number_async(text: str) -> int:
    return len(text)


async def text_async(number: int) -> str:
    return str(number)


async def stream(text: str) -> AsyncIterator[str]:
    yield text


async def stream_with_events(text: str) -> AsyncIterator[str | Progress]:
    yield text


def generator(text: str) -> Iterator[str]:
    yield text


def old_generator(text: str) -> Generator[str, None, None]:
    yield text


async def numbers(text: str) -> AsyncIterator[int]:
    yield 1


def live(pieces: AsyncIterator[str]) -> int:
    return 1


async def live_coroutine(pieces: AsyncIterator[str]) -> int:
    return 1


async def live_stream(pieces: AsyncIterator[str]) -> AsyncIterator[str]:
    async for piece in pieces:
        yield piece


def live_generator(pieces: Iterator[str]) -> Iterator[int]:
    yield from map(len, pieces)


def live_sync(pieces: Iterator[str]) -> int:
    return 1


def total(numbers: list[int]) -> int:
    return sum(numbers)


def words(text: str) -> list[str]:
    return text.split()


def both(left: str, right: int) -> bytes:
    return b""


def both_words(results: Args) -> str:
    return ""


def named(results: dict[str, Any]) -> bytes:
    return b""


def same(x: T) -> T:
    return x


def untyped(x):  # type: ignore[no-untyped-def]
    return x


def is_long(text: str) -> bool:
    return len(text) > 3


class Callee:
    def __call__(self, text: str) -> int:
        return 1

    def method(self, text: str) -> int:
        return 1

    async def wait(self, text: str) -> int:
        return 1


class Search(Module[str, list[str]]): ...


model = LocalModel("org/name")
to_number = step(number)
to_text = step(text)


def steps() -> None:
    assert_type(step(number), Step[str, int])
    assert_type(step(number_async), Step[str, int])
    assert_type(step(stream), Step[str, str])
    assert_type(step(stream_with_events), Step[str, str])
    assert_type(step(generator), Step[str, str])
    assert_type(step(old_generator), Step[str, str])
    assert_type(step(numbers), Step[str, list[int]])
    assert_type(step(number, retry=3, name="count"), Step[str, int])
    assert_type(step(name="count")(number), Step[str, int])
    assert_type(step(retry=3)(number_async), Step[str, int])
    assert_type(to_number("a"), int)
    to_number(1)  # refused
    to_number.batch([1])  # refused
    assert_type(to_number.batch(["a"]), list[int])


async def calls() -> None:
    assert_type(await to_number.acall("a"), int)
    assert_type(await Pipeline(number, text).acall("a"), str)
    await to_number.acall(1)  # refused


def bars() -> None:
    assert_type(step(number) | text, Pipeline[str, str])
    assert_type(step(number) | text_async, Pipeline[str, str])
    assert_type(step(number) | to_text | number_async | half, Pipeline[str, float])
    assert_type(step(text) | stream, Pipeline[int, str])
    assert_type(step(text) | generator, Pipeline[int, str])
    assert_type(step(text) | numbers | total, Pipeline[int, int])
    assert_type(step(stream) | live, Pipeline[str, int])
    assert_type(step(text) | live_sync, Pipeline[int, int])
    assert_type(step(stream) | live_coroutine, Pipeline[str, int])
    assert_type(step(stream) | live_coroutine | text, Pipeline[str, str])
    assert_type(step(stream) | live_stream, Pipeline[str, str])
    assert_type(step(stream) | live_stream | live_generator, Pipeline[str, list[int]])
    assert_type(Parallel(text, text) | both, Pipeline[int, bytes])
    assert_type(step(text) | model | number, Pipeline[int, int])
    assert_type(step(text) | Pipeline(number, text), Pipeline[int, str])
    assert_type(number | to_text, Pipeline[str, str])
    assert_type(step(is_long) | text, Pipeline[str, str])  # a bool is an int
    step(number) | number  # refused
    step(number) | number_async  # refused
    step(number) | to_number  # refused
    step(number) | model  # refused
    step(words) | number  # refused
    step(model) | text  # refused


def pipelines() -> None:
    assert_type(Pipeline(number), Pipeline[str, int])
    assert_type(Pipeline(number_async), Pipeline[str, int])
    assert_type(Pipeline(stream), Pipeline[str, str])
    assert_type(Pipeline(numbers), Pipeline[str, list[int]])
    assert_type(Pipeline(to_number), Pipeline[str, int])
    assert_type(Pipeline(number, text), Pipeline[str, str])
    assert_type(Pipeline(number_async, text_async), Pipeline[str, str])
    assert_type(Pipeline(number_async, text), Pipeline[str, str])
    assert_type(Pipeline(number, text, stream, number), Pipeline[str, int])
    assert_type(Pipeline(text, step(stream_with_events), generator, number_async), Pipeline[int, int])
    assert_type(Pipeline(number, half, half, half, half), Pipeline[str, float])
    assert_type(Pipeline(number, text, number, text, number, text), Pipeline[str, str])
    assert_type(Pipeline(text, model, number), Pipeline[int, int])
    assert_type(Pipeline(str.strip, len), Pipeline[str, int])
    assert_type(Pipeline(Callee(), text), Pipeline[str, str])
    assert_type(Pipeline(Callee().method, text), Pipeline[str, str])
    assert_type(Pipeline(Callee().wait, text), Pipeline[str, str])
    assert_type(Pipeline(number, text, name="p"), Pipeline[str, str])
    assert_type(Pipeline(number, text)("a"), str)
    Pipeline(number, number)  # refused
    Pipeline(number_async, number_async)  # refused
    Pipeline(to_number, to_number)  # refused
    Pipeline(text, stream, text)  # refused
    Pipeline(words, number)  # refused
    Pipeline(number, model)  # refused
    Pipeline(number, text, number, number)  # refused
    Pipeline(number, text)(1)  # refused
    Pipeline(1)  # refused
    Pipeline({"a": number})  # refused


def pipelines_that_are_let_through() -> None:
    Pipeline()
    Pipeline(untyped, number, text)
    Pipeline(number, untyped, number)
    Pipeline(number_async, untyped)
    Pipeline(lambda x: x, number)
    Pipeline(number, lambda n: n + 1, text)
    Pipeline(number_async, lambda n: n + 1)
    Pipeline(str.strip, str, len, print)
    Pipeline(number, str, int, float)
    Pipeline(number, same, text)
    Pipeline(numbers, total)
    Pipeline(text, live)
    Pipeline(stream, live)
    Pipeline(generator, live_sync)
    Pipeline(lambda t: t.upper(), number)("a")
    step(lambda t: number(t))("a")
    Pipeline(text, live_sync, text)
    Pipeline(text, Parallel(stream, number), both, len)
    Pipeline(Parallel(a=number, b=stream), named)
    Pipeline(number, partial(both, "x"))
    Pipeline(lambda t: [Message.user(t)], model)
    Pipeline(number, text, number, text, number, text, number, text, number)
    Pipeline(bind(both, "a"), print)
    with Pipeline() as p:
        p.a = number
        p.b = bind(both, left=p.input, right=p.a)


def others() -> None:
    assert_type(Parallel(number, stream), Parallel[str, Args])
    assert_type(Parallel(a=number, b=stream), Parallel[str, dict[str, Any]])
    assert_type(Parallel(words, words, collect=both_words), Parallel[str, str])
    assert_type(Warp(number), Warp[str, list[int]])
    assert_type(Warp(number_async), Warp[str, list[int]])
    assert_type(Warp(stream), Warp[str, list[str]])
    assert_type(Warp(number)(["a"]), list[int])
    assert_type(If(is_long, number, number_async), If[str, int])
    assert_type(If(is_long, stream), If[str, str])
    assert_type(Switch({is_long: to_number, 3: to_number}, default=to_number), Switch[str, int])
    Switch({is_long: number, "faq": lambda t: t.upper()}, key=len, default=number_async)("a")
    If(is_long, lambda t: t.upper(), stream)("a")
    Loop(lambda n: n * 2, count=3)(1)
    Warp(lambda n: n * 2)([1])
    Parallel(lambda n: n * 2, half)(1)
    assert_type(Loop(stream, count=3), Loop[str, str])
    assert_type(Loop(half, until=lambda x: x < 1), Loop[float, float])
    Pipeline(words, Warp(number), total, text)
    Pipeline(text, If(is_long, stream), Switch({"a": number}, default=number), text)
    Pipeline(text, Loop(stream, count=3), number)
    Pipeline(number, Loop(stream, count=3))  # refused
    Pipeline(Warp(number), number)  # refused
    Warp(number)([1])  # refused
    Parallel(number, stream)(1)  # refused
    If(is_long, number)(1)  # refused
    Pipeline(number, If(is_long, number))  # refused
    Diverter(number, text)(Args("a", 1))
    with Graph() as g:
        g.a = number
        g.edge(g.input, g.a)
        g.edge(g.a, g.output)
    with Parallel() as q:
        q.a = number
    with Warp() as w, Loop(count=2) as loop, Switch() as switch, If(is_long) as either:
        w.a = number
        loop.a = same
        switch["a"] = number
        either.then = number
