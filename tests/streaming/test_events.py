from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from millrace import Pipeline, step
from millrace.streaming import (
    Data,
    Event,
    Logprobs,
    Progress,
    ReasoningDelta,
    RunFinished,
    TextDelta,
    TokenUsage,
    ToolCall,
    ToolCallDelta,
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


MORE: list[Any] = [
    ReasoningDelta("hm"),
    Logprobs([{"token": "a", "bytes": [97], "logprob": -0.5, "top_logprobs": []}]),
    ToolCallDelta(0, "a", "look", ""),
    ToolCall("a", "look", "{}"),
]
"""What a model may say besides its text."""


@pytest.mark.parametrize("kind", ["generator", "async generator", "emitting generator"])
def test_what_belongs_to_the_answer_is_said_by_the_step_that_gives_it(kind: str) -> None:
    def generator(x: Any) -> Iterator[Any]:
        for event in MORE:
            if kind == "generator":
                yield event
            else:
                emit(event)
        yield str(x)

    async def async_generator(x: Any) -> AsyncIterator[Any]:
        for event in MORE:
            yield event
        yield str(x)

    async def whole(pieces: AsyncIterator[str]) -> str:
        return "".join([piece async for piece in pieces])

    source = async_generator if kind == "async generator" else generator
    flow = Pipeline(step(source, name="live"), whole, step(source, name="drained"), step(source, name="last"))
    events = [event for event in flow.stream(1) if isinstance(event, tuple(map(type, MORE)))]
    told = [(event.path, event.output) for event in events]
    places = [place for place in ("live", "drained", "last") for _ in MORE]
    assert told == [((place,), place == "last") for place in places]
    assert all(event.output for event in MORE), "what was yielded is as it was"


@pytest.mark.parametrize("show", ["output", "trace", "silent"])
def test_a_step_that_says_what_its_pieces_are(show: Any) -> None:
    def source(x: Any) -> Iterator[Any]:
        yield ToolCall("a", "look", "{}")
        yield str(x)

    def said(flow: Any) -> list[bool]:
        return [event.output for event in flow.stream(1) if isinstance(event, ToolCall)]

    assert said(Pipeline(step(source, show=show), str)) == [show == "output"]
    assert said(Pipeline(str, step(source, show=show))) == [show == "output"]
    assert said(Pipeline(str, step(source, show=show, retry=2))) == [show == "output"]


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
