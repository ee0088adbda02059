"""Which flows take the whole conversation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from millrace import LocalModel, Message, Module, Pipeline, step
from millrace.launchers.inputs import takes_messages
from tests.launchers.support import echo, words

if TYPE_CHECKING:
    from millrace import Message as OnlyForCheckers


def of_list(messages: list[Message]) -> str: ...


def of_sequence(messages: Sequence[Message], more: int = 0) -> str: ...


def of_something_else(messages: list[str]) -> str: ...


def of_either(messages: str | list[Message]) -> str: ...


def unresolved(messages: list[OnlyForCheckers]) -> str: ...


class Callable:
    def __call__(self, messages: list[Message]) -> str: ...


class Taking(Module[Any, str]):
    async def __call__(self, messages: list[Message]) -> str: ...


@pytest.mark.parametrize(
    "flow",
    [
        step(of_list),
        step(of_list, retry=3, timeout=9),
        step(Pipeline(step(Taking(), cache=True), str.upper), name="whole", concurrency=2),
        step(of_sequence),
        step(partial(of_sequence, more=1)),
        step(Callable()),
        Taking(),
        Pipeline(of_list, echo),
        Pipeline(Pipeline(of_list, name="inner"), echo),
    ],
)
def test_these_do(flow: Any) -> None:
    assert takes_messages(flow)


@pytest.mark.parametrize(
    "flow",
    [
        step(of_something_else),
        step(of_either),
        step(unresolved),
        step(echo),
        step(words),
        step(len),
        step(lambda x: x),
        Pipeline(lambda text: [Message.user(text)], of_list),
        Pipeline(),
        LocalModel("nowhere"),
    ],
)
def test_these_do_not(flow: Any) -> None:
    assert not takes_messages(flow)
