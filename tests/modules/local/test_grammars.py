"""Calls that are demanded or strict: made by a model that would say anything, and always as their schema says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import jsonschema
import pytest

from millrace import Message
from millrace.modules.local import Completion, Engine, Request, Sampling
from millrace.streaming import RequestRefused, ToolCall, ToolCallDelta
from tests.support.gated import tiny_model, tiny_tokenizer

pytestmark = pytest.mark.anyio

TEMPLATE = (
    "{% if tools %}with {{ tools | length }}{% endif %}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}"
    "{% endfor %}<|assistant|>"
)
FORMS = {"hermes": "<tool_call> </tool_call>", "mistral": "[TOOL_CALLS]", "llama": "<|python_tag|>"}
KINDS = ("token", "special token", "text")
"""What a tag is to the tokenizer."""


def tool(name: str, parameters: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    function = {"name": name, **({} if parameters is None else {"parameters": parameters}), **more}
    return {"type": "function", "function": function}


LOOK_AT = {
    "type": "object",
    "properties": {"at": {"type": "integer", "minimum": 0, "maximum": 9}, "where": {"$ref": "#/$defs/Place"}},
    "required": ["at", "where"],
    "additionalProperties": False,
    "$defs": {"Place": {"enum": ["here", "there"]}},
}
REST = {"type": "object", "properties": {}, "additionalProperties": False}
TOOLS = [tool("look", LOOK_AT), tool("rest", REST)]
SCHEMAS = {"look": LOOK_AT, "rest": REST}


def engine_with(tags: str, kind: str) -> Engine:
    def load() -> tuple[Any, Any]:
        tokenizer, model = deepcopy(tiny_tokenizer()), tiny_model()
        if kind != "text":
            tokenizer.add_tokens(tags.split(), special_tokens=kind == "special token")
            model.resize_token_embeddings(len(tokenizer))
        tokenizer.chat_template = TEMPLATE + "{# " + tags + " #}"
        return model, tokenizer

    return Engine(load)


TRIED = [*(("hermes", kind) for kind in KINDS), ("mistral", "special token"), ("llama", "text")]


@pytest.fixture(scope="module", params=TRIED, ids=" as ".join)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    form, kind = request.param
    engine = engine_with(FORMS[form], kind)
    engine.wait_ready(60)
    yield engine
    engine.close()


async def ask(engine: Engine, tools: Any = TOOLS, choice: Any = None, **sampling: Any) -> Completion:
    settings = Sampling(**{"max_tokens": 300, **sampling})
    asked = Request(messages=[Message.user("corn")], sampling=settings, tools=tools, tool_choice=choice)
    return await engine.submit(asked).result()


def calls_of(done: Completion) -> list[tuple[str, Any]]:
    found = [(call.name, json.loads(call.arguments)) for call in done.tool_calls]
    for name, arguments in found:
        jsonschema.validate(arguments, SCHEMAS[name])
    return found


async def test_a_demanded_call_is_made(engine: Engine) -> None:
    called = 0
    for seed in range(4):
        done = await ask(engine, choice="required", seed=seed, max_tokens=120)
        if done.finish_reason == "tool_calls":
            assert done.text == ""
            called += len(calls_of(done))
        else:  # a list that went on and on
            assert done.finish_reason == "length"
    assert called


async def test_a_function_that_is_named_is_called_once(engine: Engine) -> None:
    for name in ("look", "rest"):
        choice = {"type": "function", "function": {"name": name}}
        done = await ask(engine, choice=choice, temperature=0.0)
        assert (done.finish_reason, done.text) == ("tool_calls", "")
        assert [called for called, _ in calls_of(done)] == [name]


async def test_a_model_held_to_a_schema_may_call_instead(engine: Engine) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
    schema["additionalProperties"] = False
    answered = called = 0
    for seed in range(4):
        done = await ask(engine, json_schema=schema, seed=seed, max_tokens=80)
        if done.finish_reason == "tool_calls":
            called += len(calls_of(done))
        elif done.finish_reason == "stop":
            answered += 1
            assert set(json.loads(done.text)) == {"a"}
    assert answered or called


@pytest.mark.parametrize("kind", KINDS)
async def test_strict_calls_fit_their_schema_among_free_text(kind: str) -> None:
    """The model wants to begin a call all the time; what it then says is held to the schema."""
    engine = engine_with(FORMS["hermes"], kind)
    await engine.ready()
    prefer = {} if kind == "text" else {len(tiny_tokenizer()): 30.0}
    strict = [tool("look", LOOK_AT, strict=True), tool("rest", REST)]
    done = await ask(engine, strict, seed=1, logit_bias=prefer, max_tokens=150)
    assert all(set(arguments) == {"at", "where"} or not arguments for _, arguments in calls_of(done))
    assert (len(done.tool_calls) > 1) == (kind != "text"), "as text the tag is only by chance"
    free = await ask(engine, TOOLS, seed=1, logit_bias=prefer, max_tokens=50)
    assert not free.tool_calls
    engine.close()


async def test_a_function_without_parameters_takes_any_object() -> None:
    engine = engine_with(FORMS["hermes"], "token")
    await engine.ready()
    done = await ask(engine, [tool("look")], "required", seed=1, max_tokens=150)
    assert done.finish_reason in ("tool_calls", "length")
    for call in done.tool_calls:
        assert isinstance(json.loads(call.arguments), dict)
    engine.close()


@pytest.mark.parametrize(
    ("tools", "choice", "told"),
    [
        ([tool("look", {"type": "nonsense"})], "required", "these tools cannot be held to"),
        ([tool("look", {"not": {}}, strict=True)], None, "these tools cannot be held to"),
    ],
)
async def test_schemas_that_cannot_be_held_to(tools: Any, choice: Any, told: str) -> None:
    engine = engine_with(FORMS["hermes"], "token")
    with pytest.raises(RequestRefused, match=told) as refused:
        await ask(engine, tools, choice)
    assert refused.value.setting == "tools"
    engine.close()


async def test_a_template_without_tags_makes_no_demanded_calls() -> None:
    engine = engine_with("", "text")
    with pytest.raises(RequestRefused, match="no call can be demanded") as refused:
        await ask(engine, choice="required")
    assert refused.value.setting == "tool_choice"
    assert (await ask(engine, max_tokens=3)).finish_reason in ("length", "stop")  # it is not demanded
    engine.close()


@pytest.mark.parametrize(
    "choice", ["maybe", "none", {"type": "function", "function": {"name": "fly"}}, {}, 5]
)
def test_what_is_no_choice(choice: Any) -> None:
    with pytest.raises(ValueError, match="tool_choice"):
        Request(messages=[Message.user("corn")], tools=TOOLS, tool_choice=choice)
    with pytest.raises(ValueError, match="tool_choice"):
        Request(messages=[Message.user("corn")], tool_choice="required")


async def test_calls_come_as_they_do_otherwise() -> None:
    engine = engine_with(FORMS["hermes"], "token")
    await engine.ready()
    choice = {"type": "function", "function": {"name": "rest"}}
    asked = Request(
        messages=[Message.user("corn")], tools=TOOLS, tool_choice=choice, sampling=Sampling(seed=1)
    )
    deltas = [delta async for delta in engine.submit(asked)]
    (piece, whole) = [call for delta in deltas for call in delta.tool_calls]
    assert isinstance(piece, ToolCallDelta)
    assert isinstance(whole, ToolCall)
    assert (piece.id, piece.name, piece.arguments) == (whole.id, "rest", "{}")
    engine.close()
