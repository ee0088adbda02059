"""Readers: where they begin, how they end, what waiting costs nobody."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from millrace import Pipeline
from millrace.streaming import (
    EventsExpired,
    FlowCallError,
    RunCancelled,
    RunFinished,
    RunTimeout,
)
from tests.streaming.parts import Gate, count, seen, taken
from tests.support.leaks import eventually


def test_each_place_gives_the_rest() -> None:
    run = Pipeline(count).start(200)
    run.result(5)
    whole = seen(run.events())
    for k in range(len(whole) + 1):
        assert seen(run.events(after=k)) == whole[k:]


def test_a_place_that_is_not_there_yet_is_refused() -> None:
    gate = Gate()
    run = Pipeline(gate.pieces).start(10)
    for after in (-1, 1000):
        with pytest.raises(EventsExpired, match=f"after={after}: this run has said"):
            run.events(after=after)
    gate.let(10)
    run.result(5)


def test_where_to_go_on() -> None:
    run = Pipeline(count).start(20)
    run.result(5)
    reader = run.events()
    assert reader.seq == 0
    first = taken(reader, 7)
    assert reader.seq == first[-1].seq == 7
    assert seen(run.events(after=reader.seq)) == seen(reader)


def test_a_closed_reader_ends() -> None:
    gate = Gate()
    run = Pipeline(gate.pieces).start(10)
    with run.events() as reader:
        next(reader)
    assert list(reader) == []
    gate.let(10)
    assert run.result(5)


def test_what_is_waited_for_in_a_thread_is_told_of_at_once() -> None:
    gate = Gate()
    run = Pipeline(gate.pieces).start(10)
    reader = run.events()
    taken(reader, 2)
    assert reader.next_within(0.01) is None
    threading.Timer(0.02, gate.let, [10]).start()
    began = time.monotonic()
    event = reader.next_within(5)
    assert event is not None
    assert time.monotonic() - began < 1
    list(reader)


@pytest.mark.anyio
async def test_a_cancelled_wait_takes_nothing() -> None:
    gate = Gate()
    run = Pipeline(gate.pieces).start(5)
    reader = run.events()
    await anext(reader)
    await anext(reader)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await anext(reader)
    gate.let(5)
    rest = [event.seq async for event in reader]
    assert rest == list(range(3, 3 + len(rest)))


@pytest.mark.anyio
async def test_from_another_loop_than_the_runs() -> None:
    """A detached run lives on the framework's loop."""
    gate = Gate()
    run = Pipeline(gate.pieces).start(50)
    reader = asyncio.create_task(collect(run.events().text()))
    gate.let(50)
    assert await reader == [f"{i} " for i in range(50)]


async def collect(items: object) -> list[object]:
    return [item async for item in items]  # type: ignore[attr-defined]


class TestText:
    def test_only_the_output(self) -> None:
        run = Pipeline(str, count, "".join, count_up).start(3)
        assert run.result(5) == "0 1 2 !"
        assert list(run.events().text()) == ["0 1 2 ", "!"]

    def test_where_nothing_streams_the_result_once(self) -> None:
        run = Pipeline(lambda x: x + 1).start(41)
        assert list(run.events().text()) == ["42"]

    def test_behind_the_start_no_result_is_made_up(self) -> None:
        run = Pipeline(count).start(3)
        run.result(5)
        last = list(run.events())[-1].seq
        assert list(run.events(after=last - 1).text()) == []
        assert list(run.events(after=last).text()) == []

    def test_it_raises_what_the_run_raised(self) -> None:
        def breaks(x: int) -> str:
            raise KeyError("gone")

        with pytest.raises(KeyError, match="gone"):
            list(Pipeline(breaks).start(1).events().text())

    def test_it_raises_a_stop(self) -> None:
        gate = Gate()
        run = Pipeline(gate.pieces).start(10)
        gate.let(1)
        pieces = run.events().text()
        assert next(pieces) == "0 "
        run.cancel("enough")
        with pytest.raises(RunCancelled, match="enough"):
            list(pieces)
        late = Pipeline(gate.pieces).start(10, timeout=0.01)
        with pytest.raises(RunTimeout):
            list(late.events().text())


def test_a_reader_that_is_dropped_holds_nothing() -> None:
    gate = Gate()
    run = Pipeline(gate.pieces).start(3)
    for _ in range(100):
        next(run.events())
    gate.let(3)
    assert run.result(5) == "0 1 2 "
    eventually(lambda: isinstance(list(run.events())[-1], RunFinished))


def test_a_run_of_this_loop_cannot_be_waited_for_in_it() -> None:
    async def asks(x: int) -> None:
        run = Pipeline(count).start(3)
        list(run.events())

    with pytest.raises(FlowCallError, match="async for"):
        Pipeline(asks)(1)


async def count_up(text: str):  # type: ignore[no-untyped-def]
    yield text
    yield "!"
