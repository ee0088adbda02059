"""Reasoning and tool calls on their way through a real engine: a model that says what the test has written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from millrace import LocalModel, Message, Pipeline
from millrace.modules.local import Engine, Request, Sampling
from millrace.streaming import ModelError, ReasoningDelta, TextDelta, ToolCall, ToolCallDelta
from tests.support.gated import tiny_model, tiny_tokenizer

pytestmark = pytest.mark.anyio
GREEDY = Sampling(temperature=0.0, max_tokens=200)
LOOK = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
TEMPLATE = (
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}"
    "{% endfor %}<|assistant|>{# <think> <tool_call> #}"
)


def saying(answer: str, special: bool = False, template: str = TEMPLATE) -> Engine:
    """An engine whose model answers every prompt with `answer`, and then ends."""

    armed: list[bool] = []

    def load() -> tuple[Any, Any]:
        from copy import deepcopy

        import torch

        tokenizer = deepcopy(tiny_tokenizer())
        tokenizer.add_tokens(["<think>", "</think>", "<tool_call>", "</tool_call>"], special_tokens=special)
        tokenizer.chat_template = template
        said = [*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        model = tiny_model()
        model.resize_token_embeddings(len(tokenizer))
        forward = model.forward
        starts: dict[str, int] = {}

        def scripted(
            input_ids: Any = None, position_ids: Any = None, paged: Any = None, **options: Any
        ) -> Any:
            found = forward(input_ids=input_ids, position_ids=position_ids, paged=paged, **options)
            if armed and found.logits.shape[1] == 1:
                at = int(position_ids[0, -1])
                if position_ids.shape[1] > 1:
                    starts["prompt"] = at
                place = at - starts.get("prompt", at)
                found.logits = torch.full_like(found.logits, -100.0)
                found.logits[0, 0, said[min(place, len(said) - 1)]] = 100.0
            return found

        model.forward = scripted
        return model, tokenizer

    def arm(fraction: float, stage: str) -> None:
        if stage == "ready":
            armed.append(True)

    return Engine(load, progress=arm)


@pytest.mark.parametrize("special", [False, True])
async def test_reasoning_and_calls_are_told_apart(special: bool) -> None:
    answer = '<think>the mill</think>bread <tool_call>{"name": "look", "arguments": {"at": 1}}</tool_call>'
    engine = saying(answer, special)
    await engine.ready()
    done = await engine.submit(
        Request(messages=[Message.user("corn")], sampling=GREEDY, tools=[LOOK])
    ).result()
    assert (done.text, done.reasoning, done.finish_reason) == ("bread ", "the mill", "tool_calls")
    assert [(call.name, json.loads(call.arguments)) for call in done.tool_calls] == [("look", {"at": 1})]
    engine.close()


async def test_they_are_events_of_a_flow() -> None:
    answer = '<think>the mill</think>bread <tool_call>{"name": "look", "arguments": {}}</tool_call>'
    model = LocalModel(saying(answer), sampling=GREEDY, tools=[LOOK])
    events = [event async for event in Pipeline(model).stream("corn")]
    assert "".join(event.text for event in events if isinstance(event, ReasoningDelta)) == "the mill"
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "bread "
    (delta,) = [event for event in events if isinstance(event, ToolCallDelta)]
    (call,) = [event for event in events if isinstance(event, ToolCall)]
    assert (delta.index, delta.id, call.name, call.arguments) == (0, call.id, "look", "{}")
    assert (events[-1].status, events[-1].reason, events[-1].result) == ("done", "tool_calls", "bread ")
    await model.engine.aclose()


async def test_without_tools_their_tags_are_text() -> None:
    engine = saying("<tool_call>no</tool_call>")
    await engine.ready()
    done = await engine.submit(Request(messages=[Message.user("corn")], sampling=GREEDY)).result()
    assert (done.text, done.finish_reason) == ("<tool_call>no</tool_call>", "stop")
    engine.close()


async def test_a_raw_prompt_has_no_parts() -> None:
    engine = saying("<think>the mill</think>bread")
    await engine.ready()
    done = await engine.submit(Request(prompt="corn", sampling=GREEDY)).result()
    assert done.text == "<think>the mill</think>bread"
    engine.close()


async def test_a_template_may_open_the_reasoning() -> None:
    engine = saying("the mill</think>bread", template=TEMPLATE + "<think>\n")
    await engine.ready()
    done = await engine.submit(Request(messages=[Message.user("corn")], sampling=GREEDY)).result()
    assert (done.text, done.reasoning) == ("bread", "the mill")
    engine.close()


async def test_an_answer_that_ends_in_the_middle() -> None:
    engine = saying("<think>the mill</think>bread")
    await engine.ready()
    done = await engine.submit(
        Request(messages=[Message.user("corn")], sampling=GREEDY.replace(max_tokens=2))
    ).result()
    assert (done.text, done.finish_reason) == ("", "length")
    assert "the mill".startswith(done.reasoning)
    assert done.reasoning
    engine.close()


async def test_tools_that_the_template_does_not_know_are_refused() -> None:
    engine = saying("bread", template="{{ messages[0]['content'] }}")
    with pytest.raises(ModelError, match="knows no tools"):
        await engine.submit(Request(messages=[Message.user("corn")], tools=[LOOK])).result()
    engine.close()
    with pytest.raises(ValueError, match="tools go with messages"):
        Request(prompt="corn", tools=[LOOK])


async def test_nothing_but_a_call_is_the_empty_text() -> None:
    model = LocalModel(
        saying('<tool_call>{"name": "look", "arguments": {}}</tool_call>'), sampling=GREEDY, tools=[LOOK]
    )
    assert await Pipeline(model).acall("corn") == ""
    await model.engine.aclose()
