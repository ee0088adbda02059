from __future__ import annotations

import json
from typing import Any

import pytest

from millrace import Pipeline
from millrace.streaming import (
    Data,
    Event,
    Progress,
    RunFinished,
    TextDelta,
    TokenUsage,
    Usage,
    emit,
)


def talk(x: Any) -> Any:
    emit(Progress(0.5, "half"))
    yield "a"
    emit(Usage(3, 4))
    yield {"n": x}
    yield "b"


def test_order_sequence_and_paths() -> None:
    events = list(Pipeline(str, talk).stream(7))
    assert [event.kind for event in events] == [
        "run_started",
        "step_started",
        "step_finished",
        "step_started",
        "progress",
        "text_delta",
        "usage",
        "data",
        "text_delta",
        "step_finished",
        "run_finished",
    ]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert events[0].path == events[-1].path == ()
    assert events[1].path == events[2].path == ("str",)
    assert {event.path for event in events[3:-1]} == {("talk",)}
    assert [event.time for event in events] == sorted(event.time for event in events)
    last = events[-1]
    assert isinstance(last, RunFinished)
    assert last.usage == TokenUsage(3, 4)
    assert last.result == ["a", {"n": "7"}, "b"]


def test_equal_by_payload() -> None:
    assert TextDelta("a") == TextDelta("a", True) != TextDelta("a", False)
    assert "no" not in repr(TextDelta("a"))


@pytest.mark.parametrize("event", [TextDelta("ä\n"), Data([1, None]), Progress(0.1, "x")])
def test_as_json(event: Event) -> None:
    event.seq, event.path, event.time = 1, ("a", 2), 3.0
    read = json.loads(json.dumps(event.as_dict()))
    assert read["kind"] == event.kind
    assert read["path"] == ["a", 2]
    assert all(read[name] == value for name, value in event.payload().items())


def test_an_error_is_named_not_shown() -> None:
    finished = RunFinished("error", "error", None, ValueError("secret"), TokenUsage(1, 2))
    finished.seq, finished.path, finished.time = 1, (), 0.0
    read = finished.as_dict()
    assert read["error"] == "ValueError"
    assert read["usage"] == {"prompt_tokens": 1, "completion_tokens": 2}
    assert "secret" not in json.dumps(read)
