"""Counting runs: each once, by how it ended."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace import step
from millrace.launchers.histograms import quantile
from millrace.launchers.run_records import RunRecord
from millrace.launchers.tallies import OUTCOMES, SLICE, SLICES, Outcome, Slice, Tally
from millrace.streaming import Overloaded, RunCancelled, RunTimeout, Usage, emit
from millrace.streaming.errors import ContextLengthExceeded
from tests.launchers.support import words

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


async def record_of(
    flow: Any, caplog: pytest.LogCaptureFixture, admit: bool = True, **options: Any
) -> tuple[Tally, RunRecord]:
    """What is counted and written down of one run of a flow."""
    tally = Tally()
    with caplog.at_level(logging.INFO, "millrace.runs"), tally.begin("alice", "/v1/runs") as counted:
        if admit:
            counted.admit()
        async with step(flow).stream("a b c", **options) as stream:
            counted.run, counted.id = stream.run, stream.run.id
            try:
                async for event in stream:
                    if event.kind == "text_delta":
                        counted.hear(event)
            except Exception:
                pass
            counted.conclude(event)
    (written,) = caplog.records
    assert isinstance(written.msg, RunRecord)
    return tally, written.msg


class TestRecords:
    async def test_of_a_stream(self, caplog: pytest.LogCaptureFixture) -> None:
        tally, record = await record_of(words, caplog)
        assert (record.key, record.endpoint, record.outcome, record.reason) == (
            "alice",
            "/v1/runs",
            "completed",
            None,
        )
        assert record.id is not None
        assert len(record.id) == 32
        assert record.pieces == 3
        assert record.first_output is not None
        assert 0 <= record.in_line <= record.first_output <= record.took < 5
        assert sum(tally.sums.between.counts) == 2  # a gap less than pieces
        assert [sum(part.counts) for part in (tally.sums.in_line, tally.sums.first_output)] == [1, 1]
        assert {name: sum(part.counts) for name, part in tally.sums.took.items() if any(part.counts)} == {
            "completed": 1
        }

    async def test_of_an_answer_that_comes_whole(self, caplog: pytest.LogCaptureFixture) -> None:
        async def costly(text: str) -> str:
            emit(Usage(3, 4))
            return text

        tally, record = await record_of(costly, caplog)
        assert (record.pieces, record.prompt_tokens, record.completion_tokens) == (1, 3, 4)
        assert record.first_output is not None
        assert tally.keys["alice"].figures() == {
            "ended": {**dict.fromkeys(OUTCOMES, 0), "completed": 1},
            "prompt_tokens": 3,
            "completion_tokens": 4,
        }

    async def test_without_a_permit_all_of_it_was_the_line(self, caplog: pytest.LogCaptureFixture) -> None:
        _, record = await record_of(words, caplog, admit=False)
        assert record.in_line == record.took

    @pytest.mark.parametrize(
        ("error", "outcome", "reason"),
        [
            (ValueError("a secret"), "failed", "ValueError"),
            (RunCancelled("a secret"), "cancelled", "RunCancelled"),
            (Overloaded("a secret"), "rejected", "overloaded"),
            (Overloaded("a secret", waited=3.0), "rejected", "queue_timeout"),
            (RunTimeout("a secret"), "timed_out", "RunTimeout"),
        ],
    )
    async def test_errors_are_named_and_not_quoted(
        self, error: Exception, outcome: Outcome, reason: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def fails(text: str) -> str:
            raise error

        tally, record = await record_of(fails, caplog)
        assert (record.outcome, record.reason) == (outcome, reason)
        assert "secret" not in caplog.text
        with pytest.raises(type(error)), tally.begin():
            raise error
        assert tally.ended == {outcome: 2}

    def test_of_a_refusal(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO, "millrace.runs"):
            Tally().reject("alice", "/v1/runs")
        assert caplog.records[0].msg == RunRecord(None, "alice", "/v1/runs", "rejected", "overloaded")

    def test_of_one_that_left_before_it_began(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO, "millrace.runs"), Tally().begin(None, "chat") as counted:
            counted.reason = "the page was left"
        record = caplog.records[0].msg
        assert isinstance(record, RunRecord)
        assert (record.id, record.outcome, record.reason) == (None, "cancelled", "the page was left")
        assert record.in_line == record.took

    def test_none_where_nobody_listens(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING, "millrace.runs"):
            Tally().reject()
        assert caplog.records == []


def test_nothing_is_lost_to_those_who_look_from_elsewhere() -> None:
    tally, seen, over = Tally(), [0], threading.Event()

    def look() -> None:
        while not over.is_set():
            seen.append(tally.ended.total())

    onlooker = threading.Thread(target=look)
    onlooker.start()
    try:
        for _ in range(20_000):
            tally.reject()
    finally:
        over.set()
        onlooker.join()
    assert seen == sorted(seen)
    assert tally.ended == {"rejected": 20_000}
    assert tally.lately()["ended"]["rejected"] == 20_000


class TestLately:
    def test_a_slice_is_forgotten_after_a_while(self) -> None:
        tally = Tally()
        tally.reject()
        assert tally.lately()["ended"]["rejected"] == 1
        tally.sums.slices[-1].number -= SLICES - 1
        assert tally.lately()["ended"]["rejected"] == 1
        tally.sums.slices[-1].number -= 1
        assert tally.lately()["ended"]["rejected"] == 0
        assert tally.ended == {"rejected": 1}

    def test_slices_are_added_up(self) -> None:
        tally = Tally()
        tally.reject()
        (first,) = tally.sums.slices
        first.number -= 1
        first.take(RunRecord("a", None, "", "completed", None, first_output=3.0))
        with tally.begin() as counted:
            counted.admit()
        lately = tally.lately()
        assert {name: count for name, count in lately["ended"].items() if count} == {
            "completed": 1,
            "cancelled": 1,
            "rejected": 1,
        }
        assert quantile(lately["first_output"], 1.0) == 5.0
        assert len(tally.sums.slices) == 2

    def test_no_more_are_kept_than_are_told(self) -> None:
        tally = Tally()
        for number in range(50):
            tally.sums.slices.append(Slice(number))
        assert len(tally.sums.slices) == SLICES
        assert SLICE * SLICES == 300
