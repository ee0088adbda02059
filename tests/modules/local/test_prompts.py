from __future__ import annotations

from typing import Any

import pytest

from millrace.modules.local import Request, Sampling
from millrace.modules.local.prompts import PromptBuilder, turns_of
from millrace.streaming.errors import ContextLengthExceeded, ModelError, RequestRefused
from millrace.streaming.messages import FunctionCall, Message
from tests.support.gated import tiny_tokenizer

PICKY = "{% if messages[0]['role'] != 'user' %}{{ raise_exception('begin with a user') }}{% endif %}x"


def builder(context: int = 200, pool: int = 10_000, template: str | None = None) -> PromptBuilder:
    return PromptBuilder(tiny_tokenizer(), "tiny", context, pool, len(tiny_tokenizer()), template)


def text_of(token_ids: list[int]) -> str:
    return str(tiny_tokenizer().decode(token_ids))


def test_messages_go_through_the_template_with_the_answer_to_come() -> None:
    messages = [
        Message.system("Be brief."),
        Message.user("Hi"),
        Message.assistant("Yes?"),
        Message.user("Go"),
    ]
    prompt = builder().build(Request(messages=messages))
    assert (
        text_of(prompt.token_ids) == "<|system|>Be brief.<|user|>Hi<|assistant|>Yes?<|user|>Go<|assistant|>"
    )
    assert prompt.max_tokens == 200 - len(prompt.token_ids)


def test_marks_are_not_shown_to_the_model() -> None:
    marked = builder().build(Request(messages=[Message.assistant("So", status="cancelled")]))
    assert marked == builder().build(Request(messages=[Message.assistant("So")]))


class TestCalls:
    CALLS = (
        Message.user("Hi"),
        Message.assistant("I look.", tool_calls=[FunctionCall("call_123456789", "look", '{"at": 1}')]),
        Message.tool("found", tool_call_id="call_123456789"),
    )

    def turns(self, template: str = "", *messages: Message) -> list[dict[str, Any]]:
        return list(turns_of(messages or self.CALLS, template))

    def test_templates_get_objects_and_names(self) -> None:
        user, assistant, tool = self.turns()
        assert user == {"role": "user", "content": "Hi"}
        (call,) = assistant["tool_calls"]
        assert call["function"] == {"name": "look", "arguments": {"at": 1}}
        assert tool == {
            "role": "tool",
            "content": "found",
            "tool_call_id": "call_123456789",
            "name": "look",
        }
        template = (
            "{% for m in messages %}{% for c in m.tool_calls or [] %}{{ c.function.arguments.at + 1 }}"
            "{% endfor %}{{ m.content }}{% endfor %}"
        )
        prompt = builder(template=template).build(Request(messages=self.CALLS))
        assert text_of(prompt.token_ids) == "Hi2I look.found"

    @pytest.mark.parametrize("arguments", ["no json", "[1]", "7", "[" * 100_000])
    def test_arguments_that_are_no_object_stay_as_they_are(self, arguments: str) -> None:
        (turn,) = self.turns("", Message.assistant(tool_calls=[FunctionCall("a", "look", arguments)]))
        assert turn["tool_calls"][0]["function"]["arguments"] == arguments
        assert turn["content"] == ""

    def test_no_arguments_are_an_empty_object(self) -> None:
        (turn,) = self.turns("", Message.assistant(tool_calls=[FunctionCall("a", "look", "")]))
        assert turn["tool_calls"][0]["function"]["arguments"] == {}

    def test_a_result_of_a_call_that_nobody_knows(self) -> None:
        (turn,) = self.turns("", Message.tool("found", tool_call_id="a"))
        assert turn == {"role": "tool", "content": "found", "tool_call_id": "a"}

    def test_ids_of_nine_letters_where_a_template_takes_no_others(self) -> None:
        template = "{% if id|length != 9 %}{{ raise_exception('nine!') }}{% endif %}"
        _, assistant, tool = self.turns(template)
        key = assistant["tool_calls"][0]["id"]
        assert key == tool["tool_call_id"]
        assert len(key) == 9
        assert key.isalnum()
        assert tool["name"] == "look"
        (kept,) = self.turns(template, Message.tool("found", tool_call_id="abcdefgh1"))
        assert kept["tool_call_id"] == "abcdefgh1"


def test_a_template_of_the_callers_goes_first() -> None:
    prompt = builder(template="{{ messages[0]['content'] }}!").build(Request(messages=[Message.user("Hi")]))
    assert text_of(prompt.token_ids) == "Hi!"


