"""Random flows of random steps: what they give however they are called, and that a stop at any event leaves nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from millrace import Pipeline
from millrace.streaming import MillraceError, RunFinished, status
from tests.support.leaks import eventually, eventually_async, leaks, pending_tasks
from tests.support.random_flows import Plan, Witness, plans

TEXTS = st.sampled_from(["", "x", "aB", "the mill", "hello world"])
WAYS = st.sampled_from(["break", "block", "cancel", "task", "sync break", "sync block", "sync cancel"])

live = Plan("live async generator")
early = Plan("live, leaving early")
retried = Plan("policy", (Plan("generator"),))
stream = Plan("async generator", mark="a")


def all_over(witness: Witness) -> bool:
    return witness.begun == witness.ended and status() == type(status())(0, 0)


def described(plan: Plan, witness: Witness) -> str:
    return f"{plan}: {witness.begun} begun, {witness.ended} ended, {status()}, {pending_tasks()}"


# ---------------------------------------------------------------- what they give


def check_value(plan: Plan, x: str) -> None:
    witness = Witness()
    flow, expected = Pipeline(plan.build(witness)), plan.value(x)
    assert flow(x) == expected
    assert flow.stream(x).result == expected
    assert asyncio.run(flow.acall(x)) == expected
    assert flow.batch([x, x]) == [expected, expected]
    assert flow.start(x).result(20) == expected
    eventually(lambda: all_over(witness), message=lambda: described(plan, witness))


@settings(max_examples=150, deadline=None)
@given(plans(), TEXTS)
@example(Plan("pipeline", (stream, Plan("written", (early,)))), "x")
@example(Plan("pipeline", (stream, Plan("loop", (Plan("written", (live,)),), most=2))), "x")
@example(Plan("graph", (retried, Plan("written", (live,)), Plan("function"))), "x")
def test_they_give_what_they_must_however_they_are_called(plan: Plan, x: str) -> None:
    check_value(plan, x)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(plans(16), TEXTS)
def test_many_give_what_they_must(plan: Plan, x: str) -> None:
    check_value(plan, x)


@settings(max_examples=60, deadline=None)
@given(st.lists(plans(6), min_size=2, max_size=4), st.lists(TEXTS, min_size=10, max_size=10))
def test_many_at_once_share_nothing(some: list[Plan], texts: list[str]) -> None:
    flows = [Pipeline(plan.build(Witness())) for plan in some]

    async def all_at_once() -> Any:
        return await asyncio.gather(*(flow.acall(x) for flow in flows for x in texts))

    assert asyncio.run(all_at_once()) == [plan.value(x) for plan in some for x in texts]


# ---------------------------------------------------------------- what they say


@settings(max_examples=100, deadline=None)
@given(plans(), TEXTS)
def test_events_are_in_order_and_say_start_and_end_of_each_step_once(plan: Plan, x: str) -> None:
    events = list(Pipeline(plan.build(Witness())).stream(x))
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert [event.kind for event in events].count("run_finished") == 1
    last = events[-1]
    assert isinstance(last, RunFinished)
    assert (last.status, last.result) == ("done", plan.value(x))
    started = [event.path for event in events if event.kind == "step_started"]
    finished = [event.path for event in events if event.kind == "step_finished"]
    assert sorted(map(str, started)) == sorted(map(str, finished))
    for path in {event.path for event in events if event.kind == "text_delta" and len(event.path) > 1}:
        assert any(path[: len(other)] == other for other in started), path


# ---------------------------------------------------------------- stopped


async def listen(flow: Any, x: str, way: str, most: int) -> None:
    """Takes `most` events, then leaves; or, as a task, lives for so many turns of the loop."""
    if way == "task":
        task = asyncio.ensure_future(flow.acall(x))
        for _ in range(most):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return
    stream, taken = flow.stream(x), 0
    if way == "break":
        async for _ in stream:
            taken += 1
            if taken > most:
                break
        return
    async with stream:
        async for _ in stream:
            taken += 1
            if taken > most:
                if way == "block":
                    break
                stream.run.cancel("enough")


def listen_sync(flow: Any, x: str, way: str, most: int) -> None:
    stream, taken = flow.stream(x), 0
    if way == "sync break":
        for _ in stream:
            taken += 1
            if taken > most:
                break
        return
    with stream:
        for _ in stream:
            taken += 1
            if taken > most:
                if way == "sync block":
                    break
                stream.run.cancel("enough")


def check_stop(plan: Plan, x: str, way: str, most: int) -> None:
    witness = Witness()
    flow = Pipeline(plan.build(witness))

    async def on_this_loop() -> None:
        try:
            await listen(flow, x, way, most)
        except MillraceError:
            pass
        await eventually_async(
            lambda: all_over(witness) and not pending_tasks(), message=lambda: described(plan, witness)
        )

    if not way.startswith("sync"):
        asyncio.run(on_this_loop())
        return
    try:
        listen_sync(flow, x, way, most)
    except MillraceError:
        pass
    eventually(lambda: all_over(witness) and not pending_tasks(), message=lambda: described(plan, witness))


def check_stops(most_steps: int, examples: int) -> None:
    @settings(max_examples=examples, deadline=None)
    @given(plans(most_steps), TEXTS, WAYS, st.integers(0, 60))
    @example(Plan("joined from a thread", (stream,)), "x", "cancel", 0)
    @example(Plan("until", (Plan("lambda of a generator"),), most=1), "x", "sync cancel", 1)
    def stopped(plan: Plan, x: str, way: str, most: int) -> None:
        check_stop(plan, x, way, most)

    assert Pipeline(awaits)(0) is None  # starts the loop that stays
    with leaks():
        stopped()


async def awaits(x: Any) -> None:
    await asyncio.sleep(0)


def test_a_stop_at_a_random_event_leaves_nothing() -> None:
    check_stops(12, 120)


@pytest.mark.slow
def test_many_stops_at_random_events_leave_nothing() -> None:
    check_stops(16, 200)
