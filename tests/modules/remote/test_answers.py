"""Chunks of many servers, as deltas."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.modules.local import Delta
from millrace.modules.remote.addresses import Address
from millrace.modules.remote.answers import AnswerReader
from millrace.modules.remote.failures import Failure
from millrace.streaming import RemoteError, TokenUsage, ToolCall, ToolCallDelta

ADDRESS = Address("http://host/v1")


def reader(*stops: str) -> AnswerReader:
    return AnswerReader(ADDRESS, stops)


def chunk(finish: str | None = None, **delta: Any) -> str:
    return json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


def call(
    index: int | None, id: str | None = None, name: str | None = None, arguments: str | None = None
) -> str:
    piece: dict[str, Any] = {"index": index, "id": id, "function": {"name": name, "arguments": arguments}}
    return chunk(tool_calls=[{key: value for key, value in piece.items() if value is not None}])


def read(*chunks: str, stops: tuple[str, ...] = ()) -> list[Delta]:
    """All deltas, the last one too."""
    answer = reader(*stops)
    found = [delta for data in chunks if (delta := answer.read(data)) is not None]
    return [*found, answer.end()]


def calls(deltas: list[Delta]) -> list[tuple[str, str, str]]:
    """The whole calls of the last delta."""
    return [
        (found.id, found.name, found.arguments)
        for found in deltas[-1].tool_calls
        if isinstance(found, ToolCall)
    ]


def test_text_usage_and_the_end() -> None:
    usage = json.dumps(
        {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}
    )
    first, second, last = read(
        chunk(role="assistant", content=""), chunk(content="Hel"), chunk(content="lo"), chunk("stop"), usage
    )
    assert [first, second] == [Delta("Hel"), Delta("lo")]
    assert (last.finish_reason, last.usage) == ("stop", TokenUsage(3, 2))


def test_usage_is_counted_where_the_server_does_not_tell() -> None:
    assert read(chunk(content="a"), chunk(content="b"), chunk("stop"))[-1].usage == TokenUsage(0, 2)


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning(field: str) -> None:
    deltas = read(chunk(**{field: "hm"}), chunk(content="yes", **{field: None}), chunk("stop"))
    assert [(delta.text, delta.reasoning) for delta in deltas] == [("", "hm"), ("yes", ""), ("", "")]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("tool_calls", "tool_calls"),
        ("function_call", "tool_calls"),
        ("eos_token", "stop"),
        ("model_length", "length"),
    ],
)
def test_finish_reasons(said: str, reason: str) -> None:
    assert read(chunk(content="a"), chunk(said))[-1].finish_reason == reason


def test_an_unknown_reason_is_a_stop_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert read(chunk("repetition"))[-1].finish_reason == "stop"
    assert "repetition" in caplog.text


@pytest.mark.parametrize("said", ["content_filter", "abort", "error"])
def test_reasons_that_are_failures(said: str) -> None:
    with pytest.raises(Failure) as failed:
        read(chunk(content="a"), chunk(said))
    assert isinstance(failed.value.error, RemoteError)
    assert said in str(failed.value.error)


def test_a_stream_without_a_reason_is_cut_off() -> None:
    with pytest.raises(Failure, match="before the answer was complete"):
        read(chunk(content="a"))


@pytest.mark.parametrize(
    "data",
    [
        "no json",
        "[1]",
        '"text"',
        '{"choices": 5}',
        '{"choices": [5]}',
        '{"choices": [{"delta": {"content": 5}}]}',
        '{"choices": [{"delta": {"tool_calls": [5]}}]}',
        '{"usage": 5}',
    ],
)
def test_what_is_no_chunk(data: str) -> None:
    with pytest.raises(Failure, match="no chunk") as failed:
        reader().read(data)
    assert not failed.value.again


def test_chunks_that_say_nothing() -> None:
    answer = reader()
    for data in (
        "{}",
        '{"choices": []}',
        '{"choices": [{"delta": {}}]}',
        '{"choices": [{"delta": null}], "usage": null}',
        '{"choices": [{"index": 1, "delta": {"content": "another"}}]}',
    ):
        assert answer.read(data) is None
    assert not answer.complete


def test_an_error_in_the_stream() -> None:
    with pytest.raises(Failure) as failed:
        reader().read('{"error": {"message": "boom", "code": "flow_error"}}')
    assert "boom" in str(failed.value.error)


def test_a_reply_in_whole_is_one_chunk() -> None:
    message = {"role": "assistant", "content": "Hello", "reasoning_content": "hm"}
    reply = {
        "choices": [{"index": 0, "message": message, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 9},
    }
    first, last = read(json.dumps(reply))
    assert (first.text, first.reasoning, last.finish_reason, last.usage) == (
        "Hello",
        "hm",
        "length",
        TokenUsage(1, 9),
    )


def test_text_completions() -> None:
    first, last = read(
        '{"choices": [{"text": "Once", "finish_reason": null}]}',
        '{"choices": [{"text": "", "finish_reason": "stop"}]}',
    )
    assert (first.text, last.finish_reason) == ("Once", "stop")


def test_a_refusal_is_text() -> None:
    assert read(chunk(content=None, refusal="No."), chunk("stop"))[0].text == "No."


# ---------------------------------------------------------------- log-probabilities


def report(token: str, logprob: float, data: list[int] | None = None, **more: Any) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": data, **more}


def told(*reports: dict[str, Any], **delta: Any) -> str:
    return json.dumps(
        {
            "choices": [
                {"index": 0, "delta": delta, "logprobs": {"content": list(reports)}, "finish_reason": None}
            ]
        }
    )


def test_log_probabilities_come_with_their_text() -> None:
    rivals = [report("a", -0.25, [97]), report("\ufffd", -2, [195])]
    given = report("a", -0.25, [97], top_logprobs=rivals)
    first, last = read(told(given, content="a"), chunk("stop"))
    assert first.text == "a"
    (found,) = first.logprobs
    assert (found.token_id, found.text, found.data, found.logprob) == (None, "a", b"a", -0.25)
    assert [(rival.text, rival.data) for rival in found.top] == [("a", b"a"), ("\ufffd", b"\xc3")]
    assert found.as_dict() == given
    assert last.logprobs == ()


def test_log_probabilities_without_bytes_or_rivals_or_text() -> None:
    first, _ = read(told(report("a", -0.25)), chunk("stop"))
    assert first.text == ""
    assert first.logprobs[0].as_dict() == report("a", -0.25, None, top_logprobs=[])
    for nothing in (None, {}, {"content": None}, {"content": []}):
        data = {"choices": [{"delta": {}, "logprobs": nothing}]}
        assert reader().read(json.dumps(data)) is None


@pytest.mark.parametrize("least", ["-Infinity", "NaN", "-1e999"])
def test_log_probabilities_that_json_does_not_have(least: str) -> None:
    delta = reader().read(told(report("a", 7777)).replace("7777", least))
    assert delta is not None
    assert delta.logprobs[0].as_dict()["logprob"] == -9999.0


@pytest.mark.parametrize(
    "wrong",
    [5, [5], [{}], [report("a", None)], [report(5, -1)], [report("a", -1, [256])], [report("a", -1, 7)]],  # type: ignore[arg-type]
)
def test_log_probabilities_that_are_none(wrong: Any) -> None:
    with pytest.raises(Failure, match="no chunk"):
        reader().read(json.dumps({"choices": [{"delta": {}, "logprobs": {"content": wrong}}]}))


# ---------------------------------------------------------------- stop strings


@settings(deadline=None)
@given(st.text("ab#x", max_size=30), st.lists(st.integers(0, 30)), st.sampled_from(["##", "#a#", "ab"]))
def test_stop_strings_never_leak_however_the_server_cuts(text: str, cuts: list[int], stop: str) -> None:
    marks = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[start:end] for start, end in pairwise(marks)]
    deltas = read(*(chunk(content=piece) for piece in pieces), chunk("length"), stops=(stop,))
    assert "".join(delta.text for delta in deltas) == text.partition(stop)[0]
    assert deltas[-1].finish_reason == ("stop" if stop in text else "length")


def test_after_a_stop_string_the_answer_is_complete() -> None:
    answer = reader("##")
    assert answer.read(chunk(content="a##b")) == Delta("a")
    assert answer.stopped
    assert answer.end().finish_reason == "stop"


# ---------------------------------------------------------------- tool calls


def test_interleaved_calls_by_index() -> None:
    deltas = read(
        call(0, "a", "search", ""),
        call(1, "b", "add", ""),
        call(0, arguments='{"q":'),
        call(1, arguments='{"x": 1}'),
        call(0, arguments=' "mill"}'),
        chunk("tool_calls"),
    )
    assert [delta.tool_calls[0] for delta in deltas[:3]] == [
        ToolCallDelta(0, "a", "search", ""),
        ToolCallDelta(1, "b", "add", ""),
        ToolCallDelta(0, None, None, '{"q":'),
    ]
    assert calls(deltas) == [("a", "search", '{"q": "mill"}'), ("b", "add", '{"x": 1}')]
    assert deltas[-1].finish_reason == "tool_calls"


def test_several_pieces_in_one_chunk() -> None:
    pieces = [{"index": i, "id": f"c{i}", "function": {"name": "f", "arguments": "{}"}} for i in range(2)]
    deltas = read(chunk(tool_calls=pieces), chunk("stop"))
    assert len(deltas[0].tool_calls) == 2
    assert calls(deltas) == [("c0", "f", "{}"), ("c1", "f", "{}")]
    assert deltas[-1].finish_reason == "tool_calls", "some servers say stop"


@pytest.mark.parametrize("index", [0, None], ids=["always 0", "none"])
def test_parallel_calls_without_a_proper_index(index: int | None) -> None:
    deltas = read(call(index, "a", "f", "{}"), call(index, "b", "g", "{}"), chunk("tool_calls"))
    assert calls(deltas) == [("a", "f", "{}"), ("b", "g", "{}")]
    assert [delta.tool_calls[0].index for delta in deltas[:2]] == [0, 1]  # type: ignore[union-attr]


def test_an_index_that_is_missing_after_the_first_piece() -> None:
    deltas = read(
        call(None, "a", "f"), call(None, arguments="{"), call(None, arguments="}"), chunk("tool_calls")
    )
    assert calls(deltas) == [("a", "f", "{}")]


def test_ids_that_change_from_piece_to_piece() -> None:
    deltas = read(
        call(0, "a", "f"), call(0, "b", arguments="{"), call(0, "c", arguments="}"), chunk("tool_calls")
    )
    assert calls(deltas) == [("a", "f", "{}")]


def test_id_and_name_in_every_piece() -> None:
    deltas = read(call(0, "a", "f", "{"), call(0, "a", "f", "}"), chunk("tool_calls"))
    assert calls(deltas) == [("a", "f", "{}")]


def test_no_id_and_no_arguments() -> None:
    deltas = read(call(0, name="now"), chunk("tool_calls"))
    ((made, name, arguments),) = calls(deltas)
    assert made.startswith("call_")
    assert (name, arguments) == ("now", "{}")
    assert deltas[0].tool_calls[0].id == made


def test_a_call_that_is_cut_off_is_none() -> None:
    pieces = call(0, "a", "f", '{"x": 1}'), call(1, "b", "g", '{"city": "Par')
    assert calls(read(*pieces, chunk("length"))) == [("a", "f", '{"x": 1}')]
    assert calls(read(*pieces, chunk(content="###"), stops=("###",))) == [("a", "f", '{"x": 1}')]
    assert len(calls(read(*pieces, chunk("tool_calls")))) == 2, "what the model has made of it"
    assert calls(read(call(0, "a", "f"), chunk("length"))) == []


def test_arguments_as_an_object() -> None:
    piece = {"index": 0, "id": "a", "function": {"name": "f", "arguments": {"x": 1}}}
    assert calls(read(chunk(tool_calls=[piece]), chunk("tool_calls"))) == [("a", "f", '{"x": 1}')]


@settings(deadline=None)
@given(st.data(), st.lists(st.text("abc{}", max_size=8), min_size=1, max_size=4))
def test_any_interleaving_gives_each_call_its_arguments(data: st.DataObject, arguments: list[str]) -> None:
    pieces = [call(i, f"id{i}", f"f{i}", "") for i in range(len(arguments))]
    order = data.draw(st.permutations([i for i, text in enumerate(arguments) for _ in text]))
    left = [iter(text) for text in arguments]
    pieces += [call(i, arguments=next(left[i])) for i in order]
    assert calls(read(*pieces, chunk("tool_calls"))) == [
        (f"id{i}", f"f{i}", text or "{}") for i, text in enumerate(arguments)
    ]
