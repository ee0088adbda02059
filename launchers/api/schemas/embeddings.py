"""/v1/embeddings, described: what a request may have, and the vectors."""

from __future__ import annotations

from typing import Any

from ..embedding_requests import HARMLESS, MOST_TEXTS, NEUTRAL
from .answers import COUNT, TEXT, json_answer
from .chats import MODEL_REFUSED
from .components import Components, Schema
from .refusals import refusals
from .requests import body, harmless, model_name, neutral, request_of, run_id_header

__all__ = ["describe_embeddings"]

TOKENS = ("prompt_tokens", "total_tokens")


def describe_embeddings(components: Components, model: str, longest: float) -> dict[str, Any]:
    """The path of embeddings; `longest` is the deadline, in seconds, that may be asked for at most."""
    request = components.name("EmbeddingRequest", _request(model, longest))
    embeddings = components.name("Embeddings", _embeddings())
    asked = {"model": model, "input": "What is a Warp?"}
    several = {**asked, "input": ["What is a Warp?", "A mill for lists."], "encoding_format": "base64"}
    return {
        "/v1/embeddings": {
            "post": {
                "operationId": "create_embedding",
                "tags": ["OpenAI"],
                "summary": "Turns texts into vectors",
                "parameters": [run_id_header()],
                "requestBody": body(
                    request,
                    {"one": ("One text", asked), "several": ("Several at once, packed", several)},
                ),
                "responses": {
                    "200": json_answer(
                        "The vectors, in the order of the texts", embeddings, _example(model), "x-run-id"
                    ),
                    **refusals(components, *MODEL_REFUSED),
                },
            }
        }
    }


def _request(model: str, longest: float) -> Schema:
    fields: dict[str, Schema] = {
        "model": model_name(model),
        "encoding_format": {
            "enum": ["float", "base64"],
            "default": "float",
            "description": "Numbers, or the base64 of little-endian float32",
        },
        **harmless(HARMLESS),
        **{name: neutral(values) for name, values in NEUTRAL.items()},
    }
    several = {"type": "array", "minItems": 1, "maxItems": MOST_TEXTS, "items": TEXT}
    given = {"anyOf": [TEXT, several], "description": "One text, or several at once"}
    return request_of("input", given, longest, fields)


def _embeddings() -> Schema:
    vector = {"anyOf": [{"type": "array", "items": {"type": "number"}}, TEXT]}
    properties: dict[str, Schema] = {
        "object": {"enum": ["embedding"]},
        "index": {**COUNT, "description": "The text's place in the input"},
        "embedding": vector,
    }
    item = {"type": "object", "required": list(properties), "properties": properties}
    usage = {"type": "object", "required": list(TOKENS), "properties": dict.fromkeys(TOKENS, COUNT)}
    answer: dict[str, Schema] = {
        "object": {"enum": ["list"]},
        "data": {"type": "array", "items": item},
        "model": TEXT,
        "usage": usage,
    }
    return {"type": "object", "required": list(answer), "properties": answer}


def _example(model: str) -> dict[str, Any]:
    item = {"object": "embedding", "index": 0, "embedding": [0.6, -0.8]}
    return {"object": "list", "data": [item], "model": model, "usage": dict.fromkeys(TOKENS, 5)}
