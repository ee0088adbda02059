"""Requests: the parts that several endpoints take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...abilities import Abilities
from ..chat_messages import FIELDS, PART_FIELDS, ROLES
from ..chat_requests import LISTS, MOST_STOPS, SHORTEST_DEADLINE
from ..run_requests import BINDING, SETTINGS
from .answers import RUN_ID, TEXT, nullable, one_of
from .chat_forms import CALL_ID, CALLS
from .components import Components, Schema

__all__ = [
    "NO_CALLS",
    "body",
    "deadline",
    "harmless",
    "logit_bias",
    "message",
    "model_name",
    "neutral",
    "request_of",
    "run_id_header",
    "sampling",
    "stop",
    "stream_flag",
    "stream_options",
    "unbound",
    "unused",
]


def body(schema: Schema, examples: Mapping[str, tuple[str, Any]], required: bool = True) -> dict[str, Any]:
    """A JSON body, with examples by name, each with a word about it."""
    told = {name: {"summary": text, "value": value} for name, (text, value) in examples.items()}
    content = {"schema": schema, **({"examples": told} if told else {})}
    return {"required": required, "content": {"application/json": content}}


def request_of(needed: str, schema: Schema, longest: float, fields: Mapping[str, Schema]) -> Schema:
    """What a body must have, by its name, and what it may have: a deadline, and `fields`, each of which may be null."""
    return {
        "type": "object",
        "required": [needed],
        "additionalProperties": False,
        "properties": {
            needed: schema,
            "timeout": deadline(longest),
            **{name: nullable(schema) for name, schema in fields.items()},
        },
    }


def run_id_header() -> dict[str, Any]:
    """The header in which a client may choose a run's id."""
    return {
        "name": "x-run-id",
        "in": "header",
        "schema": RUN_ID,
        "description": "An id of your choice for the run: 128 random bits in hex. A request that is sent once more, "
        "since its answer was lost, is refused with 409, and /v1/runs/{run_id} tells what became of the first",
    }


def deadline(longest: float) -> Schema:
    """The field `timeout`; `longest` in seconds."""
    seconds = {"type": "number", "minimum": SHORTEST_DEADLINE, "maximum": longest, "default": longest}
    return nullable({**seconds, "description": "Deadline of the run in seconds, also while it waits in line"})


def model_name(model: str) -> Schema:
    """The field `model`."""
    return {**TEXT, "description": "As /v1/models lists it; may be left out", "examples": [model]}


def stream_flag() -> Schema:
    """The field `stream`."""
    return {"type": "boolean", "default": False, "description": "Answer in pieces, as they come"}


def stream_options(**flags: str) -> Schema:
    """The field `stream_options`; `flags` says what those do that change something."""
    names = (*flags, "include_obfuscation")
    words = [f" `{name}`: {text}" for name, text in flags.items()]
    return {
        "type": "object",
        "properties": {name: {"type": ["boolean", "null"]} for name in names},
        "additionalProperties": False,
        "description": "".join(["Only together with `stream: true`.", *words]),
    }


def harmless(names: Iterable[str]) -> dict[str, Schema]:
    """Fields that are accepted and unused."""
    return {name: {"description": "Accepted, and changes nothing"} for name in sorted(names)}


def neutral(values: tuple[Any, ...]) -> Schema:
    """A field that is not supported, with the values that ask for nothing."""
    return {"enum": list(values), "description": "Not supported: may have this value, or be left out"}


def message(components: Components) -> Schema:
    """One message of a conversation, by its role."""
    part = {
        "type": "object",
        "required": ["type", "text"],
        "additionalProperties": False,
        "properties": {**unused(PART_FIELDS), "type": one_of("text"), "text": TEXT},
    }
    content = {"anyOf": [TEXT, {"type": "array", "items": part}]}
    calls = {**CALLS, "minItems": 1}
    told = {"content": content, "tool_calls": NO_CALLS, "tool_call_id": {"type": "null"}}
    asking = {"content": nullable(content), "tool_calls": calls, "tool_call_id": {"type": "null"}}
    answering = {"content": content, "tool_calls": NO_CALLS, "tool_call_id": nullable(CALL_ID)}
    own = ("assistant", "tool")
    either = [
        _message([role for role in ROLES if role not in own], ["content"], told),
        _message(["assistant"], ["content"], told),
        _message(["assistant"], ["tool_calls"], asking),
        _message(["tool"], ["content"], answering),
    ]
    return components.name("ChatMessage", {"anyOf": either})