def test_raw_prompts_and_tokens_are_taken_as_they_are() -> None:
    prompt = builder().build(Request(prompt="the mill"))
    assert text_of(prompt.token_ids) == "the mill"
    again = builder().build(Request(token_ids=prompt.token_ids, sampling=Sampling(max_tokens=3)))
    assert (again.token_ids, again.max_tokens) == (prompt.token_ids, 3)


def test_without_a_template_messages_are_refused_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny_tokenizer(), "chat_template", None)
    with pytest.raises(ModelError, match=r"tiny has no chat template.*chat_template="):
        builder().build(Request(messages=[Message.user("Hi")]))
    assert builder().build(Request(prompt="raw")).token_ids


def test_what_a_template_refuses_is_told() -> None:
    with pytest.raises(RequestRefused, match=r"chat template of tiny refused.*begin with a user") as refused:
        builder(template=PICKY).build(Request(messages=[Message.system("x")]))
    assert refused.value.setting == "messages"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"token_ids": [512]}, r"token_ids has the token id 512; tiny has those from 0 to"),
        ({"token_ids": [-1]}, r"token id -1"),
        ({"prompt": "x", "sampling": Sampling(logit_bias={9999: 1.0})}, r"logit_bias has the token id 9999"),
    ],
)
def test_tokens_that_there_are_not(given: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestRefused, match=message) as refused:
        builder().build(Request(**given))
    assert message.startswith(("token id", refused.value.setting))


def test_a_template_without_text_is_told() -> None:
    with pytest.raises(ValueError, match="the prompt has no tokens"):
        builder(template="{# nothing #}").build(Request(messages=[Message.user("Hi")]))


@pytest.mark.parametrize(
    ("context", "pool", "max_tokens", "message"),
    [
        (100, 1000, 51, r"50 tokens and max_tokens=51 make 101, more than the context of 100 tokens"),
        (100, 64, 20, r"make 70, more than the KV pool of 64 tokens.*KV\(fraction="),
        (50, 1000, None, r"at least 1 token of answer make 51"),
    ],
)
def test_what_does_not_fit_is_refused_with_both_numbers(
    context: int, pool: int, max_tokens: int | None, message: str
) -> None:
    request = Request(token_ids=[7] * 50, sampling=Sampling(max_tokens=max_tokens))
    with pytest.raises(ContextLengthExceeded, match=message):
        builder(context, pool).build(request)


class TestShortening:
    """Histories lose their oldest turns, in whole, and only as many as must be."""

    HISTORY = (
        Message.system("Be brief."),
        Message.user("one " * 10),
        Message.assistant("first " * 10),
        Message.user("two " * 10),
        Message.tool("tool " * 10),
        Message.assistant("second " * 10),
        Message.user("now"),
    )

    def build(self, context: int, drop_oldest: int = 5, max_tokens: int = 10) -> tuple[str, int]:
        request = Request(
            messages=self.HISTORY, sampling=Sampling(max_tokens=max_tokens), drop_oldest=drop_oldest
        )
        prompt = builder(context).build(request)
        assert len(prompt.token_ids) + max_tokens <= context
        return text_of(prompt.token_ids), prompt.dropped

    def length(self, *kept: Message) -> int:
        return len(builder(9999).build(Request(messages=kept)).token_ids)

    def test_nothing_while_all_fits(self) -> None:
        _, dropped = self.build(self.length(*self.HISTORY) + 10)
        assert dropped == 0

    def test_the_oldest_turn_first(self) -> None:
        text, dropped = self.build(self.length(*self.HISTORY) + 9)
        assert dropped == 2
        assert text.startswith("<|system|>Be brief.<|user|>two")

    def test_a_turn_goes_in_whole(self) -> None:
        text, dropped = self.build(self.length(self.HISTORY[0], *self.HISTORY[3:]) + 9)
        assert dropped == 5, "the question, the tool's result and the answer belong together"
        assert text == "<|system|>Be brief.<|user|>now<|assistant|>"

    def test_no_more_than_allowed(self) -> None:
        with pytest.raises(ContextLengthExceeded):
            self.build(self.length(self.HISTORY[0], *self.HISTORY[3:]) + 9, drop_oldest=3)
        with pytest.raises(ContextLengthExceeded):
            self.build(self.length(*self.HISTORY) + 9, drop_oldest=0)

    def test_the_question_always_stays(self) -> None:
        with pytest.raises(ContextLengthExceeded):
            self.build(12, drop_oldest=100)

    def test_without_max_tokens_a_quarter_of_the_context_is_left(self) -> None:
        whole = self.length(*self.HISTORY)
        request = Request(messages=self.HISTORY, drop_oldest=5)
        assert builder(whole * 4 // 3 + 2).build(request).dropped == 0
        assert builder(whole + 5).build(request).dropped == 2
