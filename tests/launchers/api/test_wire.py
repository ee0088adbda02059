"""Hand-written JSON is JSON, whatever the text."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from millrace.launchers.api.wire import DONE, Frames, choice, completion, finish_reason
from millrace.streaming import TokenUsage

RUN = "0123456789abcdef" * 2
ANY = st.text(st.characters(exclude_categories=()))
USAGE = st.builds(TokenUsage, st.integers(0, 10**9), st.integers(0, 10**9))


def data_of(frame: str) -> Any:
    assert frame.startswith("data: ")
    assert frame.endswith("}\n\n")
    assert "\n" not in frame[:-2]
    assert frame.isascii()
    return json.loads(frame[6:])


@given(ANY, ANY, st.booleans(), USAGE)
def test_frames(text: str, model: str, with_usage: bool, usage: TokenUsage) -> None:
    frames = Frames(RUN, model, 5, with_usage)
    chunks = [data_of(f) for f in (frames.role(), frames.content(text), frames.finish("length"))]
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant", "content": "", "refusal": None},
        {"content": text},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, "length"]
    for chunk in chunks:
        assert (chunk["id"], chunk["model"], chunk["created"]) == (f"chatcmpl-{RUN}", model, 5)
        assert ("usage" in chunk) == with_usage
        ChatCompletionChunk.model_validate(chunk, strict=True)
    last = data_of(frames.usage(usage))
    assert last["choices"] == []
    assert CompletionUsage(**last["usage"]).total_tokens == usage.prompt_tokens + usage.completion_tokens


@given(ANY, ANY, USAGE)
def test_a_whole_answer(text: str, model: str, usage: TokenUsage) -> None:
    call = {"id": "1", "type": "function", "function": {"name": text or "f", "arguments": "{}"}}
    likely = {"token": text, "bytes": None, "logprob": -0.5, "top_logprobs": []}
    choices = [
        choice(0, text, "stop"),
        choice(1, None, "tool_calls", {"tool_calls": [call]}),
        choice(2, text, "length", None, [likely]),
    ]
    answer = json.loads(completion(RUN, model, 5, choices, usage))
    assert [each["message"]["content"] for each in answer["choices"]] == [text, None, text]
    assert answer["choices"][1]["message"]["tool_calls"] == [call]
    assert answer["choices"][2]["logprobs"] == {"content": [likely], "refusal": None}
    assert answer["model"] == model
    ChatCompletion.model_validate(answer, strict=True)


def test_reasons() -> None:
    told = {reason: finish_reason(reason) for reason in (None, "stop", "length", "tool_calls", "eos", "x")}
    assert told == {
        None: "stop",
        "stop": "stop",
        "length": "length",
        "tool_calls": "tool_calls",
        "eos": "stop",
        "x": "stop",
    }


def test_the_end_of_a_stream() -> None:
    assert DONE == "data: [DONE]\n\n"
