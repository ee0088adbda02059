"""Bodies of chat requests, and the short ways to have them parsed or refused."""

from __future__ import annotations

from typing import Any

import pytest

from millrace.launchers.abilities import Abilities
from millrace.launchers.api.chat_requests import ChatRequest
from millrace.launchers.api.refusals import Refusal

__all__ = ["ABLE", "CALL", "NAMED", "TOOL", "USER", "deep", "parsed", "refused"]

USER = {"role": "user", "content": "Hi"}
ABLE = Abilities(tools=True, logprobs=True, demands=True, results=True, settings=True)
"""A flow that ends, and begins, with a model."""
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
CALL = {"id": "a", "type": "function", "function": {"name": "look", "arguments": "{}"}}
NAMED = {"type": "function", "function": {"name": "look"}}


def parsed(able: Abilities = ABLE, **body: Any) -> ChatRequest:
    return ChatRequest.parse({"messages": [USER], **body}, 600, able)


def refused(able: Abilities | None = None, **body: Any) -> Refusal:
    with pytest.raises(Refusal) as refusal:
        ChatRequest.parse(body, 600, able)
    assert refusal.value.status == 400
    return refusal.value


def deep(levels: int) -> Any:
    """An object of so many levels."""
    found: Any = {}
    for _ in range(levels - 1):
        found = {"a": found}
    return found
