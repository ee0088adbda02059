"""The events of a run out of what a service streams of it: cut anywhere, over any number of connections, each once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.modules.remote.addresses import Address
from millrace.modules.remote.failures import Failure
from millrace.modules.remote.run_frames import RunFrames
from millrace.streaming import (
    ContextLengthExceeded,
    Data,
    Event,
    Overloaded,
    Progress,
    RemoteError,
    RunCancelled,
    RunFinished,
    RunStarted,
    RunTimeout,
    StepFinished,
    TextDelta,
    TokenUsage,
    ToolCall,
    ToolResult,
)

ADDRESS = Address("http://localhost:8000", "sk-secret")
PATHS = st.lists(st.one_of(st.text(max_size=8), st.integers(0, 99)), max_size=3).map(tuple)
EVENTS = st.one_of(
    st.builds(TextDelta, st.text(), st.booleans()),
    st.builds(Data, st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=4)),
    st.builds(Progress, st.floats(0, 1), st.text()),
    st.builds(ToolCall, st.text(), st.text(), st.text()),
)


def frame(event: Event, seq: int, path: tuple[str | int, ...] = ()) -> bytes:
    """As the service writes it."""
    event.seq, event.path, event.time = seq, path, 1.5
    return f"id: {seq}\nevent: {event.kind}\ndata: {json.dumps(event.as_dict())}\n\n".encode()


def ending(status: str, seq: int | None = None, **more: Any) -> bytes:
    told = {"kind": "run_finished", "path": [], "time": 2.0, "status": status, "reason": None, "result": None}
    told |= {"usage": {"prompt_tokens": 4, "completion_tokens": 2}, "error": None, **more}
    if seq is not None:
        told["seq"] = seq
    return f"event: run_finished\ndata: {json.dumps(told)}\n\n".encode()


def read(*received: bytes) -> list[Event]:
    frames = RunFrames(ADDRESS)
    return [event for piece in received for event in frames.feed(piece)]


@settings(deadline=None)
@given(st.lists(st.tuples(EVENTS, PATHS), max_size=8), st.lists(st.integers(0, 2000), max_size=6))
def test_cut_anywhere(said: list[tuple[Event, tuple[str | int, ...]]], cuts: list[int]) -> None:
    whole = b": keep-alive\n\n".join(frame(event, 3 * i + 1, path) for i, (event, path) in enumerate(said))
    frames, found, start = RunFrames(ADDRESS), [], 0
    for cut in [*sorted(min(cut, len(whole)) for cut in cuts), len(whole)]:
        found += frames.feed(whole[start:cut])
        start = cut
    assert [(type(event), event.payload(), event.path) for event in found] == [
        (type(event), event.payload(), path) for event, path in said
    ]
    assert frames.seq == max(0, 3 * len(said) - 2)


@settings(deadline=None)
@given(
    st.lists(st.text(), max_size=8), st.lists(st.tuples(st.integers(0, 8), st.integers(0, 900)), max_size=5)
)
def test_picked_up_anywhere(texts: list[str], breaks: list[tuple[int, int]]) -> None:
    """A connection that breaks at any byte; the next one begins behind the last event, or earlier than it had to."""
    made = [frame(TextDelta(text), i + 1) for i, text in enumerate(texts)]
    frames, found = RunFrames(ADDRESS), []
    for back, length in [*breaks, (0, len(b"".join(made)))]:
        found += frames.feed(b"".join(made[max(0, frames.seq - back) :])[:length])
        frames.reconnected()
    assert [event.text for event in found if isinstance(event, TextDelta)] == texts


def test_what_is_told_of_an_event() -> None:
    started, delta, done = read(
        frame(RunStarted(), 1) + frame(TextDelta("Hi"), 2, ("pipe", 0)), ending("done", 5, result={"a": [1]})
    )
    assert isinstance(started, RunStarted)
    assert isinstance(delta, TextDelta)
    assert delta.path == ("pipe", 0)
    assert not hasattr(delta, "seq")
    assert isinstance(done, RunFinished)
    assert (done.status, done.result, done.usage) == ("done", {"a": [1]}, TokenUsage(4, 2))
    assert done.error is None


def test_behind_the_end_comes_nothing() -> None:
    assert len(read(ending("done", 3), frame(TextDelta("late"), 4), ending("done", 3))) == 1


def test_an_end_without_a_number() -> None:
    """Of a run whose process has died."""
    (lost,) = read(ending("lost", error={"message": "it has died", "kind": "WriterLost", "status": 500}))
    assert isinstance(lost, RunFinished)
    assert isinstance(lost.error, RemoteError)
    assert (lost.error.kind, lost.error.status) == ("WriterLost", 500)


def test_errors_of_steps_and_tools_are_known_by_their_types_names() -> None:
    step, tool = read(
        frame(StepFinished(KeyError("x")), 1, ("a",)) + frame(ToolResult("t", None, ValueError()), 2)
    )
    assert isinstance(step, StepFinished)
    assert isinstance(tool, ToolResult)
    assert [getattr(event.error, "kind", None) for event in (step, tool)] == ["KeyError", "ValueError"]


def test_an_event_of_a_kind_that_is_not_known_here() -> None:
    (found,) = read(b'data: {"kind": "dance", "seq": 4, "path": ["a"], "time": 1, "steps": 3}\n\n')
    assert isinstance(found, Data)
    assert (found.value, found.output, found.path) == ({"kind": "dance", "steps": 3}, False, ("a",))


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        ("cancelled", None, RunCancelled),
        ("timeout", None, RunTimeout),
        ("timeout", {"message": "the deadline passed", "status": 504}, RunTimeout),
        ("error", {"message": "full", "kind": "Overloaded", "code": "overloaded", "status": 429}, Overloaded),
        ("error", {"message": "long", "kind": "ContextLengthExceeded", "status": 400}, ContextLengthExceeded),
        ("error", {"message": "it failed", "kind": "ValueError", "status": 500}, RemoteError),
        ("error", None, RemoteError),
    ],
)
def test_how_a_run_may_end(status: str, error: Any, kind: type[Exception]) -> None:
    (found,) = read(ending(status, 9, reason="enough", error=error))
    assert isinstance(found, RunFinished)
    assert type(found.error) is kind
    if isinstance(found.error, RunCancelled):
        assert found.error.reason == "enough"


@pytest.mark.parametrize(
    "nonsense",
    ["[DONE]", "[]", "5", '{"seq": 1}', '{"kind": 5}', '{"kind": "text_delta", "path": "a"}', "sk-secret"],
)
def test_what_is_no_event(nonsense: str) -> None:
    with pytest.raises(Failure, match="no event of a run") as failed:
        read(f"data: {nonsense}\n\n".encode())
    assert "sk-secret" not in str(failed.value)
    assert not failed.value.again


def test_a_long_result_is_read_in_one_go() -> None:
    """Not over and over from its beginning: 40 MB in pieces of 16 kB."""
    whole = ending("done", 2, result="a" * 40_000_000)
    frames, found = RunFrames(ADDRESS), []
    for start in range(0, len(whole), 16384):
        found += frames.feed(whole[start : start + 16384])
    (done,) = found
    assert isinstance(done, RunFinished)
    assert len(done.result) == 40_000_000
