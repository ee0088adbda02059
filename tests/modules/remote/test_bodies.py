"""A request on the wire."""

from __future__ import annotations

from typing import Any

import pytest

from millrace import Message, Sampling
from millrace.modules.local import Request
from millrace.modules.remote.bodies import body_of, check_extra, endpoint_of
from millrace.streaming.messages import FunctionCall

HI = [Message.user("Hi")]
USAGE = {"stream": True, "stream_options": {"include_usage": True}}


def body(extra: dict[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    return body_of(Request(messages=HI, sampling=Sampling(**settings)), "tiny", extra or {})


def test_what_is_always_sent() -> None:
    assert body() == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "Hi"}],
        "temperature": 1.0,
        "top_p": 1.0,
        **USAGE,
    }


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"presence_penalty": 0.5}, {"presence_penalty": 0.5}),
        ({"frequency_penalty": -1}, {"frequency_penalty": -1}),
        ({"max_tokens": 5}, {"max_tokens": 5}),
        ({"seed": 0}, {"seed": 0}),
        ({"stop": "###"}, {"stop": ["###"]}),
        ({"logit_bias": {7: -100}}, {"logit_bias": {"7": -100}}),
        ({"top_k": 20}, {"top_k": 20}),
        ({"min_p": 0.1}, {"min_p": 0.1}),
        ({"repetition_penalty": 1.1}, {"repetition_penalty": 1.1}),
        ({"stop_token_ids": [2]}, {"stop_token_ids": [2]}),
        ({"logprobs": 0}, {"logprobs": True}),
        ({"logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
    ],
)
def test_what_is_sent_where_it_is_set(settings: dict[str, Any], field: dict[str, Any]) -> None:
    assert body(**settings) == {**body(), **field}


def test_tools_and_schemas_in_openais_form() -> None:
    tool = {"type": "function", "function": {"name": "search", "parameters": {"type": "object"}}}
    sent = body_of(Request(messages=HI, tools=[tool]), "tiny", {})
    assert sent["tools"] == [tool]
    assert "tool_choice" not in sent
    for choice in ("required", {"type": "function", "function": {"name": "search"}}):
        sent = body_of(Request(messages=HI, tools=[tool], tool_choice=choice), "tiny", {})
        assert sent["tool_choice"] == choice
    wanted = body(json_schema={"type": "object"})["response_format"]
    assert wanted["type"] == "json_schema"
    assert (wanted["json_schema"]["schema"], wanted["json_schema"]["strict"]) == ({"type": "object"}, True)


def test_a_conversation_with_calls_in_openais_form() -> None:
    call = FunctionCall("a", "search", '{"q": 1}')
    told = [*HI, Message.assistant(tool_calls=[call]), Message.tool("found", tool_call_id="a")]
    assert body_of(Request(messages=told), "tiny", {})["messages"][1:] == [
        {"role": "assistant", "content": None, "tool_calls": [call.as_dict()]},
        {"role": "tool", "content": "found", "tool_call_id": "a"},
    ]
    assert call.as_dict()["function"] == {"name": "search", "arguments": '{"q": 1}'}


def test_further_fields_come_last_and_none_leaves_one_out() -> None:
    assert body({"temperature": None, "tools": [1], "top_p": 0.5}) == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "Hi"}],
        "top_p": 0.5,
        "tools": [1],
        **USAGE,
    }


@pytest.mark.parametrize("name", ["messages", "prompt", "model", "stream"])
def test_what_the_request_has_is_no_further_field(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        check_extra({name: 1})


def test_raw_text_and_tokens_go_to_the_completions() -> None:
    text, tokens = Request(prompt="Once"), Request(token_ids=[1, 2], salt="abc")
    assert endpoint_of(text) == endpoint_of(tokens) == "/completions"
    assert endpoint_of(Request(messages=HI)) == "/chat/completions"
    assert body_of(text, "tiny", {})["prompt"] == "Once"
    sent = body_of(tokens, "tiny", {})
    assert (sent["prompt"], sent["cache_salt"]) == ([1, 2], "abc")
    assert "messages" not in sent


def test_what_no_server_can_be_told_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="chat_template"):
        body_of(Request(messages=HI, chat_template="{{ x }}"), "tiny", {})
    with pytest.raises(ValueError, match="logprobs"):
        body_of(Request(prompt="Hi", sampling=Sampling(logprobs=0)), "tiny", {})
    with pytest.raises(ValueError, match="regex"):
        body(regex="[0-9]+")
