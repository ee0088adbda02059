"""After which errors a step is tried again, and which are final."""

from __future__ import annotations

import asyncio

import pytest

from millrace import step
from millrace.flow.policies import Retry
from millrace.streaming import (
    ContextLengthExceeded,
    FlowBuildError,
    FlowCallError,
    MissingExtra,
    RunCancelled,
    RunTimeout,
    check_cancelled,
)
from tests.flow.policies.test_retries import AT_ONCE, KINDS, Flaky


@pytest.mark.parametrize(
    "error",
    [
        RunCancelled("by somebody"),
        FlowBuildError("wrong"),
        FlowCallError("wrong"),
        MissingExtra("torch", "local"),
        ContextLengthExceeded("too long"),
        SystemExit(3),
    ],
    ids=lambda error: type(error).__name__,
)
def test_some_errors_are_final(error: BaseException) -> None:
    for kind in KINDS:
        flaky = Flaky(9, error)
        with pytest.raises(type(error)):
            step(getattr(flaky, kind), retry=AT_ONCE)("x")
        assert flaky.calls == 1


def test_a_deadline_of_something_inside_is_tried_again() -> None:
    calls: list[int] = []

    async def slow(x: str) -> str:
        calls.append(1)
        if len(calls) < 3:
            await asyncio.Event().wait()
        return x

    async def outer(x: str) -> str:
        return await step(slow).acall(x, timeout=0.01)  # a run of its own, with a RunTimeout of its own

    assert step(outer, retry=AT_ONCE)("x") == "x"
    assert len(calls) == 3


def test_the_runs_own_deadline_is_final() -> None:
    calls: list[int] = []

    def polls(x: str) -> str:
        calls.append(1)
        while True:
            check_cancelled()

    with pytest.raises(RunTimeout):
        step(polls, retry=AT_ONCE)("x", timeout=0.02)
    assert calls == [1]


def test_on_chooses() -> None:
    for on in (KeyError, (KeyError, IndexError), lambda error: isinstance(error, LookupError)):
        flaky = Flaky(2, KeyError("k"))
        assert step(flaky.plain, retry=Retry(3, wait=0, on=on))("x") == "x"
        flaky = Flaky(2)
        with pytest.raises(ConnectionError):
            step(flaky.plain, retry=Retry(3, wait=0, on=on))("x")
        assert flaky.calls == 1
