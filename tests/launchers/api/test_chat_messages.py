"""Messages of a chat request: each fault is named, and calls come with their results."""

from __future__ import annotations

from typing import Any

import pytest

from millrace import Message
from millrace.launchers.abilities import Abilities
from millrace.launchers.api.chat_requests import ChatRequest
from millrace.streaming.messages import FunctionCall
from tests.launchers.api.chat_bodies import CALL, USER, parsed, refused


def assistant(*calls: Any, **more: Any) -> list[Any]:
    return [{"role": "assistant", "content": None, "tool_calls": list(calls), **more}, USER]


def call(**changes: Any) -> dict[str, Any]:
    return {**CALL, **changes}


MESSAGES = [
    (None, "messages", "messages is missing"),
    ([], "messages", "empty"),
    ("Hi", "messages", "must be a list"),
    ({"role": "user"}, "messages", "must be a list"),
    (["Hi"], "messages[0]", "must be an object"),
    ([{"content": "Hi"}], "messages[0].role", "one of system, developer, user"),
    ([{"role": "robot", "content": "Hi"}], "messages[0].role", "one of system, developer, user"),
    ([{"role": ["user"], "content": "Hi"}], "messages[0].role", "one of"),
    ([{"role": "user"}], "messages[0].content", "must be text"),
    ([USER, {"role": "user", "content": 5}], "messages[1].content", "must be text"),
    ([USER, {"role": "assistant", "content": "Hi"}], "messages[1].role", "must be of role user or tool"),
    ([{"role": "system", "content": "Hi"}], "messages[0].role", "must be of role user or tool, not system"),
    ([{"role": "tool", "content": "Hi"}], "messages[0].role", "begins with no model that could take it"),
    ([{"role": "user", "content": "a\ud800"}], "messages[0].content", "half a surrogate pair at character 1"),
    ([{"role": "user", "content": ["Hi"]}], "messages[0].content[0]", "only parts of type text"),
    (
        [
            {
                "role": "user",
                "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}}],
            }
        ],
        "messages[0].content[1]",
        "is image_url, and only parts of type text",
    ),
    ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text", "must be text"),
    (
        [{"role": "assistant", "content": "x", "function_call": {"name": "f"}}, USER],
        "messages[0].function_call",
        "not supported",
    ),
    ([{"role": "assistant", "content": None}, USER], "messages[0].content", "must be text"),
    (assistant(5), "messages[0].tool_calls[0]", "must be an object with id, type and function"),
    (
        [{"role": "assistant", "content": None, "tool_calls": {}}, USER],
        "messages[0].tool_calls",
        "must be a list",
    ),
    ([{**USER, "tool_calls": [CALL]}], "messages[0].tool_calls", "belongs to messages of role assistant"),
    (assistant(CALL, call(id=5)), "messages[0].tool_calls[1].id", "must be text"),
    (assistant(call(type="custom")), "messages[0].tool_calls[0].type", "must be function"),
    (assistant(call(function=None)), "messages[0].tool_calls[0].function", "must be an object"),
    (assistant(call(function={"name": "f"})), "messages[0].tool_calls[0].function.arguments", "must be text"),
    (
        assistant(call(function={"name": "f\ud800", "arguments": ""})),
        "messages[0].tool_calls[0].function.name",
        "half a surrogate pair",
    ),
    ([{**USER, "prefix": True}], "messages[0].prefix", "is not supported here; leave it out"),
    (
        [{"role": "user", "content": [{"type": "text", "text": "a", "weight": 2}]}],
        "messages[0].content[0].weight",
        "is not supported here",
    ),
    ([{**USER, "tool_call_id": "a"}], "messages[0].tool_call_id", "belongs to messages of role tool"),
    (
        [{"role": "tool", "content": "x", "tool_call_id": 5}, USER],
        "messages[0].tool_call_id",
        "must be text",
    ),
]


class TestMessages:
    @pytest.mark.parametrize(("messages", "param", "told"), MESSAGES)
    def test_faults_are_named(self, messages: Any, param: str, told: str) -> None:
        refusal = refused(messages=messages)
        assert refusal.param == param
        assert told in refusal.message

    def test_what_comes_back_from_clients_and_what_changes_nothing_is_taken(self) -> None:
        hint = {"type": "ephemeral"}
        given = {
            "refusal": None,
            "annotations": [],
            "reasoning_content": "hm",
            "function_call": None,
            "audio": None,
        }
        given |= {"parsed": {"a": 1}, "id": "m", "status": "completed", "type": "message"}
        parts = [{"type": "text", "text": "Hi", "cache_control": hint}]
        earlier = {"role": "assistant", "content": "Hello", **given}
        asked = {"role": "user", "content": parts, "name": "n", "cache_control": hint, "prefix": None}
        assert parsed(messages=[USER, earlier, asked]).messages == [
            Message.user("Hi"),
            Message.assistant("Hello"),
            Message.user("Hi"),
        ]

    def test_roles(self) -> None:
        roles = ["system", "developer", "assistant", "tool", "user"]
        request = ChatRequest.parse(
            {"messages": [{"role": role, "content": role, "name": "n"} for role in roles]}, 600
        )
        assert [message.role for message in request.messages] == [
            "system",
            "system",
            "assistant",
            "tool",
            "user",
        ]
        assert request.question == "user"

    def test_calls_and_their_results(self) -> None:
        result = {"role": "tool", "content": [{"type": "text", "text": "found"}], "tool_call_id": "a"}
        messages = [USER, *assistant(CALL)[:1], result]
        request = parsed(messages=messages)
        assert request.messages[1].tool_calls == (FunctionCall("a", "look", "{}"),)
        assert request.messages[1].content == ""
        assert request.question == Message.tool("found", tool_call_id="a") == request.messages[-1]
        assert parsed(messages=[*messages, USER], able=Abilities()).question == "Hi"
        assert parsed(messages=assistant(CALL, content="I look."), able=Abilities()).messages[0].content
        for none in (None, []):
            assert (
                not parsed(messages=[{"role": "assistant", "content": "x", "tool_calls": none}, USER]).n > 1
            )
