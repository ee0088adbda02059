"""Messages: what they may say, and how they are told to others."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace import Message
from millrace.streaming import ToolCall
from millrace.streaming.messages import FunctionCall

LOOK = FunctionCall("call_1", "look", '{"at": 1}')
TEXT = st.text(max_size=20)
CALLS = st.lists(st.builds(FunctionCall, TEXT, TEXT, TEXT), max_size=3)
MESSAGES = st.one_of(
    st.builds(Message.system, TEXT),
    st.builds(Message.user, TEXT),
    st.builds(lambda content, calls: Message.assistant(content, tool_calls=calls), TEXT, CALLS),
    st.builds(lambda content, key: Message.tool(content, tool_call_id=key), TEXT, st.none() | TEXT),
)


@given(MESSAGES)
def test_out_of_json_comes_what_went_in(message: Message) -> None:
    told = json.loads(json.dumps(message.as_dict()))
    assert Message.from_dict(told) == message


def test_without_calls_it_is_role_and_content_alone() -> None:
    assert Message.assistant("Hi", status="cancelled").as_dict() == {"role": "assistant", "content": "Hi"}
    assert Message.tool("found").as_dict() == {"role": "tool", "content": "found"}


def test_calls_are_told_as_openai_does() -> None:
    assert Message.assistant(tool_calls=[LOOK]).as_dict() == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}
        ],
    }
    assert Message.assistant("I look.", tool_calls=[LOOK]).as_dict()["content"] == "I look."
    assert Message.tool("found", tool_call_id="call_1").as_dict()["tool_call_id"] == "call_1"


def test_events_are_taken_for_calls() -> None:
    message = Message.assistant(tool_calls=[ToolCall("call_1", "look", '{"at": 1}')])
    assert message.tool_calls == (LOOK,)
    assert message == Message("assistant", "", {}, (LOOK,))
    assert hash(message.tool_calls[0]) == hash(LOOK)


@pytest.mark.parametrize(
    ("made", "error", "told"),
    [
        (lambda: Message("robot", "Hi"), ValueError, "role is one of"),
        (lambda: Message.user(5), TypeError, "content is text, not int"),
        (lambda: Message("user", "Hi", {}, (LOOK,)), ValueError, "tool_calls are of assistant messages"),
        (lambda: Message("user", "Hi", tool_call_id="a"), ValueError, "tool_call_id is of tool messages"),
        (lambda: Message.tool("x", tool_call_id=5), TypeError, "tool_call_id is text, not int"),
        (lambda: Message.assistant(tool_calls=[{"id": "a"}]), TypeError, r"FunctionCall\(id, name, arg"),
        (lambda: Message.assistant(tool_calls=[FunctionCall("a", "b", {})]), TypeError, "all of them text"),
    ],
)
def test_what_is_none(made: Any, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        made()


@pytest.mark.parametrize("told", [{}, {"role": "user"}, {"role": "user", "content": None}, {"content": "x"}])
def test_json_that_is_none(told: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Message.from_dict(told)
