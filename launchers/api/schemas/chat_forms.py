"""JSON schemas of what a chat request may want beside text, as the checks have it."""

from __future__ import annotations

from typing import Any

from ...abilities import Abilities
from ..chat_requests import CHOICES, TOP_LOGPROBS
from ..chat_tools import MOST_TOOLS, NAME
from .answers import TEXT

__all__ = ["CALLS", "CALL_ID", "FORMS", "forms_of"]

NAMED: dict[str, Any] = {"type": "string", "pattern": f"^{NAME.pattern}$"}


def _object(required: tuple[str, ...], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "required": list(required),
        "properties": properties,
        "additionalProperties": False,
    }


def _maybe(schema: dict[str, Any]) -> dict[str, Any]:
    return {**schema, "type": [schema["type"], "null"]}


def _function() -> dict[str, Any]:
    return _object(
        ("name",),
        name=NAMED,
        description=_maybe(TEXT),
        parameters={"type": ["object", "null"], "description": "A JSON schema of the arguments"},
        strict={"type": ["boolean", "null"], "description": "The arguments always fit the schema"},
    )


def _response_format() -> dict[str, Any]:
    schema = _object(
        ("name", "schema"),
        name=NAMED,
        description=_maybe(TEXT),
        schema={"type": "object", "description": "A JSON schema"},
        strict={"type": ["boolean", "null"]},
    )
    plain = [_object(("type",), type={"const": kind}) for kind in ("text", "json_object")]
    return {
        "anyOf": [*plain, _object(("type", "json_schema"), type={"const": "json_schema"}, json_schema=schema)]
    }


FORMS: dict[str, dict[str, Any]] = {
    "n": {**CHOICES.schema(), "default": 1, "description": "How many answers are wanted"},
    "tools": {
        "type": "array",
        "maxItems": MOST_TOOLS,
        "items": _object(("type", "function"), type={"const": "function"}, function=_function()),
        "description": "Functions that the model may call; only for flows that end in a model",
    },
    "tool_choice": {
        "anyOf": [
            {"enum": ["none", "auto", "required"]},
            _object(
                ("type", "function"), type={"const": "function"}, function=_object(("name",), name=NAMED)
            ),
        ]
    },
    "response_format": _response_format(),
    "logprobs": {"type": "boolean", "description": "Whether each token comes with its log-probability"},
    "top_logprobs": {
        **TOP_LOGPROBS.schema(),
        "description": "With how many of the likeliest tokens in its place; only together with `logprobs: true`",
    },
}
"""By parameter, for flows whose every answer comes from a model."""


def forms_of(able: Abilities) -> dict[str, dict[str, Any]]:
    """The same for any flow: what it cannot do may be asked for in no other way than to leave it."""
    lack = {"description": f"Cannot be had: {able.lack}"}
    forms = dict(FORMS)
    if not able.tools:
        forms["tools"] = {"type": "array", "maxItems": 0, **lack}
    if not able.demands:
        forms["tool_choice"] = {"enum": ["none", "auto"], **lack}
        forms["response_format"] = {**_object(("type",), type={"const": "text"}), **lack}
    if not able.logprobs:
        forms |= {"logprobs": {"const": False, **lack}, "top_logprobs": {"const": 0, **lack}}
    return forms


CALLS: dict[str, Any] = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["id", "function"],
        "properties": {
            "id": TEXT,
            "type": {"const": "function"},
            "function": {
                "type": "object",
                "required": ["name", "arguments"],
                "properties": {"name": TEXT, "arguments": {**TEXT, "description": "JSON text"}},
            },
        },
    },
    "description": "Of a message of role assistant: the calls that it asks for; its content may then be null",
}
CALL_ID: dict[str, Any] = {**TEXT, "description": "Of a message of role tool: which call it answers"}
