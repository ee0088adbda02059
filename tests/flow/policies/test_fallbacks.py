from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from millrace import Pipeline, bind, step
from millrace.flow.policies import Retry
from millrace.streaming import (
    FlowBuildError,
    FlowCallError,
    Progress,
    RunCancelled,
    RunTimeout,
    TextDelta,
    check_cancelled,
)
from tests.flow.policies.test_retries import CALLS, KINDS, Flaky, letters


async def backup(x: str) -> str:
    return f"backup of {x}"


async def backup_stream(x: str) -> AsyncIterator[str]:
    for word in ("backup ", "of ", x):
        yield word


async def backup_live(pieces: AsyncIterator[str]) -> str:
    return "+".join([piece async for piece in pieces])


def backup_generator(x: str) -> Iterator[str]:
    yield from ("backup ", "of ", x)


BACKUPS = [lambda x: f"backup of {x}", backup, backup_stream, backup_generator, Pipeline(str, backup_stream)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fallback", BACKUPS)
def test_another_step_takes_over(kind: str, fallback: Any) -> None:
    for call in CALLS:
        assert call(step(getattr(Flaky(9), kind), fallback=fallback), "x") == "backup of x"
        assert (
            call(Pipeline(step(getattr(Flaky(9), kind), fallback=fallback), str.upper), "x") == "BACKUP OF X"
        )
        assert call(step(getattr(Flaky(0), kind), fallback=fallback), "x") == "x"


def test_its_pieces_are_the_steps() -> None:
    events = list(step(Flaky(9).stream, fallback=backup_stream, name="ask").stream("x"))
    assert [event.text for event in events if isinstance(event, TextDelta)] == ["backup ", "of ", "x"]
    assert all(event.output for event in events if isinstance(event, TextDelta))
    flow = Pipeline(step(Flaky(9).plain, fallback=backup_stream, name="ask"), name="flow")
    assert list(flow.stream("x").text()) == ["backup ", "of ", "x"]
    assert {event.path for event in flow.stream("x") if isinstance(event, TextDelta)} == {("ask",)}


@pytest.mark.parametrize("kind", ["generator", "stream"])
def test_only_before_the_first_piece(kind: str) -> None:
    stream = step(getattr(Flaky(9, pieces_before=1), kind), fallback=backup_stream).stream("abc")
    with stream, pytest.raises(ConnectionError):
        list(stream)
    assert stream.run.text == "a"


def test_after_all_attempts_and_only_the_step_is_tried_again() -> None:
    flaky, spare = Flaky(9), Flaky(0)
    flow = step(flaky.plain, retry=Retry(3, wait=0), fallback=spare.plain)
    assert flow("x") == "x"
    assert (flaky.calls, spare.calls) == (3, 1)


def test_fallbacks_in_a_row() -> None:
    first, second = Flaky(9), Flaky(9)
    flow = step(first.plain, fallback=step(second.stream, fallback=backup))
    assert flow("x") == "backup of x"
    assert (first.calls, second.calls) == (1, 1)


def test_when_it_fails_too_its_error_is_raised_and_names_the_first() -> None:
    def hopeless(x: str) -> str:
        raise KeyError(x)

    for kind in KINDS:
        with pytest.raises(KeyError) as caught:
            Pipeline(step(getattr(Flaky(9), kind), fallback=hopeless, name="ask"))("x")
        (note,) = caught.value.__notes__
        assert note.startswith("in ask (test_fallbacks.py:")
        assert note.endswith("; also failed: ask (ConnectionError)")


@pytest.mark.parametrize(
    "error", [RunCancelled("no"), FlowBuildError("no"), FlowCallError("no"), SystemExit(2)]
)
def test_some_errors_go_through(error: BaseException) -> None:
    for kind in KINDS:
        with pytest.raises(type(error)):
            step(getattr(Flaky(9, error), kind), fallback=backup)("x")


def test_a_stopped_run_falls_back_on_nothing() -> None:
    spare = Flaky(0)

    def polls(x: str) -> str:
        while True:
            check_cancelled()

    with pytest.raises(RunTimeout):
        step(polls, fallback=spare.plain)("x", timeout=0.02)
    assert spare.calls == 0


# ---------------------------------------------------------------- live input


@pytest.mark.parametrize("fallback", [backup, backup_live, backup_stream])
def test_a_live_steps_fallback_gets_the_whole_upstream(fallback: Any) -> None:
    flow = Pipeline(letters, step(Flaky(9).live, fallback=fallback))
    expected = "a+b+c+d" if fallback is backup_live else "backup of abcd"
    for call in CALLS:
        assert call(flow, "abcd") == expected


def test_a_live_fallback_of_a_step_that_is_not() -> None:
    assert Pipeline(letters, step(Flaky(9).plain, fallback=backup_live))("abc") == "abc"


# ---------------------------------------------------------------- bound


def test_bound_arguments_reach_both() -> None:
    def search(x: str, site: str, *, top: int) -> str:
        raise ConnectionError

    def cached(x: str, site: str, *, top: int) -> str:
        return f"{x} at {site}, {top}"

    flow = bind(step(search, retry=Retry(2, wait=0), fallback=cached), "home", top=3)
    assert flow("x") == "x at home, 3"
    with Pipeline() as p:
        p.site = str.upper
        p.found = bind(step(search, fallback=cached), p.input, p.site, top=1)
    assert p("ab") == "ab at AB, 1"


def test_what_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "millrace.flow"):
        events = list(step(Flaky(9).plain, fallback=backup, name="ask").stream("secret"))
    said = [event.message for event in events if isinstance(event, Progress)]
    assert said == ["fell back to backup, after ConnectionError"]
    assert caplog.messages == ["step ask failed with ConnectionError; it falls back to backup"]


def test_what_cannot_be_a_fallback() -> None:
    with pytest.raises(FlowBuildError, match=r"Parallel\(\*\*branches\)"):
        step(str, fallback={"a": str})  # type: ignore[call-overload]
