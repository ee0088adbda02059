"""Which flows take the whole conversation, which begin with a model, and what gives their answer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from millrace import (
    Diverter,
    Graph,
    If,
    LocalEmbedding,
    LocalModel,
    Loop,
    Message,
    Module,
    Parallel,
    Pipeline,
    RemoteEmbedding,
    RemoteModel,
    Switch,
    Warp,
    bind,
    step,
)
from millrace.launchers import demo
from millrace.launchers.abilities import Abilities
from millrace.launchers.inputs import (
    answering_flow,
    answering_models,
    begins_with_model,
    gives_embeddings,
    takes_messages,
)
from millrace.streaming import FlowBuildError
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


A, B = LocalModel("a", name="a"), RemoteModel("http://localhost/v1", "b", name="b")


def bound() -> Any:
    with Pipeline() as flow:
        flow.question = str.strip
        flow.answer = bind(A, flow.question)
    return flow


def is_short(text: str) -> bool: ...


class TestAnsweringModels:
    @pytest.mark.parametrize(
        ("flow", "models"),
        [
            (A, [A]),
            (step(A, retry=3, timeout=5, name="whole"), [A]),
            (step(A, fallback=B), [A, B]),
            (step(A, fallback=str.upper), [A]),
            (Pipeline(echo, A), [A]),
            (Pipeline(A, B), [B]),
            (Pipeline(A, echo), []),
            (Pipeline(Pipeline(echo, A, name="inner")), [A]),
            (step(Pipeline(echo, A), cache=True), [A]),
            (bound(), [A]),
            (Switch({is_short: A, "faq": echo}, default=Pipeline(echo, B)), [A, B]),
            (Switch({is_short: A}, key=str.strip), [A]),
            (If(is_short, A), [A]),
            (If(is_short, echo, B), [B]),
            (Loop(Pipeline(echo, A), count=3), [A]),
            (Graph({"a": A, "b": B}, edges=[("input", "a"), ("a", "b"), ("b", "output")]), [B]),
            (Graph({"a": A, "b": B}, edges=[("input", "a"), ("input", "b"), (("a", "b"), "output")]), []),
            (Parallel(A, B), []),
            (Parallel(echo, echo, collect="".join, post=A), [A]),
            (Diverter(A, B), []),
            (Warp(A), []),
            (step(A, show="trace"), []),
            (step(A, show="output"), [A]),
            (Pipeline(), []),
            (echo, []),
        ],
    )
    def test_those_that_may_give_the_answer(self, flow: Any, models: list[Any]) -> None:
        found = answering_models(step(flow))
        assert [model.name for model in found] == [model.name for model in models]

    def test_of_the_demo(self) -> None:
        assert [model.name for model in answering_models(demo.flow)] == ["demo model"]


@pytest.mark.parametrize(
    ("flow", "begins"),
    [
        (A, True),
        (step(A, retry=2, cache=True), True),
        (Pipeline(A, echo), True),
        (Pipeline(Pipeline(B)), True),
        (Loop(A, count=2), True),
        (Pipeline(Loop(Pipeline(A, echo), count=2), echo), True),
        (Pipeline(echo, A), False),
        (If(is_short, A), False),
        (Parallel(A, B), False),
        (bind(A, "always the same"), False),
        (Pipeline(), False),
        (echo, False),
    ],
)
def test_which_begin_with_a_model(flow: Any, begins: bool) -> None:
    assert begins_with_model(step(flow)) is begins


VECTORS, OTHERS = LocalEmbedding("a"), RemoteEmbedding("http://localhost/v1", "b")


@pytest.mark.parametrize(
    ("flow", "gives"),
    [
        (VECTORS, True),
        (step(OTHERS, timeout=3), True),
        (Pipeline(str.strip, VECTORS), True),
        (If(is_short, VECTORS, OTHERS), True),
        (step(VECTORS, fallback=OTHERS), True),
        (If(is_short, VECTORS), False),
        (Pipeline(VECTORS, len), False),
        (Warp(VECTORS), False),
        (A, False),
        (Pipeline(), False),
    ],
)
def test_which_give_embeddings(flow: Any, gives: bool) -> None:
    assert gives_embeddings(step(flow)) is gives


class TestAbilities:
    def test_a_model_alone_can_do_everything(self) -> None:
        able = Abilities.of(A)
        assert (able.tools, able.logprobs, able.demands, able.results) == (True, True, True, True)

    def test_where_a_model_does_not_always_answer_nothing_can_be_demanded(self) -> None:
        able = Abilities.of(demo.flow)
        assert (able.tools, able.logprobs, able.demands, able.results) == (True, True, False, False)
        assert able.lack == "not every way through this flow ends in a model"

    def test_without_a_model_there_is_text(self) -> None:
        assert Abilities.of(step(echo)) == Abilities()
        assert Abilities().lack == "this flow ends in no model"
        assert Abilities.of(step(of_list)).results


def of_two(left: str, right: str) -> str: ...


def of_none() -> str: ...


def of_one_and_more(text: str, more: int = 0, *rest: int, **names: int) -> str: ...


@pytest.mark.parametrize(
    "flow", [of_two, Pipeline(of_two, echo), lambda left, right: left, step(of_two, retry=2)]
)
def test_what_takes_several_values_answers_no_request(flow: Any) -> None:
    with pytest.raises(FlowBuildError, match=r"is given 1 value, and .* takes 2"):
        answering_flow(flow)


def test_what_takes_none_answers_no_request() -> None:
    with pytest.raises(FlowBuildError, match="of_none takes no value"):
        answering_flow(of_none)


@pytest.mark.parametrize(
    "flow",
    [
        echo,
        of_one_and_more,
        bind(of_two, right="x"),
        Pipeline(Parallel(echo, words), of_two),
        Diverter(echo, words),
        Warp(echo),
        lambda *values: values,
    ],
)
def test_what_takes_one_value_does(flow: Any) -> None:
    answering_flow(flow)
