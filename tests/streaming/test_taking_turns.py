"""Work that waits for nothing leaves others on its loop their turns, and hears of its own stop."""

from __future__ import annotations

import asyncio
import time
from contextvars import ContextVar
from typing import Any

import pytest

from millrace import Loop, Parallel, Pipeline, Warp
from millrace.streaming import RunCancelled, RunTimeout, current_run
from tests.streaming.tasks_seen import own_task

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param}


SET: ContextVar[str] = ContextVar("set", default="nothing")


async def polls(x: Any) -> None:
    """A step that looks again and again for what another task does, by calling a flow that waits for nothing."""
    turned: list[bool] = []
    asyncio.get_running_loop().call_later(0.01, turned.append, True)
    flow, start = FLOWS[x], time.perf_counter()
    while not turned:
        await flow.acall(0)
        assert time.perf_counter() - start < 5


FLOWS = {"joined": Pipeline(own_task), "branches": Parallel(own_task, own_task)}


@pytest.mark.parametrize("kind", FLOWS)
class TestWithinAStep:
    async def test_calls_in_a_row_leave_the_loop_its_turns(self, kind: str) -> None:
        await Pipeline(polls).acall(kind)

    def test_also_where_it_was_called_from_a_thread(self, kind: str) -> None:
        Pipeline(polls)(kind, timeout=4)

    def test_a_deadline_comes_in_between(self, kind: str) -> None:
        async def for_ever(x: Any) -> None:
            start = time.perf_counter()
            while time.perf_counter() - start < 5:
                await FLOWS[x].acall(0)

        start = time.perf_counter()
        with pytest.raises(RunTimeout):
            Pipeline(for_ever)(kind, timeout=0.05)
        assert time.perf_counter() - start < 2


async def test_a_loop_that_waits_for_nothing_hears_of_its_deadline() -> None:
    start = time.perf_counter()

    async def enough(x: Any) -> bool:
        return time.perf_counter() - start > 5

    with pytest.raises(RunTimeout):
        await Loop(own_task, until=enough).acall(0, timeout=0.05)


@pytest.mark.parametrize("concurrency", [1, 4, None])
@pytest.mark.parametrize("within", [False, True])
async def test_no_branch_begins_in_a_run_that_was_stopped(concurrency: int | None, within: bool) -> None:
    begun: list[int] = []
    late: list[int] = []

    async def work(i: int) -> int:
        begun.append(i)
        if i == 3:
            stop()
        return i

    async def after(i: int) -> None:
        late.append(i)

    body: Any = Pipeline(work, after) if within else work
    with pytest.raises(RunCancelled):
        await Warp(body, concurrency=concurrency).acall(range(1000))
    assert max(begun) == 3
    assert max(late, default=0) < 3
    with pytest.raises(RunCancelled):
        await Pipeline(work, after).acall(3)
    assert 3 not in late


def stop() -> None:
    run = current_run()
    assert run is not None
    run.cancel("enough")


async def test_a_deadline_counts_from_the_beginning() -> None:
    async def blocks(x: Any) -> None:
        time.sleep(0.05)
        await asyncio.sleep(10)

    start = time.perf_counter()
    with pytest.raises(RunTimeout):
        await Pipeline(blocks).acall(0, timeout=0.5)
    assert 0.5 <= time.perf_counter() - start < 0.545
