"""Detached runs: they go on without a listener and keep what they say."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from millrace import Pipeline
from millrace.streaming import (
    EventsExpired,
    QueueError,
    QueueFull,
    RunCancelled,
    RunFinished,
    TextDelta,
    current_run,
    current_session,
    status,
)
from tests.support.leaks import eventually


async def count(x: int) -> AsyncIterator[str]:
    for i in range(x):
        yield str(i)
        await asyncio.sleep(0)


def test_it_goes_on_alone() -> None:
    run = Pipeline(count).start(300)
    assert run.result(5) == "".join(map(str, range(300)))
    assert (run.status, run.reason, len(run.id)) == ("done", None, 32)
    assert run.text == run.result()
    assert status().runs == 0


@pytest.mark.anyio
async def test_many_readers_from_anywhere() -> None:
    gate = threading.Event()

    async def gated(x: int) -> AsyncIterator[str]:
        for i in range(x):
            yield str(i)
            if i == x // 2:
                await asyncio.to_thread(gate.wait, 5)

    run = Pipeline(gated).start(300, session="alice")
    in_thread: list[Any] = []
    thread = threading.Thread(target=lambda: in_thread.extend(run.events()))
    thread.start()
    first = [event async for event in limited(run.events(), 10)]
    gate.set()
    everything = [event async for event in run.events()]
    await asyncio.to_thread(thread.join, 5)
    assert in_thread == everything
    assert first == everything[:10]
    assert [event.seq for event in everything] == list(range(1, len(everything) + 1))
    assert isinstance(everything[-1], RunFinished)
    for k in range(len(everything) + 1):
        assert [event async for event in run.events(after=k)] == everything[k:]
    assert await run.wait() == "done"


async def limited(items: Any, most: int) -> AsyncIterator[Any]:
    async for item in items:
        yield item
        most -= 1
        if not most:
            return


def test_cancel_and_wait() -> None:
    run = Pipeline(count).start(1_000_000)
    events = run.events()
    while not isinstance(next(events), TextDelta):
        pass
    run.cancel("enough")
    with pytest.raises(RunCancelled, match="enough"):
        run.result(5)
    *_, last = events
    assert isinstance(last, RunFinished)
    assert (last.status, last.reason) == ("cancelled", "enough")
    eventually(lambda: status().runs == 0)


def test_a_wait_that_is_too_short_disturbs_nothing() -> None:
    gate = threading.Event()
    run = Pipeline(lambda x: gate.wait(5)).start(0)
    with pytest.raises(TimeoutError, match="goes on"):
        run.result(0.01)
    gate.set()
    assert run.result(5) is True


def test_too_much_said() -> None:
    async def talks(x: int) -> AsyncIterator[str]:
        for _ in range(x):
            yield "x" * 100_000

    run = Pipeline(talks).start(1000)
    with pytest.raises(QueueFull, match="read it as a stream"):
        run.result(10)
    assert run.status == "error"


def test_what_cannot_be_read() -> None:
    run = Pipeline(count).start(3)
    run.result(5)
    with pytest.raises(EventsExpired):
        run.events(after=1000)
    called: list[Any] = []
    Pipeline(lambda _: called.append(current_run()))(3)
    with pytest.raises(QueueError, match=r"flow\.start"):
        called[0].events()


def test_it_outlives_the_loop_and_the_run_that_started_it() -> None:
    runs: list[Any] = []

    async def starter(x: int) -> str:
        runs.append(Pipeline(count, lambda text: (text, current_session())).start(x, session="own"))
        return "gone"

    assert asyncio.run(Pipeline(starter).acall(100, session="alice")) == "gone"
    text, name = runs[0].result(5)
    assert text == "".join(map(str, range(100)))
    assert name == "own"
    assert runs[0].parent is None
