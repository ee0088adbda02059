"""What type checkers make of `step`: mypy reads this file with the others, and each `type: ignore` has to be needed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import assert_type

from millrace import Module, Pipeline, Step, step
from millrace.flow.policies import Limiter, MemoryCache, Rate, Retry


def plain(x: int) -> str:
    return str(x)


async def coroutine(x: str) -> float:
    return float(x)


async def stream(x: float) -> AsyncIterator[str]:
    yield str(x)


class Double(Module[int, int]):
    async def __call__(self, x: int) -> int:  # type: ignore[override]
        return x * 2


@step(retry=3)
def decorated(x: int) -> str:
    return str(x)


@step(name="other")
async def other(x: str) -> float:
    return float(x)


def inferred() -> None:
    assert_type(step(plain), Step[int, str])
    assert_type(step(plain, retry=3, timeout=2, cache=True, concurrency=8, rate="10/s"), Step[int, str])
    assert_type(step(coroutine, retry=Retry(3), fallback=plain, cache=MemoryCache()), Step[str, float])
    assert_type(step(stream, concurrency=Limiter(3), rate=Rate(3, per=60)), Step[float, str])
    assert_type(step(step(coroutine, retry=2), timeout=3), Step[str, float])
    assert_type(step(plain, retry=3) | step(coroutine, timeout=1), Pipeline[int, float])
    assert_type(step(step(plain) | coroutine, retry=3), Step[int, float])
    assert_type(step(Double(), retry=3), Step[int, int])
    assert_type(step(plain, retry=3)(1), str)
    assert_type(decorated, Step[int, str])
    assert_type(other, Step[str, float])
    assert_type(decorated | other, Pipeline[int, float])


def refused() -> None:
    step(plain, retry="3")  # type: ignore[call-overload]
    step(plain, wrong=3)  # type: ignore[call-overload]
    step(plain, retry=3)("x")  # type: ignore[arg-type]
