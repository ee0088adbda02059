"""What the tests of conformance share: what the engines are asked, and how their answers are read."""

from __future__ import annotations

from typing import Any

import pytest

from millrace import Message, Sampling
from millrace.modules.local import Delta, Request
from millrace.modules.protocols import ModelEngine, ModelGeneration
from tests.modules.subjects import SUBJECTS, Subject

__all__ = ["QUESTION", "TOKENS", "answers_again", "each", "question", "rest"]

QUESTION = [Message.user("the mill")]
TOKENS = 12


def each(*names: str) -> Any:
    """The subjects, those in processes of their own as slow tests."""
    return [
        pytest.param(name, marks=[] if name == "local" else pytest.mark.slow) for name in names or SUBJECTS
    ]


def question(messages: list[Message] = QUESTION, **settings: Any) -> Request:
    return Request(
        messages=messages, sampling=Sampling(**{"temperature": 0.0, "max_tokens": TOKENS, **settings})
    )


async def rest(generation: ModelGeneration) -> list[Delta]:
    """The remaining deltas; the last one and only the last one is terminal."""
    deltas = [delta async for delta in generation]
    assert [delta.finish_reason is not None for delta in deltas] == [False] * (len(deltas) - 1) + [True]
    assert deltas[-1].usage is not None
    assert (generation.status, generation.finish_reason) == ("finished", deltas[-1].finish_reason)
    assert generation.usage == deltas[-1].usage
    with pytest.raises(StopAsyncIteration):
        await anext(generation)
    return deltas


async def answers_again(subject: Subject, engine: ModelEngine, expected: str) -> None:
    """The next request gets the whole of its answer, and nothing else is computed."""
    subject.open_all()
    before = subject.left()
    assert (await engine.submit(question()).result()).text == expected
    assert subject.left() - before == TOKENS
