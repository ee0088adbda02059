"""What a request to /v1/embeddings may say, checked before anything is done about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .chat_requests import SHORTEST_DEADLINE, model_of
from .parameters import Known, Number, check_text, invalid

__all__ = ["HARMLESS", "MOST_TEXTS", "NEUTRAL", "OWN", "EmbeddingRequest"]

HARMLESS = frozenset(["user"])
"""Accepted and unused: it changes nothing about the vectors."""

NEUTRAL: Mapping[str, tuple[Any, ...]] = {"dimensions": ()}
"""Parameters of OpenAI's that are not supported. Null asks for nothing."""

CURES = {"dimensions": "vectors have the length that the model gives them; leave it out"}

OWN = frozenset(["model", "input", "encoding_format", "timeout"])

KNOWN = Known(OWN, HARMLESS, NEUTRAL, cures=CURES)

MOST_TEXTS = 2048
"""Texts in one request, as at OpenAI."""


@dataclass(slots=True)
class EmbeddingRequest:
    """A request that has been checked. `vectors` is for what comes of it, each as JSON."""

    model: str | None
    texts: list[str]
    base64: bool = False
    timeout: float | None = None
    vectors: list[bytes] = field(default_factory=list)

    @classmethod
    def parse(cls, body: Mapping[str, Any], longest: float) -> EmbeddingRequest:
        """Checks the body of a request; `longest` is the deadline, in seconds, that it may ask for at most.

        Raises:
            Refusal: 400, naming the parameter.
        """
        request = cls(model_of(body), _texts(body.get("input")))
        KNOWN.check(body)
        if (encoding := body.get("encoding_format")) is not None:
            if encoding not in ("float", "base64"):
                raise invalid('encoding_format must be "float" or "base64"', "encoding_format")
            request.base64 = encoding == "base64"
        if (timeout := body.get("timeout")) is not None:
            request.timeout = Number(SHORTEST_DEADLINE, longest).check(timeout, "timeout")
        return request


def _texts(given: Any) -> list[str]:
    if given is None:
        raise invalid('input is missing; send {"input": "..."} or {"input": ["...", "..."]}', "input")
    if isinstance(given, str):
        return [check_text(given, "input")]
    if not isinstance(given, list):
        raise invalid("input must be text or a list of texts", "input")
    if not given:
        raise invalid("input is empty; it needs at least one text", "input")
    if len(given) > MOST_TEXTS:
        raise invalid(f"input has {len(given)} texts, and may have {MOST_TEXTS} at most", "input")
    for i, item in enumerate(given):
        if isinstance(item, int | list):
            where = "input" if isinstance(item, int) else f"input[{i}]"
            message = f"{where} has token ids, which are not supported here; send the text itself"
            raise invalid(message, where, "unsupported_content")
    return [check_text(item, f"input[{i}]") for i, item in enumerate(given)]
