"""Each step that begins says that it is over, and hooks hear the same, however it ends in a run that goes on."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from threading import Event as Flag
from typing import Any

import pytest

from millrace import Graph, Parallel, Pipeline, step
from millrace.flow import hooks
from millrace.flow.policies import Retry
from millrace.streaming import (
    Event,
    Progress,
    RunFinished,
    StepFinished,
    StepStarted,
    cancelled,
    emit,
    status,
)
from tests.support.leaks import eventually


class Failure(LookupError):
    """The user's own."""


async def passes(x: str) -> str:
    return x


async def fails(x: str) -> str:
    await asyncio.sleep(0.01)
    raise Failure(x)


async def waits(x: str) -> str:
    await asyncio.sleep(30)
    return x


def works(x: str) -> str:
    while not cancelled():
        time.sleep(0.001)
    return x


async def pieces(x: str) -> AsyncIterator[str]:
    for letter in x:
        yield letter


def pieces_in_a_thread(x: str) -> Iterator[str]:
    yield from x


async def upper(letters: AsyncIterator[str]) -> AsyncIterator[str]:
    async for letter in letters:
        yield letter.upper()


async def fails_live(letters: AsyncIterator[str]) -> str:
    async for letter in letters:
        raise Failure(letter)
    return ""


async def waits_live(letters: AsyncIterator[str]) -> str:
    async for _ in letters:
        await asyncio.sleep(30)
    return ""


async def first(letters: AsyncIterator[str]) -> str:
    async for letter in letters:
        return letter
    return ""


def late(x: str) -> Any:
    return fails(x)


def late_pieces(x: str) -> Any:
    def broken() -> Iterator[str]:
        yield x
        raise Failure(x)

    return broken()


FLOWS: dict[str, Callable[[], Any]] = {
    "chain fails": lambda: step(Pipeline(pieces, fails_live), fallback=passes),
    "chain fails behind a thread": lambda: step(
        Pipeline(pieces_in_a_thread, upper, fails_live), fallback=passes
    ),
    "chain is tried again": lambda: step(
        Pipeline(pieces, fails_live), retry=Retry(2, wait=0), fallback=passes
    ),
    "chain takes too long": lambda: step(Pipeline(pieces, upper, waits_live), timeout=0.02, fallback=passes),
    "chain is left early": lambda: Pipeline(Pipeline(pieces, upper, name="inner"), first),
    "steps take too long": lambda: step(Pipeline(passes, waits), timeout=0.02, fallback=passes),
    "function takes too long": lambda: step(Pipeline(works, passes), timeout=0.02, fallback=passes),
    "sibling fails": lambda: step(Parallel(waits, fails), fallback=passes),
    "sibling of a function fails": lambda: step(Parallel(works, fails), fallback=passes),
    "sibling of functions fails": lambda: step(Parallel(Pipeline(works, str.upper), fails), fallback=passes),
    "sibling of a chain fails": lambda: Parallel(
        Parallel(Pipeline(pieces, waits_live), fails), passes, on_error="keep"
    ),
    "node fails": lambda: step(
        Graph({"a": waits, "b": fails}, [("input", "a"), ("input", "b"), (("a", "b"), "output")]),
        fallback=passes,
    ),
    "late coroutine fails": lambda: step(Pipeline(str.lower, late, str.upper), fallback=passes),
    "late generator fails": lambda: Parallel(Pipeline(str.lower, late_pieces), passes, on_error="keep"),
}


def unfinished(events: list[Event]) -> Counter[Any]:
    """Steps that have begun, less those that were over, by path."""
    begun = Counter(event.path for event in events if type(event) is StepStarted)
    begun.subtract(event.path for event in events if type(event) is StepFinished)
    return Counter({path: count for path, count in begun.items() if count})


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", FLOWS)
def test_what_has_begun_is_over(kind: str) -> None:
    calls: list[str] = []
    with (
        hooks(
            started=lambda call: calls.append("started"),
            finished=lambda call: calls.append("over"),
            failed=lambda call: calls.append("over"),
        ),
        FLOWS[kind]().stream("ab") as stream,
    ):
        events = list(stream)
    assert isinstance(events[-1], RunFinished)
    assert events[-1].status == "done"
    assert not unfinished(events)
    eventually(lambda: status().abandoned == 0)
    eventually(lambda: calls.count("started") == calls.count("over"), message=lambda: calls)
    assert calls.count("started") == sum(type(event) is StepStarted for event in events)


def test_a_step_that_was_stopped_says_by_what() -> None:
    events = list(step(Pipeline(passes, waits), timeout=0.02, fallback=passes).stream("a"))
    (stopped,) = [event.error for event in events if type(event) is StepFinished and event.error is not None]
    assert isinstance(stopped, asyncio.CancelledError)


# ---------------------------------------------------------------- functions that return coroutines


@pytest.mark.parametrize("returns", [late, late_pieces])
def test_a_function_whose_coroutine_fails_is_named(returns: Any) -> None:
    flow = Pipeline(str.lower, returns, str.upper)
    with pytest.raises(Failure) as raised:
        flow("a")
    assert raised.value.__notes__[0].startswith(f"in {returns.__name__} (test_performing.py:")
    with pytest.raises(Failure) as raised:
        asyncio.run(flow.acall("a"))
    assert raised.value.__notes__[0].startswith(f"in {returns.__name__} (test_performing.py:")


def test_a_coroutine_that_a_function_returned_has_the_place_of_the_function() -> None:
    async def looks(x: str) -> str:
        emit(Progress(0.5, x))
        return x

    def returns(x: str) -> Any:
        return looks(x)

    events = list(Pipeline(str.lower, returns, passes).stream("a"))
    assert [event.path for event in events if type(event) is Progress] == [("returns",)]


# ---------------------------------------------------------------- functions that nobody waits for


def test_no_function_begins_behind_one_that_nobody_waits_for() -> None:
    begun: list[str] = []
    go_on = Flag()

    def blocks(x: str) -> str:
        go_on.wait(10)
        return x

    def after(x: str) -> str:
        begun.append(x)
        return x

    flow = Pipeline(step(Pipeline(blocks, after), timeout=0.02, fallback=passes), passes)
    events = []
    with flow.stream("a") as stream:
        for event in stream:
            events.append(event)
            if type(event) is StepStarted and event.path == ("passes",):
                go_on.set()
                eventually(lambda: status().abandoned == 0)
    assert stream.result == "a"
    assert begun == []
    assert not unfinished(events)
    assert ("after",) not in [event.path for event in events]
