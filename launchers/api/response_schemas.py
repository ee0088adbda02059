"""The OpenAPI schema of /v1/responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .chat_requests import ROLES
from .response_objects import DEFAULTS
from .response_requests import HARMLESS, NEUTRAL, NUMBERS, PARTS
from .schemas import REFUSALS, TEXT

__all__ = ["COUNT", "NULLABLE_TEXT", "answered", "describe_responses", "neutral", "posted", "reference"]

COUNT: dict[str, Any] = {"type": "integer"}
NULLABLE_TEXT: dict[str, Any] = {"type": ["string", "null"]}
STATUSES = ("queued", "in_progress", "completed", "incomplete", "cancelled", "failed")


def describe_responses(components: dict[str, Any]) -> dict[str, Any]:
    """The paths at and below /v1/responses; their schemas go to `components`."""
    components |= {"ResponseRequest": _request(), "Response": _response(), "ResponseItem": _item()}
    told = {"application/json": {"schema": reference("Response")}}
    create = posted(
        "create_response", "Runs the flow on the input, as chat completions does", "ResponseRequest"
    )
    response_id = {
        "name": "response_id",
        "in": "path",
        "required": True,
        "schema": {**TEXT, "pattern": "^resp_[0-9a-f]{32}$"},
    }
    kept = {**answered(told, "401", "404", "410", "500"), "parameters": [response_id]}
    return {
        "/v1/responses": {
            "post": {**create, **answered({**told, "text/event-stream": {"schema": TEXT}}, *REFUSALS)}
        },
        "/v1/responses/{response_id}": {
            "get": {"operationId": "retrieve_response", "summary": "What became of a response", **kept}
        },
        "/v1/responses/{response_id}/cancel": {
            "post": {"operationId": "cancel_response", "summary": "Stops the run of a response", **kept}
        },
    }


def reference(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def posted(operation: str, summary: str, request: str) -> dict[str, Any]:
    """The head of an endpoint that takes a request of the component `request`."""
    body = {"required": True, "content": {"application/json": {"schema": reference(request)}}}
    return {"operationId": operation, "summary": summary, "requestBody": body}


def answered(content: Mapping[str, Any], *statuses: str) -> dict[str, Any]:
    """What an endpoint answers: 200, or an error of one of the statuses."""
    refused = {"application/json": {"schema": reference("Error")}}
    answers: dict[str, Any] = {
        "200": {
            "description": "The answer",
            "headers": {"x-run-id": {"description": "The id of the run", "schema": TEXT}},
            "content": dict(content),
        }
    }
    for status in statuses:
        text = REFUSALS.get(status, "It is not kept any more")
        answers[status] = {"description": text, "content": refused}
    return {"responses": dict(sorted(answers.items()))}


def neutral(values: tuple[Any, ...]) -> dict[str, Any]:
    """A parameter that is not supported, with the values that ask for nothing."""
    return {"enum": [*values, None], "description": "Not supported: may have this value, or be left out"}


def _request() -> dict[str, Any]:
    part = {
        "type": "object",
        "required": ["type", "text"],
        "properties": {"type": {"enum": list(PARTS)}, "text": TEXT},
    }
    message = {
        "type": "object",
        "required": ["role", "content"],
        "properties": {
            "type": {"enum": ["message"]},
            "role": {"enum": list(ROLES)},
            "content": {"anyOf": [TEXT, {"type": "array", "items": part}]},
        },
    }
    flag = {"type": ["boolean", "null"]}
    return {
        "type": "object",
        "required": ["input"],
        "additionalProperties": False,
        "properties": {
            "model": {**NULLABLE_TEXT, "description": "As /v1/models lists it; may be left out"},
            "input": {
                "anyOf": [TEXT, {"type": "array", "minItems": 1, "items": message}],
                "description": "The last message must be of role user; those before it are the history",
            },
            "instructions": {**NULLABLE_TEXT, "description": "A system message before the input"},
            "stream": flag,
            "stream_options": {"type": ["object", "null"], "properties": {"include_obfuscation": flag}},
            "metadata": {
                "type": ["object", "null"],
                "additionalProperties": TEXT,
                "description": "Comes back with the response",
            },
            "parallel_tool_calls": flag,
            "text": {"type": ["object", "null"], "properties": {"format": {"enum": [{"type": "text"}]}}},
            "stop": {"anyOf": [TEXT, {"type": "array", "items": TEXT}, {"type": "null"}]},
            "logit_bias": {"type": ["object", "null"], "additionalProperties": {"type": "number"}},
            "prompt_cache_options": {"description": "Accepted, and changes nothing"},
            "timeout": {"type": ["number", "null"], "description": "Deadline in seconds"},
            **{name: {"anyOf": [number.schema(), {"type": "null"}]} for name, number in NUMBERS.items()},
            **{name: {"description": "Accepted, and changes nothing"} for name in sorted(HARMLESS)},
            **{name: neutral(values) for name, values in NEUTRAL.items()},
        },
    }


def _item() -> dict[str, Any]:
    part = {
        "type": "object",
        "required": ["type", "text"],
        "properties": {"type": {"enum": ["output_text", "reasoning_text"]}, "text": TEXT},
    }
    return {
        "type": "object",
        "required": ["id", "type", "status", "content"],
        "properties": {
            "id": TEXT,
            "type": {"enum": ["message", "reasoning"]},
            "status": {"enum": ["in_progress", "completed", "incomplete"]},
            "role": {"enum": ["assistant"]},
            "content": {"type": "array", "items": part},
        },
    }


def _response() -> dict[str, Any]:
    names = ("input_tokens", "output_tokens", "total_tokens")
    error = dict.fromkeys(("code", "message", "type"), TEXT) | {"param": NULLABLE_TEXT}
    properties: dict[str, Any] = {
        "id": TEXT,
        "object": {"enum": ["response"]},
        "created_at": COUNT,
        "status": {"enum": list(STATUSES)},
        "completed_at": {"type": ["integer", "null"]},
        "error": {"type": ["object", "null"], "properties": error},
        "incomplete_details": {"type": ["object", "null"], "properties": {"reason": TEXT}},
        "model": TEXT,
        "output": {"type": "array", "items": reference("ResponseItem")},
        "usage": {"type": ["object", "null"], "properties": dict.fromkeys(names, COUNT)},
    }
    return {
        "type": "object",
        "required": [*properties, *DEFAULTS],
        "properties": {**properties, **{name: {} for name in DEFAULTS}},
    }
