"""What fails at a far service is an error here, as near to what it was there as can be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from millrace import Limits, Parallel, Pipeline
from millrace.modules.remote import Timeouts
from millrace.streaming import (
    ContextLengthExceeded,
    Overloaded,
    RemoteError,
    RunCancelled,
    RunTimeout,
    SessionBusy,
    TextDelta,
    TokenUsage,
    Usage,
    emit,
)
from tests.modules.faraway import Far, anything, far
from tests.support.leaks import eventually


async def failing_late(asked: Any) -> AsyncIterator[str]:
    emit(Usage(3, 1))
    yield "Hel"
    await asyncio.sleep(0.01)
    raise await anything_raised(asked)


async def anything_raised(asked: Any) -> BaseException:
    try:
        await anything({"do": "fail", "with": asked})
    except Exception as error:
        return error
    raise AssertionError


@pytest.mark.parametrize("when", ["before a word", "in the midst"])
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("KeyError", RemoteError),
        ("Overloaded", Overloaded),
        ("ContextLengthExceeded", ContextLengthExceeded),
        ("SessionBusy", SessionBusy),
        ("RunCancelled", RunCancelled),
        ("RunTimeout", RunTimeout),
        ("RemoteError", RemoteError),
    ],
)
def test_errors_come_over(values: Far, late: Far, name: str, kind: type[Exception], when: str) -> None:
    flow = Pipeline(Parallel(a=values.flow()), len) if when == "before a word" else late.flow(name="far")
    asked = {"do": "fail", "with": name} if when == "before a word" else name
    with pytest.raises(kind) as failed:
        flow(asked)
    error: Any = failed.value
    assert type(error) is kind
    assert "secret" not in str(error)
    if isinstance(error, RemoteError):
        assert (error.kind, error.status) == ("IndexError" if name == "RemoteError" else name, 500)
    if isinstance(error, RunCancelled):
        assert error.reason == "stopped by the flow"
    if isinstance(error, Overloaded) and when == "before a word":
        assert error.retry_after == 7.0


@pytest.fixture(scope="module")
def late() -> Iterator[Far]:
    with far(failing_late) as made:
        yield made


def test_what_was_said_and_spent_before_a_failure_counts(late: Far) -> None:
    stream = late.flow().stream("KeyError")
    events = []
    with pytest.raises(RemoteError):
        events += stream
    assert [event.text for event in events if isinstance(event, TextDelta)] == ["Hel"]
    assert stream.usage == TokenUsage(3, 1)


def test_a_failure_before_the_first_word_has_its_price_too() -> None:
    async def spends(text: str) -> str:
        emit(Usage(5, 0))
        raise ValueError

    with far(spends) as there:
        stream = there.flow().stream("Hi")
        with pytest.raises(RemoteError) as failed:
            list(stream)
        assert failed.value.kind == "ValueError"
        assert stream.usage == TokenUsage(5, 0)


def test_a_deadline_there_and_a_deadline_here() -> None:
    with far(anything, default_timeout=0.1) as there, pytest.raises(RunTimeout, match="the deadline passed"):
        there.flow()({"do": "wait"})
    with far(anything) as there:
        with pytest.raises(RunTimeout):
            there.flow()({"do": "wait"}, timeout=0.1)
        with pytest.raises(RunTimeout, match=r"Timeouts\(total\)"):
            there.flow(timeouts=Timeouts(total=0.1))({"do": "wait"})
        eventually(there.server.idle)


def test_a_full_service_is_asked_again() -> None:
    with far(anything, limits=Limits(running=1, waiting=0)) as there:
        first = there.flow().start({"do": "wait"})
        eventually(lambda: not there.server.idle())
        with pytest.raises(Overloaded) as refused:
            there.flow()("Hi")
        assert refused.value.retry_after > 0
        second = there.flow(retries=20).start("Hi")
        eventually(lambda: there.made[-1].status().running)
        first.cancel()
        assert second.result(20) == "Hi"


def test_the_line_there_was_too_long() -> None:
    with far(anything, limits=Limits(running=1, waiting=1, queue_timeout=0.05)) as there:
        first = there.flow().start({"do": "wait"})
        eventually(lambda: not there.server.idle())
        with pytest.raises(Overloaded) as refused:
            there.flow()("Hi")
        assert refused.value.waited > 0
        first.cancel()
        first.wait_sync()


@pytest.mark.parametrize(
    "name", ["KeyError", "Overloaded", "ContextLengthExceeded", "RunCancelled", "RemoteError"]
)
def test_errors_come_over_from_two_services_away(values: Far, name: str) -> None:
    with far(values.flow()) as there:
        with pytest.raises(Exception) as failed:
            there.flow()({"do": "fail", "with": name})
        error: Any = failed.value
        if name in ("KeyError", "RemoteError"):
            assert isinstance(error, RemoteError)
            assert (error.kind, error.status) == ("IndexError" if name == "RemoteError" else name, 500)
        else:
            assert type(error).__name__ == name
        assert getattr(error, "retry_after", 7.0) == 7.0
        assert getattr(error, "reason", "stopped by the flow") == "stopped by the flow"


def test_a_step_that_fails_there_is_named_here() -> None:
    with far(anything) as there:
        with pytest.raises(RemoteError) as failed:
            Pipeline(str.strip, lambda _: {"do": "fail", "with": "KeyError"}, there.flow(name="far"))("Hi")
        assert any("far" in note for note in failed.value.__notes__)
