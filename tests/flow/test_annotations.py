from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from millrace import LocalModel, Message, Module, step
from millrace.flow.annotations import Reading, read_function, read_step
from millrace.streaming import Progress, Usage


def plain(x: int) -> str: ...
async def asynchronous(x: int) -> str: ...
async def texts(x: int) -> AsyncIterator[str]:
    yield ""


async def numbers(x: int) -> AsyncIterator[int]:
    yield 1


async def texts_and_progress(x: int) -> AsyncIterator[str | Progress | Usage]:
    yield ""


async def mixed(x: int) -> AsyncIterator[str | int]:
    yield ""


def generator(x: int) -> Iterator[str]:
    yield ""


def returning(x: int) -> Generator[str, None, float]:
    yield ""
    return 1.0


def may_return(x: int) -> Generator[str, None, float | None]:
    yield ""
    return None


def gives_coroutine(x: int) -> Coroutine[Any, Any, str]: ...
def gives_awaitable(x: int) -> Awaitable[str]: ...
def gives_generator(x: int) -> Iterator[str]: ...
def unannotated(x): ...  # type: ignore[no-untyped-def]
def unresolved(x: Later) -> Later: ...  # type: ignore[name-defined]  # noqa: F821


@dataclass
class Point:
    x: int


class Callee:
    def __call__(self, x: int) -> str: ...


class Custom:
    def __new__(cls, x: int) -> Any: ...


def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any: ...

    return wrapper


@pytest.mark.parametrize(
    ("function", "value", "pieces"),
    [
        (plain, str, str),
        (asynchronous, str, str),
        (texts, str, str),
        (numbers, list[int], int),
        (texts_and_progress, str, str),
        (mixed, str | list[str | int], str | int),
        (generator, str, str),
        (returning, float, str),
        (may_return, float | str, str),
        (gives_coroutine, str, str),
        (gives_awaitable, Any, Any),
        (gives_generator, Any, Any),
        (unannotated, Any, Any),
        (Callee(), str, str),
        (Callee().__call__, str, str),
        (functools.partial(plain, 1), str, str),
        (functools.lru_cache(plain), str, str),
        (functools.partial(functools.lru_cache(plain)), str, str),
        (decorate(plain), Any, Any),
        (Point, Point, Point),
        (int, int, int),
        (Custom, Any, Any),
        (type, Any, Any),
        (len, Any, Any),
    ],
    ids=str,
)
def test_what_a_call_gives(function: Any, value: Any, pieces: Any) -> None:
    reading = read_step(step(function))
    assert (reading.value, reading.pieces) == (value, pieces)


def parameters(reading: Reading) -> dict[str, Any]:
    assert reading.signature is not None
    return {name: one.annotation for name, one in reading.signature.parameters.items()}


def test_what_a_call_takes() -> None:
    assert parameters(read_function(plain)) == {"x": int}
    assert parameters(read_function(Callee())) == {"x": int}
    assert parameters(read_function(Point)) == {"x": int}
    assert parameters(read_function(unannotated)) == {"x": Any}
    assert parameters(read_function(functools.partial(plain, 1))) == {}
    assert parameters(read_function(decorate(plain))) == {"args": Any, "kwargs": Any}
    assert read_function(int).signature is None


class Search(Module[str, list[str]]):
    async def __call__(self, x: str) -> list[str]: ...  # type: ignore[override]


def test_modules_and_models() -> None:
    assert parameters(read_step(Search())) == {"x": str}
    assert read_step(Search()).value == list[str]
    model = read_step(LocalModel("nowhere"))
    assert model.value is str
    assert parameters(model)["x"] == str | Message | Sequence[Message]


def test_a_name_that_is_defined_later() -> None:
    made = step(unresolved)
    assert read_step(made).vague
    globals()["Later"] = int
    try:
        assert read_step(made).value is Any
        assert read_step(made, again=True).value is int
    finally:
        del globals()["Later"]


def test_a_step_is_read_once() -> None:
    made = step(plain)
    assert read_step(made) is read_step(made) is read_step(made, again=True)
    assert read_step(step(plain)) is read_step(made)  # and so are all steps of one function
