"""Answers: what comes back where nothing is wrong, as JSON or as server-sent events, and the headers of all answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .components import Schema

__all__ = [
    "COUNT",
    "LIKELY",
    "RUN_ID",
    "TEXT",
    "content",
    "either",
    "headers",
    "json_answer",
    "nullable",
    "one_of",
    "stream_answer",
]

TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
RUN_ID: Schema = {"type": "string", "pattern": "^[0-9a-f]{32}$"}


def one_of(*words: str) -> Schema:
    """One of some words."""
    return {"type": "string", "enum": list(words)}


LIKELY: Schema = {
    "type": "object",
    "required": ["token", "logprob", "top_logprobs"],
    "properties": {
        "token": TEXT,
        "bytes": {"type": ["array", "null"], "items": COUNT},
        "logprob": {"type": "number"},
        "top_logprobs": {"type": "array", "items": {"type": "object"}},
    },
}
"""One token and how likely it was, beside the likeliest in its place."""

HEADERS: Mapping[str, tuple[str, Schema]] = {
    "x-run-id": ("The id of the run, for /v1/runs/{run_id}", RUN_ID),
    "Retry-After": ("Seconds after which to come again", COUNT),
    "retry-after-ms": ("The same in milliseconds, for clients who know it", COUNT),
    "x-should-retry": ("`false`: it would only fail again", one_of("false")),
    "WWW-Authenticate": ("How to log in", TEXT),
    "Cache-Control": ("Not to be kept on the way", one_of("no-cache")),
    "X-Accel-Buffering": ("Not to be gathered on the way", one_of("no")),
}


def headers(*names: str) -> dict[str, Any]:
    """Headers that an answer may have, as a part of its description."""
    told = {name: {"description": text, "schema": schema} for name, (text, schema) in HEADERS.items()}
    return {"headers": {name: told[name] for name in names}} if names else {}


def content(schema: Schema, example: Any = None, kind: str = "application/json") -> dict[str, Any]:
    """A body of one kind."""
    return {kind: {"schema": schema} if example is None else {"schema": schema, "example": example}}


def json_answer(text: str, schema: Schema, example: Any = None, *with_headers: str) -> dict[str, Any]:
    """An answer of one JSON value."""
    return {"description": text, **headers(*with_headers), "content": content(schema, example)}


def stream_answer(text: str, data: Schema, example: str, last: str | None = None) -> dict[str, Any]:
    """An answer of server-sent events, as OpenAPI 3.2 describes them.

    Args:
        data: what each of them carries, as JSON.
        last: what the last one carries instead.
    """
    carried = {**TEXT, "contentMediaType": "application/json", "contentSchema": data}
    properties = {
        "id": TEXT,
        "event": TEXT,
        "data": carried if last is None else {"anyOf": [carried, {"enum": [last]}]},
    }
    event = {"type": "object", "required": ["data"], "properties": properties}
    return {
        "description": text,
        **headers("x-run-id", "Cache-Control", "X-Accel-Buffering"),
        "content": {"text/event-stream": {"itemSchema": event, "example": example}},
    }


def either(whole: Mapping[str, Any], streamed: Mapping[str, Any]) -> dict[str, Any]:
    """An answer that comes whole, or streamed to a request that asks for that."""
    return {**streamed, **whole, "content": {**whole["content"], **streamed["content"]}}


def nullable(schema: Schema) -> Schema:
    """What may be null as well, which is the same as leaving it out."""
    if schema.get("type") == "null":
        return schema
    kind = schema.get("type")
    if "anyOf" in schema:
        return {**schema, "anyOf": [*schema["anyOf"], {"type": "null"}]}
    if isinstance(kind, str) and not {"enum", "const"} & schema.keys():
        return {**schema, "type": [kind, "null"]}
    words: Schema = {name: schema[name] for name in ("description", "default") if name in schema}
    bare = {key: part for key, part in schema.items() if key not in words}
    return {"anyOf": [bare, {"type": "null"}], **words}
