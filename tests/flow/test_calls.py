"""Calling flows: without a loop, on the framework's, on the caller's, and from inside of other runs."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import Any

import pytest

from millrace import If, Loop, Message, Pipeline, step
from millrace.streaming import FlowCallError, Progress, RunCancelled, current_run, emit, status

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def add(x: int) -> int:
    return x + 1


async def add_async(x: int) -> int:
    await asyncio.sleep(0)
    return x + 1


def test_plain_flows_use_no_thread_and_no_loop() -> None:
    here = threading.get_ident()
    assert Pipeline(lambda _: threading.get_ident())(0) == here


def test_a_surprise_coroutine_goes_on_where_it_stopped() -> None:
    calls: list[int] = []

    def note(x: int) -> int:
        calls.append(x)
        return x

    flow = Pipeline(add, note, lambda x: add_async(x), note, add)
    assert flow(1) == 4
    assert calls == [2, 3]
    assert Pipeline(Pipeline(flow, name="inner"), add)(1) == 5


@pytest.mark.anyio
async def test_synchronously_on_a_running_loop() -> None:
    """As in a notebook: it works, and blocks that loop."""
    assert Pipeline(add)(1) == 2
    assert Pipeline(add, add_async)(1) == 3
    assert list(Pipeline(add_async).stream(1).text()) == ["2"]


@pytest.mark.anyio
@pytest.mark.parametrize("called", [Pipeline(add), Pipeline(add_async), Pipeline(add, add_async)])
async def test_synchronously_on_a_running_loop_from_within_a_function(called: Any) -> None:
    """What plain functions call there blocks that loop too, however they do it."""
    ways: dict[str, Any] = {
        "call": lambda x: called(x),
        "stream": lambda x: list(called.stream(x))[-1].result,
        "batch": lambda x: called.batch([x])[0],
    }
    for way in ways.values():
        for flow in (Pipeline(way), Loop(way, count=1), If(bool, way), step(way)):
            assert flow(1) == called(1)


def test_a_function_that_raises_a_cancel_stops_its_run_however_it_is_called() -> None:
    def stops(x: Any) -> None:
        raise asyncio.CancelledError("mine")

    for call in (Pipeline(stops), lambda x: asyncio.run(Pipeline(stops).acall(x))):
        with pytest.raises(RunCancelled, match="task cancelled"):
            call(1)


def test_inside_a_coroutine_of_a_run_it_raises_and_never_hangs() -> None:
    async def wrong(x: int) -> int:
        return Pipeline(add)(x)

    async def wrong_too(x: int) -> int:
        return Pipeline(add_async)(x)

    async def wrong_stream(x: int) -> int:
        return len(list(Pipeline(add_async).stream(x)))

    for asked in (wrong, wrong_too, wrong_stream):
        with pytest.raises(FlowCallError, match="acall"):
            Pipeline(asked)(1)
        with pytest.raises(FlowCallError, match="acall"):
            asyncio.run(Pipeline(asked).acall(1))


def test_inside_a_function_of_a_run() -> None:
    seen: list[Any] = []

    def nested(x: int) -> int:
        seen.append(current_run())
        y = Pipeline(lambda v: (seen.append(current_run()), add(v))[1])(x)
        return Pipeline(lambda v: (seen.append(current_run()), add_async(v))[1])(y)

    assert Pipeline(nested)(1) == 3
    assert Pipeline(nested).stream(1).result == 3
    assert asyncio.run(Pipeline(nested).acall(1)) == 3
    assert all(seen[i] is seen[i + 1] is seen[i + 2] for i in (0, 3, 6))  # they join the run


def test_inside_a_coroutine_acall_joins_with_a_longer_path() -> None:
    inner = Pipeline(add_async, name="inner")

    async def outer(x: int) -> int:
        emit(Progress(0.0))
        value = await inner.acall(x)
        emit(Progress(1.0))
        return value

    events = list(Pipeline(outer).stream(1))
    assert [
        "/".join(map(str, event.path)) for event in events if event.kind in ("step_started", "progress")
    ] == [
        "outer",
        "outer",
        "outer/inner",
        "outer/inner/add_async",
        "outer",
    ]


def test_a_joined_call_ends_with_the_run() -> None:
    began, ended = threading.Event(), []

    async def waits(x: int) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    def outer(x: int) -> None:
        Pipeline(waits)(x)

    with Pipeline(outer).stream(1):
        assert began.wait(5)
    from tests.support.leaks import eventually

    eventually(lambda: ended == [True] and status().abandoned == 0)


def test_a_flow_that_calls_itself() -> None:
    async def countdown(x: int) -> int:
        return x if x == 0 else await flow.acall(x - 1)

    flow: Pipeline[int, int] = Pipeline(countdown)
    assert flow(50) == 0


def test_context_variables() -> None:
    def set_it(x: Any) -> Any:
        VARIABLE.set(f"set by {x}")
        return x

    async def set_it_async(x: Any) -> Any:
        VARIABLE.set(f"set by {x}")
        return x

    VARIABLE.set("outer")
    for setter in (set_it, set_it_async):
        for flow in (
            Pipeline(setter, lambda _: VARIABLE.get()),
            Pipeline(setter, add_async, lambda _: VARIABLE.get()),
        ):
            assert flow(1) == f"set by {1}"
            assert flow.stream(2).result == "set by 2"
            assert asyncio.run(flow.acall(3)) == "set by 3"
    assert Pipeline(lambda _: VARIABLE.get()).stream(0).result == "outer"
    assert VARIABLE.get() == "outer"


def test_history_and_sampling_reach_the_run() -> None:
    def look(_: Any) -> Any:
        run = current_run()
        assert run is not None
        return [message.content for message in run.history], dict(run.sampling)

    history = [Message.user("a"), Message.assistant("b")]
    flow = Pipeline(look)
    assert flow(0, history=history, sampling={"max_tokens": 3}) == (["a", "b"], {"max_tokens": 3})
    assert flow.stream(0, history=history).result == (["a", "b"], {})
    assert flow(0) == ([], {})


def test_a_thousand_sessions_share_nothing() -> None:
    async def twice(x: int) -> int:
        await asyncio.sleep(0)
        return x * 2

    flow = Pipeline(add, twice, name="shared")

    async def many() -> list[int]:
        return list(await asyncio.gather(*(flow.acall(i, session=f"s{i}") for i in range(1000))))

    assert asyncio.run(many()) == [(i + 1) * 2 for i in range(1000)]
