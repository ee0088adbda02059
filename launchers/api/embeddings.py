"""POST /v1/embeddings: texts to vectors, by a flow with an embedding at its end. All texts of a request are one run."""

from __future__ import annotations

import asyncio
import base64
import struct
from collections.abc import Mapping
from functools import partial
from typing import Any

from ...flow.calls import start_body
from ...flow.steps import Step
from ...flow.warps import Warp
from ...modules.embeddings import Vector
from ...streaming.errors import ModelError
from ...streaming.events import Event, RunFinished
from ...streaming.runs import Run
from .desks import Asked, Desk
from .embedding_requests import EmbeddingRequest
from .model_endpoints import ModelEndpoint
from .purposes import embedding, is_embedding
from .replies import Reply, answer_whole
from .values import as_json

__all__ = ["Embeddings"]

PATH = "/v1/embeddings"

AT_ONCE = 16
"""Texts of one request that are in a pipeline at once; at its end they share forwards."""

IN_A_ROW = 16
"""Vectors that are written without letting others run: about 4 ms, where each has 1024 numbers."""


class Embeddings(ModelEndpoint[EmbeddingRequest]):
    """The endpoint for the flow of a desk."""

    path = PATH

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk, embedding(desk.flow, desk.model))
        self._of_many = desk.flow
        if not is_embedding(desk.flow):
            self._of_many = Warp(desk.flow, concurrency=AT_ONCE, name=desk.flow.name)

    def _parse(self, body: Mapping[str, Any]) -> EmbeddingRequest:
        return EmbeddingRequest.parse(body, self.desk.default_timeout)

    def _asked(self, request: EmbeddingRequest) -> Asked:
        body = partial(_embed, self._of_many, request)
        return Asked(request.texts, timeout=request.timeout, body=body, on_disconnect="cancel")

    async def _answer(self, request: EmbeddingRequest, reply: Reply) -> None:
        reply.prompt = "input"
        await answer_whole(reply, EmbeddingsWhole(request, self.desk.model))


async def _embed(flow: Step[Any, Any], request: EmbeddingRequest, run: Run) -> dict[str, int]:
    """The run's work: the vectors of all texts, put into the request as they are sent.

    Its result is how many there are and how long: they would be most of what is kept of all runs, and soon made again.

    Raises:
        ModelError: something in the flow gives anything but a vector for each text.
    """
    from pydantic_core import to_json

    found = await start_body(flow, request.texts, run)
    count = len(request.texts)
    if not isinstance(found, list) or len(found) != count or not all(map(_is_vector, found)):
        raise ModelError(f"the flow gave something else than a vector for each of {count} texts")
    for i, vector in enumerate(found, 1):
        request.vectors.append(packed(vector) if request.base64 else to_json(vector))
        if i % IN_A_ROW == 0:
            await asyncio.sleep(0)
    return {"vectors": count, "dimensions": len(found[0])}


def _is_vector(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], float)


def packed(vector: Vector) -> bytes:
    """A vector as OpenAI packs it: base64 of little-endian float32; with its quotes."""
    return b'"%b"' % base64.b64encode(struct.pack(f"<{len(vector)}f", *vector))


class EmbeddingsWhole:
    """A WholeDialect: the vectors, in the order of the texts."""

    def __init__(self, request: EmbeddingRequest, model: str) -> None:
        self._request, self._model = request, model

    def hear(self, event: Event) -> bool:
        return False

    def body(self, finished: RunFinished) -> bytes:
        items = (
            b'{"object":"embedding","index":%d,"embedding":%b}' % (i, vector)
            for i, vector in enumerate(self._request.vectors)
        )
        tokens = finished.usage.prompt_tokens
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        rest = as_json({"object": "list", "model": self._model, "usage": usage}).encode()
        return b'%b,"data":[%b]}' % (rest[:-1], b",".join(items))
