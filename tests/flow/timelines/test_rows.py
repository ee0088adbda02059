from __future__ import annotations

from asyncio import CancelledError

from hypothesis import given, settings

from millrace.flow.timelines import Story, explain
from millrace.flow.timelines.rows import FEW, MOST, Row, rows_of
from millrace.streaming import StatusChanged, StepFinished, StepStarted
from tests.flow.drawing.examples import FLOWS
from tests.flow.timelines.told import START, Told, rag


def rows(told: Told, asked: float | None = None) -> list[Row]:
    return rows_of(Story.of(told.events, asked))[0]


def names(told: Told) -> list[str]:
    return [f"{'  ' * row.depth}{row.name}{f' ×{row.many}' if row.many else ''}" for row in rows(told)]


def each(items: int, *steps: str) -> Told:
    told = Told().say(0, StepStarted(), "w")
    for i in range(items):
        told.say(i, StepStarted(), "w", i)
        for step in steps:
            told.step(i, i + 1, "w", i, step)
        told.say(i + 1, StepFinished(), "w", i)
    return told.say(items, StepFinished(), "w")


def test_a_row_for_each_step_under_its_flow() -> None:
    assert names(rag()) == ["clean", "notes", "  bm25", "  dense", "sharper ×3", "llm"]


def test_turns_stand_in_their_loops_row() -> None:
    loop = rows(rag())[4]
    assert [(bout.began, bout.ended) for bout in loop.bouts] == [
        (START + 1, START + 1.2),
        (START + 1.2, START + 1.4),
        (START + 1.4, START + 1.6),
    ]
    assert not loop.group


def test_few_items_with_steps_inside_have_rows_of_their_own() -> None:
    assert names(each(2, "read", "rate")) == [
        "w ×2",
        "  [0]",
        "    read",
        "    rate",
        "  [1]",
        "    read",
        "    rate",
    ]


def test_many_items_are_drawn_over_each_other() -> None:
    told = each(FEW + 1, "read", "rate")
    assert names(told) == [f"w ×{FEW + 1}", f"  read ×{FEW + 1}", f"  rate ×{FEW + 1}"]
    read = rows(told)[1]
    assert len(read.bouts) == FEW + 1
    assert read.path == ("w", "*", "read")


def test_turns_of_a_flow_without_a_name_have_a_row() -> None:
    told = Told().step(0, 1, "clean").step(1, 2, 0).step(2, 3, 1).step(3, 4, "llm")
    assert names(told) == ["clean", "[0…1] ×2", "llm"]


def test_a_flow_that_says_nothing_itself_spans_what_is_inside() -> None:
    told = Told().step(1, 2, "w", "each", 0).step(1, 4, "w", "each", 1)
    row = rows(told)[0]
    assert (row.name, row.group, row.start, row.end) == ("w", True, START + 1, START + 4)
    assert row.state == "unknown"


def test_states() -> None:
    told = Told().step(0, 1, "done").step(0, 1, "failed", error=ValueError()).step(0, None, "going")
    told.step(0, 1, "stopped", error=CancelledError())
    assert {row.name: row.state for row in rows(told)} == {
        "done": "done",
        "failed": "failed",
        "going": "running",
        "stopped": "stopped",
    }


def test_errors_are_counted_by_type() -> None:
    told = Told().say(0, StepStarted(), "w")
    for i, error in enumerate((ValueError(), KeyError(), ValueError(), None)):
        told.step(0, 1, "w", i, error=error)
    (row,) = rows(told)
    assert (row.errors, row.state) == ("ValueError ×2, KeyError", "failed")


def test_first_piece_after_the_steps_own_start() -> None:
    assert [row.first and round(row.first, 3) for row in rows(rag())] == [None] * 5 + [0.8]


def test_time_in_line_and_for_a_person() -> None:
    told = Told().say(1, StatusChanged("waiting")).say(3, StatusChanged("running")).step(3, 4, "a")
    line, wait, step = rows(told, asked=START - 2)
    assert (line.name, line.kind, line.start, line.end) == ("in line", "line", START - 2, START)
    assert (wait.kind, wait.start, wait.end) == ("wait", START + 1, START + 3)
    assert step.kind == "step"


def test_a_model_that_is_the_whole_flow_has_a_row() -> None:
    (row,) = rows(Told().pieces(1, 2, 5).end(2))
    assert (row.name, row.start, row.end, row.first) == ("answer", START, START + 2, 1)


def test_rows_beyond_a_page_are_counted() -> None:
    told = Told()
    for i in range(MOST + 5):
        told.step(i, i + 1, f"s{i}")
    found, more = rows_of(Story.of(told.events))
    assert (len(found), more) == (MOST, 5)


@settings(deadline=None)
@given(FLOWS)
def test_every_flow_has_rows_for_what_it_said(flow) -> None:  # type: ignore[no-untyped-def]
    run = flow.start("x")
    try:
        run.result(10)
    except Exception:
        pass
    story = explain(run).story
    found, more = rows_of(story)
    bouts = sum(len(track.bouts) for track in story.tracks if not track.children)
    assert sum(len(row.bouts) for row in found if not row.group) >= bouts or more
    assert all(row.start is not None and row.end is not None for row in found)
