"""Counting runs: each once, by how it ended."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace import step
from millrace.launchers.tallies import OUTCOMES, Outcome, Tally
from millrace.streaming import Overloaded, RunCancelled, RunTimeout
from millrace.streaming.errors import ContextLengthExceeded

pytestmark = pytest.mark.anyio

ENDS: dict[str, tuple[BaseException, Outcome]] = {
    "no place": (Overloaded("full", 1.0), "rejected"),
    "too long": (ContextLengthExceeded("too long"), "failed"),
    "deadline": (RunTimeout(), "timed_out"),
    "cancelled": (RunCancelled("no more"), "cancelled"),
    "task cancelled": (asyncio.CancelledError(), "cancelled"),
    "anything": (ValueError("no"), "failed"),
}


@pytest.mark.parametrize(("error", "outcome"), ENDS.values(), ids=ENDS)
def test_ends_without_a_run(error: BaseException, outcome: Outcome) -> None:
    tally = Tally()
    with pytest.raises(type(error)), tally.begin():
        assert (tally.started, tally.ended.total()) == (1, 0)
        raise error
    assert tally.ended == {outcome: 1}


def test_gone_before_it_began() -> None:
    tally = Tally()
    with tally.begin():
        pass
    assert tally.ended == {"cancelled": 1}


@given(st.lists(st.sampled_from([*ENDS, "rejected at once"])))
@settings(deadline=None)
def test_it_adds_up(ends: list[str]) -> None:
    tally = Tally()
    for end in ends:
        if end in ENDS:
            with tally.begin() as counted:
                counted.error = ENDS[end][0]
        else:
            tally.reject()
    assert tally.started == len(ends) == tally.ended.total()
    assert set(tally.ended) <= set(OUTCOMES)


async def ended_as(text: str, timeout: float | None = None, leave: bool = False) -> Outcome:
    """The outcome that is counted for a run of `behave`."""
    tally = Tally()
    with tally.begin() as counted:
        async with step(behave).stream(text, timeout=timeout) as stream:
            counted.run = stream.run
            if not leave:
                await stream.run.wait()
    (outcome,) = tally.ended
    return outcome


async def behave(text: str) -> str:
    if text == "wait":
        await asyncio.Event().wait()
    if text == "fail":
        raise ValueError(text)
    if text == "full":
        raise Overloaded("the engine is full", 1.0)
    return text


async def test_the_run_says_how_it_ended() -> None:
    assert await ended_as("done") == "completed"
    assert await ended_as("fail") == "failed"
    assert await ended_as("full") == "rejected"
    assert await ended_as("wait", timeout=0.01) == "timed_out"
    assert await ended_as("wait", leave=True) == "cancelled"
