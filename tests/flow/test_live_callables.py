"""Whatever can be called may take its upstream live, by its annotation; the wrong kind of iterator is refused."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from millrace import Parallel, Pipeline, arg, bind
from millrace.streaming import FlowBuildError
from tests.flow.decorators import decorated, decorated_async


async def letters(text: str) -> AsyncIterator[str]:
    for letter in text:
        yield letter


async def count(pieces: AsyncIterator[str]) -> int:
    return len([piece async for piece in pieces])


def count_in_a_thread(pieces: Iterator[str]) -> int:
    return sum(1 for _ in pieces)


async def count_behind(start: int, pieces: AsyncIterator[str]) -> int:
    return start + len([piece async for piece in pieces])


def count_behind_in_a_thread(start, pieces: Iterator[str]) -> int:  # type: ignore[no-untyped-def]
    return start + sum(1 for _ in pieces)


async def dotted(pieces: AsyncIterator[str]) -> AsyncIterator[str]:
    async for piece in pieces:
        yield piece + "."


class Counts:
    async def __call__(self, pieces: AsyncIterator[str]) -> int:
        return await count(pieces)

    def in_a_thread(self, pieces: Iterator[str]) -> int:
        return count_in_a_thread(pieces)

    @staticmethod
    async def static(pieces: AsyncIterator[str]) -> int:
        return await count(pieces)


class CountsStatic:
    @staticmethod
    async def __call__(pieces: AsyncIterator[str]) -> int:
        return await count(pieces)


@pytest.mark.parametrize(
    "counts",
    [
        count,
        count_in_a_thread,
        Counts(),
        Counts().in_a_thread,
        Counts.static,
        CountsStatic(),
        decorated(count),
        decorated(count_in_a_thread),
        decorated_async(count),
        functools.partial(count),
        functools.partial(count_behind, 0),
        functools.partial(count_behind_in_a_thread, 0),
        functools.partial(Counts()),
        bind(count_behind, 0, arg[0]),
        bind(count_behind_in_a_thread, 0, pieces=arg[0]),
        bind(count, arg[0]),
    ],
)
def test_a_stream_goes_where_the_value_would(counts: Any) -> None:
    for flow in (
        Pipeline(letters, counts),
        Pipeline(letters, dotted, counts),
        Pipeline(letters, Parallel(counts, dotted, collect=lambda found: found[0])),
    ):
        assert flow("abc") == flow.stream("abc").result == asyncio.run(flow.acall("abc")) == 3
    assert Pipeline(str, counts)("abc") == 1


def test_a_decorated_live_generator() -> None:
    assert Pipeline(letters, decorated(dotted))("ab") == "a.b."
    assert Pipeline(letters, decorated(dotted), dotted)("ab") == "a.b.."


def test_an_annotation_elsewhere_takes_no_stream() -> None:
    def second(text, helper: Iterator[int] = iter(())):  # type: ignore[no-untyped-def]  # noqa: B008
        return text

    @dataclasses.dataclass
    class Held:
        pieces: Iterator[str]

    class Kept:
        pieces: Iterator[str]

        def __init__(self, x: Any) -> None:
            self.pieces = x

    assert Pipeline(letters, second)("abc") == "abc"
    assert Pipeline(letters, Kept)("abc").pieces == "abc"
    assert list(Pipeline(lambda x: iter(x), Held)("abc").pieces) == ["a", "b", "c"]


def test_the_wrong_kind_of_iterator_is_refused() -> None:
    async def asynchronous(pieces: Iterator[str]) -> str:
        return ""

    def synchronous(pieces: AsyncIterator[str]) -> Iterator[str]:
        yield ""

    with pytest.raises(
        FlowBuildError, match=r"asynchronous is asynchronous and takes .* as an AsyncIterator"
    ):
        Pipeline(asynchronous)
    with pytest.raises(FlowBuildError, match=r"synchronous is not asynchronous and takes .* as an Iterator"):
        Pipeline(synchronous)
