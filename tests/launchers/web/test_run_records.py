"""What is kept of the runs of a chat."""

from __future__ import annotations

import time
from typing import Any

import pytest

from millrace.launchers.owners import Owner
from millrace.launchers.web.run_records import LINES, LONGEST, ROOM, RUNS, Record, Shelves
from millrace.streaming import (
    Data,
    Progress,
    ReasoningDelta,
    StatusChanged,
    StepStarted,
    ToolCall,
    ToolResult,
    Usage,
)
from tests.flow.timelines.told import START, Told, rag


def record(told: Told, asked: float = START) -> Record:
    made = Record("What is a Warp?", "desk", asked)
    for event in told.events:
        made.take(event)
    return made


def lines(told: Told) -> list[tuple[Any, ...]]:
    return [(line.kind, "/".join(map(str, line.path)), line.text) for line in record(told).lines]


class TestLines:
    def test_pieces_of_one_step_are_one_line(self) -> None:
        made = record(rag())
        (line,) = (line for line in made.lines if line.kind == "text_delta")
        assert (line.many, line.until - line.seq, line.cut) == (60, 59, 0)
        assert line.text.startswith("0 1 2 ")
        assert len(made.lines) == len(rag().events) - 59

    def test_steps_that_speak_at_once_have_a_line_each(self) -> None:
        told = Told().step(0, None, "a").step(0, None, "b")
        for i in range(5):
            told.pieces(i, i, 1, "a").pieces(i, i, 1, "b")
        spoken = [line for line in record(told).lines if line.kind == "text_delta"]
        assert [(line.path, line.many) for line in spoken] == [(("a",), 5), (("b",), 5)]

    def test_what_else_a_step_says_begins_another_line(self) -> None:
        told = Told().pieces(0, 1, 3, "a").say(1, Progress(0.5, "half"), "a").pieces(1, 2, 3, "a")
        assert lines(told)[1:] == [
            ("text_delta", "a", "0 1 2 "),
            ("progress", "a", "50% half"),
            ("text_delta", "a", "0 1 2 "),
        ]

    @pytest.mark.parametrize(
        ("event", "text"),
        [
            (ReasoningDelta("hm"), "hm"),
            (Data({"a": [1, 2]}), "{'a': [1, 2]}"),
            (ToolCall("1", "search", '{"q": 1}'), 'search({"q": 1})'),
            (ToolResult("1", "found"), "found"),
            (ToolResult("1", None, ValueError("secret")), "ValueError"),
            (Usage(3, 4), "3 + 4 tokens"),
            (StatusChanged("waiting"), "waiting"),
            (StepStarted(), ""),
        ],
    )
    def test_in_words(self, event: Any, text: str) -> None:
        assert lines(Told().say(1, event, "a"))[1] == (event.kind, "a", text)

    def test_errors_by_their_type(self) -> None:
        error = ValueError("secret")
        told = Told().step(0, 1, "a", error=error).end(1, "error", "error", error=error)
        assert [text for *_, text in lines(told)] == ["", "", "ValueError", "error, error, ValueError"]

    def test_long_ones_are_cut_and_it_is_counted(self) -> None:
        told = Told().say(0, Data("x" * (LONGEST + 7)), "a")
        (line,) = record(told).lines[1:]
        assert (len(line.text), line.cut) == (LONGEST, 7)
        told = Told().pieces(0, 1, 2000, "a")
        (line,) = record(told).lines[1:]
        assert len(line.text) == LONGEST
        assert line.cut == sum(len(f"{i} ") for i in range(2000)) - LONGEST

    def test_all_lines_together_are_cut_too(self) -> None:
        told = Told()
        for i in range(100):
            told.say(i, Data("x" * LONGEST), f"s{i}")
        made = record(told)
        assert sum(len(line.text) for line in made.lines) == ROOM
        assert made.lines[-1].cut == LONGEST

    def test_many_are_counted_and_the_end_is_there(self) -> None:
        told = Told()
        for i in range(LINES + 50):
            told.say(i, StepStarted(), f"s{i}")
        made = record(told.end(1000))
        assert len(made.lines) == LINES + 1
        assert made.more == 51
        assert made.lines[-1].kind == "run_finished"

    def test_values_that_fail_to_show_themselves(self) -> None:
        class Bad:
            def __repr__(self) -> str:
                raise RuntimeError("no")

        (line,) = record(Told().say(0, Data(Bad()), "a")).lines[1:]
        assert "Bad" in line.text

    def test_large_values_are_not_written_out(self) -> None:
        told = Told().say(0, Data(list(range(1_000_000))), "a")
        start = time.thread_time()
        (line,) = record(told).lines[1:]
        assert time.thread_time() - start < 0.05
        assert len(line.text) < LONGEST


class TestRecord:
    def test_time_in_line(self) -> None:
        made = Record("x", None, START - 3)
        assert made.timeline().status == "queued"
        assert [row.name for row in made.timeline().rows] == ["in line"]
        for event in rag().events:
            made.take(event)
        assert made.timeline().took == 7
        assert record(rag(), START - 0.01).story.asked is None

    def test_a_run_that_never_began(self) -> None:
        made = Record("x")
        made.end("error", error="Overloaded")
        assert (made.over, made.timeline().outcome) == (True, "failed: Overloaded")
        made.end("cancelled")
        assert made.timeline().outcome == "failed: Overloaded"

    def test_its_mark_changes_with_what_there_is_to_see(self) -> None:
        made, marks = Record("x", None, START), []
        for event in rag().events:
            made.take(event)
            marks.append(made.mark)
        assert len(set(marks)) == len(made.lines)

    def test_a_token_costs_microseconds(self) -> None:
        events, best = Told().pieces(0, 60, 20_000, "llm").events, 9.9
        for _ in range(3):
            made = Record("x", None, START)
            start = time.thread_time()
            for event in events:
                made.take(event)
            best = min(best, time.thread_time() - start)
        assert best / len(events) < 25e-6


class TestShelves:
    def test_everybody_sees_their_own_the_latest_first(self) -> None:
        shelves, alice, bob = Shelves(), Owner("alice"), Owner("bob")
        first, second = shelves.begin(alice, "one"), shelves.begin(alice, "two")
        other = shelves.begin(bob, "three")
        assert list(shelves.of(alice)) == [second, first]
        assert list(shelves.of(bob)) == [other]
        assert list(shelves.of(Owner())) == []
        assert shelves.find(alice, first.key) is first
        assert shelves.find(bob, first.key) is None

    def test_the_oldest_go(self) -> None:
        shelves, alice = Shelves(), Owner("alice")
        for i in range(RUNS + 5):
            shelves.begin(alice, str(i))
        assert [one.title for one in shelves.of(alice)] == [str(i) for i in range(RUNS + 4, 4, -1)]

    def test_all_of_them_take_so_much_and_no_more(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("millrace.launchers.web.run_records.MOST_BYTES", 200_000)
        shelves, told = Shelves(), Told().say(0, Data("x" * LONGEST), "a")
        for i in range(200):
            record = shelves.begin(Owner(str(i)), "x")
            for event in told.events:
                record.take(event)
        there = [i for i in range(200) if shelves.of(Owner(str(i)))]
        assert there == list(range(200 - len(there), 200))
        assert 10 < len(there) < 60
