from __future__ import annotations

from asyncio import CancelledError

import pytest

from millrace.flow.timelines import Story
from millrace.flow.timelines.stories import MOST_TRACKS
from millrace.streaming import (
    Data,
    Progress,
    ReasoningDelta,
    RemoteError,
    RunFinished,
    StatusChanged,
    StepFinished,
    StepStarted,
    TextDelta,
    ToolCall,
    Usage,
    WriterLost,
)
from millrace.streaming.usage import TokenUsage
from tests.flow.timelines.told import START, Told, rag


def test_a_run_and_its_steps() -> None:
    story = Story.of(rag().events)
    assert (story.status, story.reason, story.error, story.over) == ("done", "stop", None, True)
    assert (story.began, story.ended, story.first) == (START, START + 4, START + 2.4)
    assert story.usage == TokenUsage(35, 60)
    assert list(story.root.children) == ["clean", "notes", "sharper", "llm"]
    (llm,) = story.root.children["llm"].bouts
    assert (llm.began, llm.first, llm.ended, llm.error) == (START + 1.6, START + 2.4, START + 4, None)
    assert story.root.children["llm"].pulses.total == 60  # type: ignore[union-attr]
    assert list(story.root.children["sharper"].children) == [0, 1, 2]


def test_what_goes_on_is_open() -> None:
    story = Story.of(Told().step(0.5, None, "llm").events)
    assert (story.status, story.over) == ("running", False)
    assert story.root.children["llm"].bouts[0].ended is None


def test_a_stop_ends_what_was_at_work() -> None:
    told = Told().step(0.5, None, "outer").step(0.6, None, "outer", "inner").end(1, "cancelled", "enough")
    story = Story.of(told.events)
    for track in (story.root.children["outer"], story.root.children["outer"].children["inner"]):
        assert [(bout.ended, bout.stopped, bout.error) for bout in track.bouts] == [(START + 1, True, None)]
        assert not track.going


@pytest.mark.parametrize(
    ("error", "name", "stopped"),
    [
        (ValueError("secret"), "ValueError", False),
        (CancelledError(), None, True),
        (RemoteError("KeyError: 'secret'", kind="KeyError"), "KeyError", False),
        (RemoteError("CancelledError", kind="CancelledError"), None, True),
    ],
)
def test_errors_are_told_by_their_type(error: BaseException, name: str | None, stopped: bool) -> None:
    story = Story.of(Told().step(0, 1, "a", error=error).events)
    (bout,) = story.root.children["a"].bouts
    assert (bout.error, bout.stopped) == (name, stopped)


def test_a_run_whose_process_died() -> None:
    events = Told().step(0, None, "a").events
    end = RunFinished("lost", None, None, WriterLost("its process is gone"), TokenUsage())
    end.path, end.time = (), START + 5  # readers make it up: it has no number
    story = Story.of([*events, end])
    assert (story.status, story.error, story.ended) == ("lost", "WriterLost", START + 5)
    assert story.root.children["a"].bouts[0].stopped


def test_the_same_path_again() -> None:
    told = Told().step(0, 1, "a").step(2, 3, "a")
    told.say(4, StepStarted(), "a").say(4.5, StepStarted(), "a").say(5, StepFinished(), "a")
    track = Story.of(told.events).root.children["a"]
    assert [(bout.began, bout.ended) for bout in track.bouts] == [
        (START, START + 1),
        (START + 2, START + 3),
        (START + 4, START + 5),
        (START + 4.5, None),
    ]


def test_what_is_missing_is_counted_and_not_made_up() -> None:
    events = rag().events
    story = Story.of(events[8:])
    assert story.missing == 8
    assert story.began is None
    assert story.root.children["notes"].bouts[0].began is None
    assert story.root.children["notes"].bouts[0].ended == START + 0.9
    assert Story.of([*events[:5], *events[10:]]).missing == 5


def test_what_nobody_was_given_after_a_stop_is_not_missing() -> None:
    events = Told().step(0, None, "a").pieces(0, 1, 20, "a").end(1, "cancelled", "enough").events
    story = Story.of([*events[:10], events[-1]])
    assert (story.missing, story.skipped) == (0, len(events) - 11)


def test_an_event_is_taken_once() -> None:
    events = rag().events
    story = Story.of([*events[:20], *events[10:], *events])
    assert (story.events, story.missing) == (len(events), 0)
    assert story.root.children["llm"].pulses.total == 60  # type: ignore[union-attr]


def test_tokens_tools_progress_and_waits() -> None:
    told = Told().step(0, None, "llm").say(0.1, Usage(3, 4), "llm").say(0.2, Usage(1, 2), "llm")
    told.say(0.3, ToolCall("1", "search", "{}"), "llm").say(0.4, Progress(0.5, "loading"), "llm")
    told.say(1, StatusChanged("waiting"), "llm").say(2, StatusChanged("running"), "llm")
    told.say(3, StatusChanged("waiting"), "llm")
    story = Story.of(told.events)
    track = story.root.children["llm"]
    assert track.usage == story.usage == TokenUsage(4, 6)
    assert track.tools == [(START + 0.3, "search")]
    assert track.progress == (0.5, "loading")
    assert story.waits == [[START + 1, START + 2], [START + 3, None]]
    assert story.status == "waiting"


def test_the_first_piece_of_the_answer_is_neither_reasoning_nor_a_step_on_the_way() -> None:
    told = Told().say(1, ReasoningDelta("hm"), "llm").say(2, TextDelta("x", False), "notes")
    told.say(3, Data({"a": 1}), "llm")
    assert Story.of(told.events).first == START + 3


def test_changes_grow_with_states_and_not_with_pieces() -> None:
    told = Told().step(0, None, "a").pieces(0, 1, 5, "a")
    story = Story.of(told.events)
    before = story.changes
    for event in told.pieces(1, 2, 5, "a").events:
        story.take(event)
    assert story.changes == before
    story.take(told.say(3, StepFinished(), "a").events[-1])
    assert story.changes == before + 1


def test_paths_without_end_are_counted() -> None:
    told = Told()
    for i in range(MOST_TRACKS + 10):
        told.step(0, 1, "each", i)
    story = Story.of(told.events)
    assert len(list(story.tracks)) == MOST_TRACKS
    assert story.left_out == 2 * 12
