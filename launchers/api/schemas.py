"""The OpenAPI schema of the endpoints that are bare ASGI applications, which FastAPI cannot read."""

from __future__ import annotations

from typing import Any

from .chat_requests import NUMBERS, ROLES
from .chat_schemas import CALL_ID, CALLS, FORMS

__all__ = ["add_chat_completions"]

TEXT: dict[str, Any] = {"type": "string"}
ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": TEXT,
                "type": TEXT,
                "param": {"type": ["string", "null"]},
                "code": TEXT,
            },
        }
    },
}
REFUSALS = {
    "400": "The request is malformed, or asks for what is not supported",
    "401": "No valid API key",
    "404": "No such model",
    "408": "The body did not arrive in time",
    "413": "The body is too large",
    "415": "The body is not JSON",
    "429": "Too many requests at once; see Retry-After",
    "500": "The flow failed",
    "503": "No place became free in time, or the server is shutting down",
    "504": "The deadline passed",
}


def add_chat_completions(schema: dict[str, Any]) -> dict[str, Any]:
    """Adds `/v1/chat/completions` to an application's schema."""
    components = schema.setdefault("components", {}).setdefault("schemas", {})
    components |= {"ChatCompletionRequest": _request(), "ChatCompletion": _completion(), "Error": ERROR}
    refused = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    answers: dict[str, Any] = {
        status: {"description": text, "content": refused} for status, text in REFUSALS.items()
    }
    answers["200"] = {
        "description": "The answer, whole or as server-sent events",
        "headers": {"x-run-id": {"description": "The id of the run", "schema": TEXT}},
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/ChatCompletion"}},
            "text/event-stream": {"schema": TEXT},
        },
    }
    schema.setdefault("paths", {})["/v1/chat/completions"] = {
        "post": {
            "operationId": "create_chat_completion",
            "summary": "Runs the flow on the last message; the earlier ones are its history",
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {"schema": {"$ref": "#/components/schemas/ChatCompletionRequest"}}
                },
            },
            "responses": dict(sorted(answers.items())),
        }
    }
    return schema


def _request() -> dict[str, Any]:
    part = {
        "type": "object",
        "required": ["type", "text"],
        "properties": {"type": {"const": "text"}, "text": TEXT},
    }
    message = {
        "type": "object",
        "required": ["role"],
        "properties": {
            "role": {"enum": list(ROLES)},
            "content": {"anyOf": [TEXT, {"type": "array", "items": part}, {"type": "null"}]},
            "tool_calls": CALLS,
            "tool_call_id": CALL_ID,
        },
    }
    return {
        "type": "object",
        "required": ["messages"],
        "properties": {
            "model": {**TEXT, "description": "As /v1/models lists it; may be left out"},
            "messages": {
                "type": "array",
                "minItems": 1,
                "items": message,
                "description": "The last one must be of role user, or of role tool where the flow begins with a model",
            },
            "stream": {"type": "boolean", "default": False},
            "stream_options": {"type": "object", "properties": {"include_usage": {"type": "boolean"}}},
            "stop": {"anyOf": [TEXT, {"type": "array", "items": TEXT}]},
            "logit_bias": {"type": "object", "additionalProperties": {"type": "number"}},
            "timeout": {"type": "number", "description": "Deadline in seconds"},
            **FORMS,
            **{name: number.schema() for name, number in NUMBERS.items()},
        },
    }


def _completion() -> dict[str, Any]:
    count = {"type": "integer"}
    choice = {
        "type": "object",
        "properties": {
            "index": count,
            "message": {
                "type": "object",
                "properties": {
                    "role": {"const": "assistant"},
                    "content": {"type": ["string", "null"]},
                    "tool_calls": CALLS,
                },
            },
            "finish_reason": {"enum": ["stop", "length", "tool_calls", "content_filter"]},
        },
    }
    return {
        "type": "object",
        "properties": {
            "id": TEXT,
            "object": {"const": "chat.completion"},
            "created": count,
            "model": TEXT,
            "choices": {"type": "array", "items": choice},
            "usage": {
                "type": "object",
                "properties": dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"), count),
            },
        },
    }
