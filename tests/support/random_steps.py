"""Single steps for random flows: each adds its mark to a text, in a form of its own, and is seen at work."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["LEAVES", "Witness"]


class Witness:
    """Counts the steps that have begun and those whose `finally` has run."""

    def __init__(self) -> None:
        self.begun = 0
        self.ended = 0
        self._lock = threading.Lock()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        with self._lock:
            self.begun += 1
        try:
            yield
        finally:
            with self._lock:
                self.ended += 1


def cut(text: str) -> list[str]:
    """A text in at most four pieces."""
    size = max(1, len(text) // 3)
    return [text[i : i + size] for i in range(0, len(text), size)]


def _sync(mark: str, witness: Witness) -> Any:
    def sync(x: str) -> str:
        with witness.at_work():
            return x + mark

    return sync


def _asynchronous(mark: str, witness: Witness) -> Any:
    async def asynchronous(x: str) -> str:
        with witness.at_work():
            await asyncio.sleep(0)
            return x + mark

    return asynchronous


def _generator(mark: str, witness: Witness) -> Any:
    def generator(x: str) -> Iterator[str]:
        with witness.at_work():
            yield from cut(x)
            yield mark

    return generator


def _async_generator(mark: str, witness: Witness) -> Any:
    async def async_generator(x: str) -> AsyncIterator[str]:
        with witness.at_work():
            for piece in cut(x):
                yield piece
                await asyncio.sleep(0)
            yield mark

    return async_generator


def _late_coroutine(mark: str, witness: Witness) -> Any:
    inner = _asynchronous(mark, witness)
    return lambda x: inner(x)


def _late_generator(mark: str, witness: Witness) -> Any:
    inner = _generator(mark, witness)
    return lambda x: inner(x)


def _callable(mark: str, witness: Witness) -> Any:
    class Callable:
        async def __call__(self, x: str) -> str:
            with witness.at_work():
                await asyncio.sleep(0)
                return x + mark

    return Callable()


def _partial(mark: str, witness: Witness) -> Any:
    async def two(mark: str, x: str) -> str:
        with witness.at_work():
            return x + mark

    return functools.partial(two, mark)


def _swapping(mark: str, witness: Witness) -> Any:
    async def swapping(pieces: AsyncIterator[str]) -> AsyncIterator[str]:
        with witness.at_work():
            async for piece in pieces:
                yield piece.swapcase()
            yield mark

    return swapping


def _swapping_in_a_thread(mark: str, witness: Witness) -> Any:
    def swapping(pieces: Iterator[str]) -> Iterator[str]:
        with witness.at_work():
            for piece in pieces:
                yield piece.swapcase()
            yield mark

    return swapping


def _whole(mark: str, witness: Witness) -> Any:
    async def whole(pieces: AsyncIterator[str]) -> str:
        with witness.at_work():
            return "".join([piece async for piece in pieces]).upper() + mark

    return whole


def _whole_in_a_thread(mark: str, witness: Witness) -> Any:
    def whole(pieces: Iterator[str]) -> str:
        with witness.at_work():
            return "".join(pieces).upper() + mark

    return whole


def _first(mark: str, witness: Witness) -> Any:
    async def first(pieces: AsyncIterator[str]) -> str:
        with witness.at_work():
            async for piece in pieces:
                if piece:
                    return piece[0] + mark
            return mark

    return first


LEAVES: dict[str, Callable[[str, Witness], Any]] = {
    "function": _sync,
    "coroutine function": _asynchronous,
    "generator": _generator,
    "async generator": _async_generator,
    "lambda of a coroutine": _late_coroutine,
    "lambda of a generator": _late_generator,
    "object": _callable,
    "partial": _partial,
    "live async generator": _swapping,
    "live generator": _swapping_in_a_thread,
    "live coroutine function": _whole,
    "live function": _whole_in_a_thread,
    "live, leaving early": _first,
}
