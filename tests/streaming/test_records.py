"""Records: what goes into a queue on disk comes out of it the same, or is refused."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.streaming import (
    Data,
    Event,
    Logprobs,
    MissingExtra,
    ModelError,
    Overloaded,
    Progress,
    QueueError,
    ReasoningDelta,
    RemoteError,
    RequestRefused,
    RunCancelled,
    RunFinished,
    RunStarted,
    RunTimeout,
    StatusChanged,
    StepFinished,
    StepStarted,
    TextDelta,
    TokenUsage,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    Usage,
)
from millrace.streaming.records import KINDS, decode, decode_all, encode, without_traceback

TEXT = st.text(st.characters(codec=None, categories=None))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
PATHS = st.lists(st.text(max_size=8) | st.integers(0, 9), max_size=3).map(tuple)
EVENTS = st.one_of(
    st.builds(TextDelta, TEXT, st.booleans()),
    st.builds(ReasoningDelta, TEXT, st.booleans()),
    st.builds(Data, JSON, st.booleans()),
    st.builds(Logprobs, st.lists(st.dictionaries(TEXT, JSON, max_size=3), max_size=3), st.booleans()),
    st.builds(ToolCallDelta, st.integers(), st.none() | TEXT, st.none() | TEXT, TEXT, st.booleans()),
    st.builds(ToolCall, TEXT, TEXT, TEXT, st.booleans()),
    st.builds(ToolResult, TEXT, JSON),
    st.builds(Progress, st.floats(0, 1), TEXT),
    st.builds(Usage, st.integers(0), st.integers(0)),
    st.builds(StatusChanged, st.sampled_from(["waiting", "running"])),
    st.builds(RunFinished, TEXT, st.none() | TEXT, JSON, st.none(), st.builds(TokenUsage)),
    st.sampled_from([RunStarted(), StepStarted(), StepFinished()]),
)


def stamped(event: Event, seq: int = 1, path: tuple[str | int, ...] = ("answer",)) -> Event:
    event.seq, event.path, event.time = seq, path, 1_700_000_000.123456
    return event


@given(EVENTS, st.integers(1), PATHS)
def test_out_comes_what_went_in(event: Event, seq: int, path: tuple[str | int, ...]) -> None:
    record = encode(stamped(event, seq, path))
    back = decode(record)
    assert type(back) is type(event)
    assert back.as_dict() == event.as_dict()
    assert (back.seq, back.path, back.time) == (seq, path, event.time)
    assert encode(back) == record
    assert json.loads(record) == json.loads(json.dumps(event.as_dict()))


@given(st.lists(EVENTS, max_size=6))
def test_several_at_once_are_the_same(events: list[Event]) -> None:
    records = [encode(stamped(event, seq)) for seq, event in enumerate(events, 1)]
    assert [encode(event) for event in decode_all(records)] == records


@pytest.mark.parametrize("wrong", [b"nothing", b"7", b'{"kind":"data"}', b"1,2", b""])
def test_one_of_several_that_is_none(wrong: bytes) -> None:
    good = encode(stamped(TextDelta("x")))
    with pytest.raises(QueueError, match="no record of an event"):
        decode_all([good, wrong, good])


def test_every_kind_of_event_has_one() -> None:
    events = sys.modules["millrace.streaming.events"]
    kinds = {
        kind
        for kind in vars(events).values()
        if isinstance(kind, type) and issubclass(kind, Event) and kind is not Event
    }
    assert set(KINDS.values()) == kinds


def test_many_paths_are_all_right() -> None:
    for i in range(3000):
        assert decode(encode(stamped(TextDelta("x"), 1, ("loop", i)))).path == ("loop", i)


class TestErrors:
    @pytest.mark.parametrize(
        "error",
        [
            RunCancelled("enough"),
            RunTimeout("late"),
            Overloaded("full", 2.5),
            MissingExtra("torch", "local"),
            RemoteError("there", 503, "ValueError"),
            RequestRefused("no", "json_schema", by_run=True),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_our_own_come_back_as_themselves(self, error: Exception) -> None:
        error.add_note("in answer after 0.1 s")
        back = self.there_and_back(error)
        assert type(back) is type(error)
        assert (str(back), vars(back)) == (str(error), vars(error))
        assert type(self.there_and_back(back)) is type(error)

    def test_a_users_comes_back_in_words(self) -> None:
        class Broken(Exception):
            pass

        error = Broken("the page is gone")
        error.add_note("in fetch after 0.1 s")
        back = self.there_and_back(error)
        assert type(back) is RemoteError
        assert (str(back), back.kind) == ("Broken: the page is gone", "Broken")
        assert back.__notes__ == ["in fetch after 0.1 s"]
        again = self.there_and_back(back)
        assert (str(again), again.kind, again.__notes__) == (str(back), back.kind, back.__notes__)
        assert stamped(StepFinished(back)).as_dict()["error"] == "Broken"

    def test_one_that_cannot_be_shown_is_told_by_its_type(self) -> None:
        class Mute(Exception):
            def __str__(self) -> str:
                raise RuntimeError("no words")

        error = Mute()
        error.__notes__ = 5  # type: ignore[assignment]
        assert str(self.there_and_back(error)) == "Mute: (a Mute that cannot be shown)"

    def test_what_one_of_our_own_knows_besides_json_is_left_out(self) -> None:
        error = ModelError("gone")
        vars(error).update(thing=object(), number=3)
        assert vars(self.there_and_back(error)) == {"number": 3}

    def there_and_back(self, error: Exception) -> Any:
        event = stamped(RunFinished("error", "error", None, error, TokenUsage(1, 2)))
        back = decode(encode(event))
        assert isinstance(back, RunFinished)
        assert back.as_dict() == event.as_dict()
        return back.error

    def test_without_frames(self) -> None:
        try:
            raise ValueError("here")
        except ValueError as caught:
            event = stamped(RunFinished("error", "error", None, caught, TokenUsage()))
        twin = without_traceback(event)
        assert event.error is not None  # type: ignore[attr-defined]
        assert event.error.__traceback__ is not None  # type: ignore[attr-defined]
        assert twin.error.__traceback__ is None  # type: ignore[attr-defined]
        assert twin.as_dict() == event.as_dict()
        plain = stamped(TextDelta("x"))
        assert without_traceback(plain) is plain


class TestWhatIsNoJson:
    @pytest.mark.parametrize(
        "value", [object(), {1, 2}, b"bytes", float("nan"), {"deep": [object()]}, {(1, 2): 3}]
    )
    def test_it_is_refused_by_step_and_type(self, value: Any) -> None:
        with pytest.raises(QueueError, match=f"the step 'a/b' said a {type(value).__name__} that is no JSON"):
            encode(stamped(Data(value), path=("a", "b")))

    def test_a_ring_too(self) -> None:
        ring: list[Any] = []
        ring.append(ring)
        with pytest.raises(QueueError, match="no JSON"):
            encode(stamped(Data(ring)))
        deep: list[Any] = []
        for _ in range(100_000):
            deep = [deep]
        with pytest.raises(QueueError, match="no JSON"):
            encode(stamped(Data(deep)))

    def test_a_result_says_that_it_is_one(self) -> None:
        with pytest.raises(QueueError, match="the run's result is a set"):
            encode(stamped(RunFinished("done", None, {1}, None, TokenUsage()), path=()))


class TestWhatOthersWrote:
    def test_an_unknown_kind_becomes_data(self) -> None:
        event = decode(b'{"kind":"rain","seq":3,"path":["sky"],"time":1.5,"millimetres":4}')
        assert isinstance(event, Data)
        assert (event.value, event.output) == ({"kind": "rain", "millimetres": 4}, False)
        assert (event.seq, event.path, event.time) == (3, ("sky",), 1.5)

    @pytest.mark.parametrize(
        ("record", "wanted"),
        [
            ('{"kind":"reasoning_delta","seq":1,"path":[],"time":1.5,"text":"hm"}', ReasoningDelta("hm")),
            (
                '{"kind":"tool_call","seq":1,"path":[],"time":1.5,"id":"a","name":"f","arguments":"{}"}',
                ToolCall("a", "f", "{}"),
            ),
            (
                '{"kind":"tool_call_delta","seq":1,"path":[],"time":1.5,"index":0,"id":"a","name":"f","arguments":""}',
                ToolCallDelta(0, "a", "f", ""),
            ),
        ],
    )
    def test_before_they_said_whether_they_are_output(self, record: str, wanted: Event) -> None:
        event = decode(record.encode())
        assert event == wanted
        assert event.output  # type: ignore[attr-defined]

    def test_an_unknown_field_is_left_out(self) -> None:
        event = decode(
            b'{"kind":"text_delta","seq":3,"path":[],"time":1.5,"text":"a","output":true,"hue":"red"}'
        )
        assert isinstance(event, TextDelta)
        assert event.text == "a"

    def test_a_missing_field_makes_it_data(self) -> None:
        event = decode(b'{"kind":"tool_call","seq":3,"path":[],"time":1.5,"id":"a"}')
        assert isinstance(event, Data)
        assert event.value == {"kind": "tool_call", "id": "a"}

    @pytest.mark.parametrize("record", [b"", b"nothing", b"[]", b"7", b'{"kind":"data"}', b"\xff\xfe"])
    def test_what_is_no_record(self, record: bytes) -> None:
        with pytest.raises(QueueError, match="no record of an event"):
            decode(record)