NO_CALLS: Schema = {"type": ["array", "null"], "maxItems": 0}


def _message(roles: list[str], required: list[str], fields: Mapping[str, Schema]) -> Schema:
    return {
        "type": "object",
        "required": ["role", *required],
        "additionalProperties": False,
        "properties": {**unused(FIELDS), "role": one_of(*roles), **fields},
    }


def unused(names: Iterable[str]) -> dict[str, Schema]:
    """The fields that a message or a part may have as well, as clients send them back or others know them."""
    return {name: {"type": "null"} if name in OLD else {} for name in sorted(names)}


OLD = ("audio", "function_call")


def stop(most: int | None = MOST_STOPS) -> Schema:
    """The field `stop`."""
    text = {**TEXT, "minLength": 1}
    several = {"type": "array", "items": text, **({} if most is None else {"maxItems": most})}
    words = "One text or several at which the answer ends; they are no part of it"
    return {"anyOf": [text, several], "description": words}


def logit_bias(low: float | None = None, high: float | None = None) -> Schema:
    """The field `logit_bias`."""
    ends = {"minimum": low, "maximum": high}
    bias = {"type": "number", **{name: end for name, end in ends.items() if end is not None}}
    return {
        "type": "object",
        "propertyNames": {"pattern": "^[0-9]{1,9}$"},
        "additionalProperties": bias,
        "description": "Added to the logits of the tokens of these ids",
    }


WHOLE: Schema = {"type": "integer", "minimum": 0}
PENALTY: Schema = {"type": "number", "minimum": -2, "maximum": 2}

SAMPLING: Mapping[str, Schema] = {
    "temperature": {"type": "number", "minimum": 0},
    "top_k": WHOLE,
    "top_p": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    "min_p": {"type": "number", "minimum": 0, "maximum": 1},
    "repetition_penalty": {"type": "number", "exclusiveMinimum": 0},
    "presence_penalty": PENALTY,
    "frequency_penalty": PENALTY,
    "logit_bias": logit_bias(),
    "max_tokens": {"type": "integer", "minimum": 1},
    "seed": {"type": "integer", "minimum": -(2**64), "maximum": 2**64},
    "stop": stop(None),
    "stop_token_ids": {"type": "array", "items": WHOLE},
    "logprobs": {"type": "integer", "minimum": 0, "maximum": 20},
    "json_schema": {"type": "object", "description": "The answer is JSON that this JSON schema allows"},
    "regex": {**TEXT, "minLength": 1, "description": "The answer matches this regular expression"},
}


def unbound(names: Iterable[str], able: Abilities) -> dict[str, Schema]:
    """Fields that say what an answer has to keep to, where nothing that gives it could: those that say nothing."""
    told = f"Cannot be kept to: {able.lack}"
    nothing: dict[str, Schema] = {name: {"type": "array", "maxItems": 0} for name in LISTS}
    return {name: {**nothing.get(name, {"type": "null"}), "description": told} for name in names}


def sampling(able: Abilities) -> Schema:
    """The field `sampling`: settings for the model that gives the answer."""
    settings = {name: nullable(SAMPLING.get(name, {})) for name in SETTINGS}
    if not able.settings:
        settings |= {name: nullable(nothing) for name, nothing in unbound(BINDING, able).items()}
    both = {"json_schema": {"type": "object"}, "regex": TEXT}
    not_both = {"not": {"required": list(both), "properties": both}}
    return {"type": "object", "properties": settings, "additionalProperties": False, **not_both}
