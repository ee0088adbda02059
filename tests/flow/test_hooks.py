"""Hooks hear of every named step, and never disturb a run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from millrace import Loop, Parallel, Pipeline, Switch
from millrace.flow import StepCall, hooks
from millrace.streaming import FlowBuildError
from tests.support.leaks import eventually_async


class Heard:
    def __init__(self) -> None:
        self.calls: list[tuple[str, str, Any]] = []

    def hooks(self) -> Any:
        return hooks(
            started=lambda call: self.note("started", call, call.input),
            finished=lambda call: self.note("finished", call, call.value),
            failed=lambda call: self.note("failed", call, type(call.error).__name__),
        )

    def note(self, kind: str, call: StepCall, what: Any) -> None:
        assert call.seconds >= 0
        self.calls.append((kind, "/".join(map(str, call.path)), what))


def double(x: int) -> int:
    return 2 * x


async def increment(x: int) -> int:
    return x + 1


async def letters(n: int) -> AsyncIterator[str]:
    for i in range(n):
        yield "abc"[i]


async def count(pieces: AsyncIterator[str]) -> int:
    return len([piece async for piece in pieces])


def fail(x: Any) -> Any:
    raise LookupError("gone")


@pytest.mark.parametrize("call", ["plain", "acall", "stream"])
def test_each_step_is_heard(call: str) -> None:
    heard, flow = Heard(), Pipeline(double, increment)
    with heard.hooks():
        if call == "plain":
            assert flow(2) == 5
        elif call == "acall":
            assert asyncio.run(flow.acall(2)) == 5
        else:
            assert flow.stream(2).result == 5
    assert heard.calls == [
        ("started", "double", 2),
        ("finished", "double", 4),
        ("started", "increment", 4),
        ("finished", "increment", 5),
    ]
    heard.calls.clear()
    assert flow(2) == 5
    assert heard.calls == []


def test_plain_functions_are_heard() -> None:
    heard = Heard()
    with heard.hooks():
        assert Pipeline(double, double)(1) == 4
    assert [call[:2] for call in heard.calls] == [
        ("started", "double"),
        ("finished", "double"),
        ("started", "double-2"),
        ("finished", "double-2"),
    ]


def test_steps_in_flows_are_heard() -> None:
    heard = Heard()
    flow = Pipeline(
        Parallel(a=double, b=increment), len, Switch({2: Loop(double, count=2)}), letters, count, name="flow"
    )
    with heard.hooks(), pytest.raises(IndexError):
        flow(3)
    assert ("finished", "a", 6) in heard.calls
    assert ("finished", "b", 4) in heard.calls
    assert ("finished", "2/1", 8) in heard.calls
    assert ("finished", "2", 8) in heard.calls
    failed = [call for call in heard.calls if call[0] == "failed"]
    assert failed == [("failed", "letters", "IndexError")]


def test_live_steps_give_their_value() -> None:
    heard = Heard()
    with heard.hooks():
        assert Pipeline(letters, count)(3) == 3
    assert [call for call in heard.calls if call[0] == "finished"] == [
        ("finished", "letters", "abc"),
        ("finished", "count", 3),
    ]


@pytest.mark.parametrize("step", [fail, Pipeline(fail), Parallel(fail), Loop(fail, count=1)])
def test_a_failure_is_heard_once_for_each_step(step: Any) -> None:
    heard = Heard()
    with heard.hooks(), pytest.raises(LookupError):
        Pipeline(double, step, double)(1)
    failed = [call for call in heard.calls if call[0] == "failed"]
    assert failed
    assert len(failed) == len(set(failed))
    assert {call[2] for call in failed} == {"LookupError"}
    assert ("started", "double-2", None) not in [(*call[:2], None) for call in heard.calls]


def test_a_stop_is_heard() -> None:
    heard = Heard()

    async def main() -> None:
        begun = asyncio.Event()

        async def waits(x: int) -> None:
            begun.set()
            await asyncio.Event().wait()

        with heard.hooks():
            task = asyncio.ensure_future(Pipeline(waits).acall(1))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await eventually_async(lambda: len(heard.calls) == 2)

    asyncio.run(main())
    assert heard.calls[1] == ("failed", "waits", "CancelledError")


def test_a_failing_hook_is_logged_and_does_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    with hooks(started=fail), caplog.at_level(logging.ERROR, "millrace.flow"):
        assert Pipeline(double, increment)(1) == 3
    assert [record.message for record in caplog.records] == [
        "a hook failed at the step double; the run goes on",
        "a hook failed at the step increment; the run goes on",
    ]


def test_blocks_nest_and_keep_to_themselves() -> None:
    outer, inner = Heard(), Heard()
    with outer.hooks():
        with inner.hooks():
            Pipeline(double)(1)
        Pipeline(increment)(1)
    assert [call[1] for call in outer.calls] == ["double", "double", "increment", "increment"]
    assert [call[1] for call in inner.calls] == ["double", "double"]


def test_a_flow_called_inside_of_a_step_is_heard() -> None:
    heard, inner = Heard(), Pipeline(double, name="inner")

    async def outer(x: int) -> int:
        return await inner.acall(x)

    with heard.hooks():
        assert Pipeline(outer)(4) == 8
        assert Pipeline(lambda x: inner(x))(4) == 8
    paths = [path for kind, path, _ in heard.calls if kind == "finished"]
    assert paths == [
        "outer/inner/double",
        "outer/inner",
        "outer",
        "lambda-1/inner/double",
        "lambda-1/inner",
        "lambda-1",
    ]


def test_what_is_no_hook_is_refused() -> None:
    with pytest.raises(FlowBuildError, match="a hook is a function of one argument"):
        hooks(started=3).__enter__()  # type: ignore[arg-type]
