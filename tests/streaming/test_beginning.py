"""Runs and branches that begin at once: as tasks of their own, in contexts of their own, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextvars import ContextVar, copy_context
from typing import Any
from weakref import ref

import pytest

from millrace import Parallel, Pipeline, Warp
from millrace.streaming import RunCancelled, current_run, status
from millrace.streaming.tasks import NESTED, TURN, Hurry
from tests.streaming.tasks_seen import here, own_task
from tests.support.leaks import eventually_async

pytestmark = pytest.mark.anyio


SET: ContextVar[str] = ContextVar("set", default="nothing")


async def letters(x: Any) -> AsyncIterator[str]:
    for letter in "abc":
        yield letter


async def test_run_works_until_it_first_waits_before_its_caller_goes_on() -> None:
    order = []

    async def work(x: Any) -> None:
        order.append("first")
        await asyncio.sleep(0)
        order.append("last")

    call = Pipeline(work).acall(0)
    call.send(None)
    order.append("caller")
    await eventually_async(lambda: status().runs == 0)
    call.close()
    assert order == ["first", "caller", "last"]


async def test_call_that_waits_for_nothing_takes_no_turn_of_the_loop() -> None:
    turned = []
    asyncio.get_running_loop().call_soon(turned.append, True)
    found = await Parallel(own_task, own_task).acall(0)
    assert not turned
    assert len({here(), *found[0], *found[1]}) == 3


async def test_each_is_a_task_of_its_own_and_the_caller_is_itself_again() -> None:
    caller = here()
    found = await Pipeline(own_task).acall(0)
    assert here() is caller
    for branch in await Parallel(own_task, own_task).acall(0):
        found += branch
    assert here() is caller
    assert len({caller, *found}) == 4
    assert all(task.done() for task in found)


async def test_timeout_in_a_step_stops_the_step_and_not_its_caller() -> None:
    async def limited(x: Any) -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(10)
        except TimeoutError:
            return "too slow"
        return "in time"

    assert await Pipeline(limited).acall(0) == "too slow"
    assert list(await Parallel(limited, limited).acall(0)) == ["too slow"] * 2


async def test_what_it_sets_in_its_context_stays_there() -> None:
    async def sets(x: str) -> str:
        before = SET.get()
        SET.set(x)
        return before

    async def tells(x: str) -> str:
        return SET.get()

    SET.set("the caller's")
    assert await Pipeline(sets, tells).acall("the run's") == "the run's"
    assert list(await Parallel(sets, sets).acall("a branch's")) == ["the caller's"] * 2
    assert SET.get() == "the caller's"


async def test_run_that_stops_itself_at_once_is_stopped_where_it_first_waits() -> None:
    async def stops(x: Any) -> None:
        run = current_run()
        assert run is not None
        run.cancel("enough")
        await asyncio.sleep(10)

    with pytest.raises(RunCancelled, match="enough"):
        await Pipeline(stops).acall(0)
    assert here().cancelling() == 0


async def test_exit_in_a_first_step_is_the_runs_error_and_its_caller_goes_on() -> None:
    async def exits(x: Any) -> None:
        raise SystemExit(3)

    caller = here()
    for flow in (Pipeline(exits), Parallel(exits, own_task)):
        with pytest.raises(SystemExit):
            await flow.acall(0)
        assert here() is caller
    assert await Pipeline(own_task).acall(0) != [caller]


@pytest.mark.parametrize("flow", [Pipeline(own_task), Parallel(own_task, own_task)], ids=["run", "branches"])
async def test_calls_in_a_row_leave_the_loop_its_turns(flow: Any) -> None:
    """Each waits for nothing; a caller that looks for what another task does must not look for ever."""
    turned = []
    asyncio.get_running_loop().call_later(0.01, turned.append, True)
    start = time.perf_counter()
    while not turned:
        await flow.acall(0)
        assert time.perf_counter() - start < 5


async def test_others_have_their_turn_within_half_a_millisecond() -> None:
    gaps, ended = [], False

    async def ticks() -> None:
        last = time.perf_counter()
        while not ended:
            await asyncio.sleep(0)
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    other = asyncio.create_task(ticks())
    flow = Pipeline(own_task)
    for _ in range(5000):
        await flow.acall(0)
    ended = True
    await other
    assert sorted(gaps)[len(gaps) // 2] < 10 * TURN


@pytest.mark.parametrize("concurrency", [None, 4])
async def test_branches_begin_in_the_order_written_where_their_time_is_up_too(
    concurrency: int | None,
) -> None:
    begun: list[int] = []

    async def work(i: int) -> int:
        begun.append(i)
        time.sleep(TURN / 20)
        return i

    numbers = list(range(100))
    assert await Warp(work, concurrency=concurrency).acall(numbers) == numbers
    assert begun == numbers


async def test_flows_that_call_themselves_deeply_have_room() -> None:
    """Only some may stand on their caller's stack; the others have one of their own, as all tasks have."""

    async def down(n: int) -> int:
        return 0 if n == 0 else 1 + sum(await tree.acall(n - 1))

    tree = Parallel(down)
    depth = sys.getrecursionlimit() // 2
    assert sum(await tree.acall(depth)) == depth
    assert depth > NESTED


