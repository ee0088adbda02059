"""Stops that the listener does not make by leaving: a cancel, a deadline, a condition; and functions in threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from millrace import Pipeline
from millrace.streaming import (
    RunCancelled,
    RunFinished,
    RunTimeout,
    Stream,
    cancelled,
    check_cancelled,
    current_run,
    status,
)
from tests.streaming.producers import Producer, limited, stopped, stopped_async
from tests.support.leaks import eventually, eventually_async

# ---------------------------------------------------------------- cancel, deadline, stop_when


@pytest.mark.anyio
async def test_cancel_is_told_to_the_listener(flow: Pipeline[Any, str], producer: Producer) -> None:
    events: list[Any] = []
    with pytest.raises(RunCancelled, match="enough") as raised:
        async with flow.stream(0) as stream:
            async for event in stream:
                events.append(event)
                if len(events) == 5:
                    stream.run.cancel("enough")
    assert raised.value.reason == "enough"
    assert isinstance(events[-1], RunFinished)
    assert events[-1].status == "cancelled"
    assert sum(isinstance(event, RunFinished) for event in events) == 1
    assert len(events) == 6  # the cursor jumps to the end
    await stopped_async(producer, producer.made)


@pytest.mark.anyio
@pytest.mark.parametrize("where", ["task", "thread", "other loop"])
async def test_cancel_from_anywhere(where: str, producer: Producer) -> None:
    async def cancel(stream: Stream) -> None:
        stream.run.cancel(where)

    with pytest.raises(RunCancelled, match=where):
        async with Pipeline(producer.stuck).stream(0) as stream:
            async for piece in stream.text():
                if piece == "9 ":
                    if where == "task":
                        await asyncio.create_task(cancel(stream))
                    elif where == "thread":
                        await asyncio.to_thread(stream.run.cancel, where)
                    else:
                        await asyncio.to_thread(asyncio.run, cancel(stream))
    await stopped_async(producer, producer.made)


def test_a_deadline(flow: Pipeline[Any, str], producer: Producer) -> None:
    with pytest.raises(RunTimeout) as raised:
        for _ in flow.stream(0, timeout=0.05).text():
            pass
    assert isinstance(raised.value, TimeoutError)
    stopped(producer, producer.made)
    with pytest.raises(RunTimeout):
        flow(0, timeout=0.05)
    eventually(lambda: producer.cleaned == 2)


def test_what_is_left_of_a_deadline_counts_for_all_below() -> None:
    async def told(x: Any) -> list[float | None]:
        run = current_run()
        assert run is not None
        outer = run.time_left
        inner = await Pipeline(told_inside).acall(x, session="another")
        return [outer, inner]

    async def told_inside(x: Any) -> float | None:
        run = current_run()
        assert run is not None
        return run.time_left

    assert Pipeline(told)(0) == [None, None]
    outer, inner = Pipeline(told)(0, timeout=9)
    assert 8 < inner <= outer <= 9


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), "3"])
def test_a_deadline_that_is_none(timeout: Any) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Pipeline(str).stream(1, timeout=timeout)


def test_stop_when(producer: Producer) -> None:
    seen: list[str] = []

    def enough(text: str) -> bool:
        seen.append(text)
        return text.endswith("2 ")

    with Pipeline(producer.pausing).stream(0, stop_when=enough) as stream:
        assert list(stream.text()) == ["0 ", "1 ", "2 "]
        assert stream.result == "0 1 2 "
    assert seen == ["0 ", "0 1 ", "0 1 2 "]
    assert stream.run.status == "done"
    assert stream.run.reason == "stop_condition"
    stopped(producer, producer.made)


@pytest.mark.anyio
async def test_asyncio_timeout_around_a_bare_loop(producer: Producer) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            async for _ in Pipeline(producer.stuck).stream(0).text():
                pass
    await stopped_async(producer, producer.made)


@pytest.mark.anyio
async def test_outer_cancellation_of_acall(flow: Pipeline[Any, str], producer: Producer) -> None:
    task = asyncio.create_task(flow.acall(0))
    await eventually_async(lambda: producer.made > 3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await stopped_async(producer, producer.made, ahead=64)


@pytest.mark.anyio
async def test_a_step_that_swallows_the_cancel_is_cancelled_all_the_same() -> None:
    swallowed = []

    async def stubborn(x: Any) -> AsyncIterator[str]:
        while len(swallowed) < 3:
            try:
                yield "x"
                await asyncio.sleep(0.001)
            except asyncio.CancelledError:
                swallowed.append(True)

    async with Pipeline(stubborn).stream(0) as stream:
        assert [piece async for piece in limited(stream.text(), 3)] == ["x"] * 3
    assert stream.run.status == "cancelled"
    assert swallowed


@pytest.mark.anyio
async def test_cleanup_that_fails_leaves_the_run_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    async def messy(x: Any) -> AsyncIterator[str]:
        try:
            while True:
                yield "x"
                await asyncio.sleep(0)
        finally:
            raise ValueError("cleanup")

    async with Pipeline(messy).stream(0) as stream:
        async for _ in stream.text():
            break
    assert stream.run.status == "cancelled"
    assert "cleanup" in caplog.text


# ---------------------------------------------------------------- functions in threads


def test_a_blocked_function_is_abandoned_and_counted() -> None:
    go_on, began = threading.Event(), threading.Event()

    def blocked(x: Any) -> str:
        began.set()
        go_on.wait(10)
        return "late"

    with Pipeline(blocked).stream(0) as stream:
        began.wait(5)
    assert stream.run.status == "cancelled"
    assert status().runs == 0
    assert status().abandoned == 1
    go_on.set()
    eventually(lambda: status().abandoned == 0)


def test_a_function_can_ask() -> None:
    began, asked = threading.Event(), []

    def polite(x: Any) -> None:
        began.set()
        while not cancelled():
            pass
        try:
            check_cancelled()
        except RunCancelled as error:
            asked.append(error.reason)

    with Pipeline(polite).stream(0):
        began.wait(5)
    eventually(lambda: asked == ["listener left"])
    eventually(lambda: status().abandoned == 0)


def test_no_function_starts_after_the_stop() -> None:
    go_on, began, later = threading.Event(), threading.Event(), []

    def first(x: Any) -> None:
        began.set()
        go_on.wait(5)

    with Pipeline(first, later.append).stream(0):
        began.wait(5)
    go_on.set()
    eventually(lambda: status().abandoned == 0)
    assert later == []
