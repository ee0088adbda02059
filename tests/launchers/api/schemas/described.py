"""A flow with types of its own, its endpoints, and values held against what their document says."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
from pydantic import BaseModel, Field

__all__ = ["EMBEDDINGS", "ENDPOINTS", "GET", "POST", "Data", "Question", "answer", "check", "check_stream"]

POST, GET = ("post", "get")

ENDPOINTS = {
    (POST, "/v1/chat/completions"),
    (POST, "/v1/responses"),
    (GET, "/v1/responses/{response_id}"),
    (POST, "/v1/responses/{response_id}/cancel"),
    (GET, "/v1/models"),
    (GET, "/v1/models/{name}"),
    (POST, "/v1/runs"),
    (GET, "/v1/runs"),
    (GET, "/v1/runs/{run_id}"),
    (GET, "/v1/runs/{run_id}/events"),
    (POST, "/v1/runs/{run_id}/cancel"),
    (GET, "/health/live"),
    (GET, "/health/ready"),
    (GET, "/status"),
    (GET, "/metrics"),
}
EMBEDDINGS = "/v1/embeddings"


class Question(BaseModel):
    """What is asked."""

    text: str = Field(examples=["What is a Warp?"])
    hits: int = Field(3, ge=1)


class Data(BaseModel):
    """Is called what one of our own schemas is called."""

    text: str
    score: float


async def answer(question: Question | str) -> Data:
    if isinstance(question, str):
        question = Question(text=question, hits=1)
    return Data(text=question.text, score=question.hits)


def check(value: Any, schema: dict[str, Any], document: dict[str, Any]) -> None:
    whole = {"allOf": [schema], "components": document["components"]}
    jsonschema.validate(value, whole, jsonschema.Draft202012Validator)


def check_stream(text: str, schema: dict[str, Any], document: dict[str, Any]) -> None:
    """Holds each event of a stream, and what it carries, against the schema of one."""
    frames = [frame for frame in text.split("\n\n") if frame]
    assert frames
    data = schema["properties"]["data"]
    carried = data.get("anyOf", [data])[0]["contentSchema"]
    for frame in frames:
        event = dict(line.split(": ", 1) for line in frame.splitlines())
        check(event, schema, document)
        if event["data"] != "[DONE]":
            check(json.loads(event["data"]), carried, document)