async def test_deep_flow_in_a_deep_caller_has_room() -> None:
    flow = Pipeline(own_task, name="p")
    for _ in range(290):
        flow = Pipeline(flow, name="p")

    async def called(left: int) -> Any:
        return await (called(left - 1) if left else flow.acall(0))

    assert len(await called(800)) == 1


def test_loop_that_was_closed_within_its_turn_holds_nobody_up() -> None:
    async def order() -> list[str]:
        seen = []

        async def work(x: Any) -> None:
            seen.append("work")
            await asyncio.sleep(0)

        call = Pipeline(work).acall(0)
        call.send(None)
        seen.append("caller")
        call.close()
        return seen

    async def orders() -> list[list[str]]:
        found = []
        for _ in range(3):
            found.append(await order())
            await asyncio.sleep(2 * TURN)
        return found

    async def last_turn(loop: asyncio.AbstractEventLoop) -> None:
        loop.stop()
        await Pipeline(own_task).acall(0)

    for _ in range(3):
        loop = asyncio.new_event_loop()
        task = loop.create_task(last_turn(loop))
        loop.run_forever()
        loop.close()
        assert task.done()
        time.sleep(2 * TURN)
        assert asyncio.run(orders()) == [["work", "caller"]] * 3


async def test_loop_with_a_way_of_its_own_to_make_tasks_makes_them() -> None:
    loop, made = asyncio.get_running_loop(), []

    def factory(loop: Any, coroutine: Any, **more: Any) -> asyncio.Task[Any]:
        made.append(asyncio.current_task())
        return asyncio.Task(coroutine, loop=loop, **more)

    loop.set_task_factory(factory)
    try:
        assert len(await Parallel(own_task, own_task).acall(0)) == 2
    finally:
        loop.set_task_factory(None)
    assert len(made) == 3
    assert made[0] is here()
    assert None not in made


async def test_a_run_that_is_over_at_once_is_kept_by_no_clock() -> None:
    seen = []

    async def work(x: Any) -> None:
        run = current_run()
        assert run is not None
        seen.append(ref(run))

    await Pipeline(work).acall(0, timeout=60)
    await asyncio.sleep(0)
    assert seen[0]() is None


async def test_a_call_that_is_closed_leaves_nothing_at_work() -> None:
    ended = []

    async def waits(x: Any) -> None:
        try:
            await asyncio.sleep(10)
        finally:
            ended.append(True)

    call = Pipeline(waits).acall(0)
    call.send(None)
    call.close()
    await eventually_async(lambda: ended and status().runs == 0)


async def test_a_step_of_a_deep_caller_has_a_stack_of_its_own() -> None:
    def down(left: int) -> int:
        return 0 if not left else 1 + down(left - 1)

    async def deep(x: int) -> int:
        return down(x)

    async def called(left: int) -> Any:
        if left:
            return await called(left - 1)
        return await Pipeline(deep).acall(700), list(await Parallel(deep, deep).acall(700))

    assert await called(500) == (700, [700, 700])


def test_on_uvloop_it_begins_in_its_turn() -> None:
    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(Pipeline(own_task).acall(0))
        assert len(list(runner.run(Parallel(own_task, own_task).acall(0)))) == 2
    assert len(found) == 1


async def test_whoever_stands_before_the_loops_calls_stays_there() -> None:
    loop, heard = asyncio.get_running_loop(), []
    before = loop.call_soon

    def spy(*args: Any, **more: Any) -> Any:
        heard.append(args[0])
        return before(*args, **more)

    loop.call_soon = spy  # type: ignore[method-assign,assignment]
    try:
        await Parallel(own_task, own_task).acall(0)
        assert loop.call_soon is spy
    finally:
        del loop.call_soon  # type: ignore[method-assign]
    assert len(heard) >= 3


def test_what_is_asked_of_the_loop_while_a_task_is_made_is_done_in_its_turn() -> None:
    asked, order = [], []

    class Asks(asyncio.SelectorEventLoop):
        """Asks itself for something whenever somebody looks whether it is debugged, as each new task does."""

        asking = False

        def get_debug(self) -> bool:
            if order == ["ready"] and not self.asking:
                self.asking = True
                asked.append("turn")
                self.call_soon(order.append, "turn")
                self.asking = False
            return False

    async def work(x: Any) -> None:
        order.append("work")

    async def call() -> None:
        with Hurry(asyncio.get_running_loop()) as hurry:
            order.append("ready")
            task = hurry.make(work(0), copy_context())
            hurry.begin()
            assert order == ["ready", "work"]
        await asyncio.sleep(0)
        assert order == ["ready", "work", *asked]
        assert asked
        assert task.done()

    with asyncio.Runner(loop_factory=Asks) as runner:
        runner.run(call())
