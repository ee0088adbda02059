"""The OpenAPI schema of /v1/embeddings."""

from __future__ import annotations

from typing import Any

from .embedding_requests import HARMLESS, MOST_TEXTS, NEUTRAL
from .response_schemas import COUNT, NULLABLE_TEXT, answered, neutral, posted, reference
from .schemas import REFUSALS, TEXT

__all__ = ["describe_embeddings"]


def describe_embeddings(components: dict[str, Any]) -> dict[str, Any]:
    """The path; its schemas go to `components`."""
    components |= {"EmbeddingRequest": _request(), "Embeddings": _embeddings()}
    create = posted("create_embedding", "Turns texts into vectors", "EmbeddingRequest")
    told = {"application/json": {"schema": reference("Embeddings")}}
    return {"/v1/embeddings": {"post": {**create, **answered(told, *REFUSALS)}}}


def _request() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["input"],
        "additionalProperties": False,
        "properties": {
            "model": {**NULLABLE_TEXT, "description": "As /v1/models lists it; may be left out"},
            "input": {
                "anyOf": [TEXT, {"type": "array", "minItems": 1, "maxItems": MOST_TEXTS, "items": TEXT}]
            },
            "encoding_format": {"enum": ["float", "base64", None], "default": "float"},
            "timeout": {"type": ["number", "null"], "description": "Deadline in seconds"},
            **{name: {"description": "Accepted, and changes nothing"} for name in sorted(HARMLESS)},
            **{name: neutral(values) for name, values in NEUTRAL.items()},
        },
    }


def _embeddings() -> dict[str, Any]:
    vector = {
        "anyOf": [
            {"type": "array", "items": {"type": "number"}},
            {**TEXT, "description": "Base64 of little-endian float32, where that was asked for"},
        ]
    }
    item = {
        "type": "object",
        "required": ["object", "index", "embedding"],
        "properties": {"object": {"enum": ["embedding"]}, "index": COUNT, "embedding": vector},
    }
    return {
        "type": "object",
        "required": ["object", "data", "model", "usage"],
        "properties": {
            "object": {"enum": ["list"]},
            "data": {"type": "array", "items": item},
            "model": TEXT,
            "usage": {
                "type": "object",
                "properties": dict.fromkeys(("prompt_tokens", "total_tokens"), COUNT),
            },
        },
    }
