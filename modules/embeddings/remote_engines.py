"""RemoteEmbeddingEngine: an encoder behind an OpenAI-compatible server, asked as the local one is asked."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import struct
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ...streaming.errors import MillraceError, RemoteError, RunTimeout
from ...streaming.limits import Limits
from ...streaming.usage import TokenUsage
from ..local import EngineStatus
from ..remote import Server, Timeouts
from ..remote.bodies import check_extra
from ..remote.failures import Failure
from ..remote.turns import Turns
from .jobs import Embedded, Vector

__all__ = ["RemoteEmbeddingEngine"]

ENDPOINT = "/embeddings"


class RemoteEmbeddingEngine:
    """Turns texts into vectors on a server.

    Args:
        url: the server's base URL; mostly ends in `/v1`.
        model: the model's name there.
        normalize: whether vectors get the length 1, whatever the server gives.
        batch: how many texts a request has at most; those of one call are sent one after the other.
        extra: further fields for every request's body, such as `{"dimensions": 256}`.

    The others are those of RemoteEngine.

    Raises:
        ValueError: a URL, key or number that cannot be; names it.
        TypeError: an option that httpx does not have.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        api_key: str | None = None,
        api_key_env: str | None = None,
        normalize: bool = True,
        batch: int = 64,
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
        retries: int = 2,
        extra: Mapping[str, Any] | None = None,
        http: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(model, str) or not model:
            raise ValueError(f"model={model!r}: give the model's name, as the server's /models lists it")
        if not isinstance(batch, int) or batch < 1:
            raise ValueError(f"batch={batch!r}: give a number of texts from 1")
        self.server = Server(
            url, api_key=api_key, api_key_env=api_key_env, timeouts=timeouts, retries=retries, http=http
        )
        self.model = model
        self.normalize = normalize
        self.batch = batch
        self._turns = Turns(limits or Limits(running=64, waiting=256))
        self._extra = check_extra(extra or {})
        self._state: Any = "cold"
        self._error = ""
        self._read = 0
        self._stops: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"RemoteEmbeddingEngine({str(self.server.address)!r}, {self.model!r})"

    async def ready(self) -> None:
        """Asks whether the server is there.

        Raises:
            RemoteError: it cannot be reached, is not up yet, or does not know the key.
        """
        await self.server.ready()
        self._state = "ready"

    def status(self) -> EngineStatus:
        """How it is from here, at once."""
        return EngineStatus(
            state=self._state,
            model=f"{self.model} at {self.server.address}",
            progress=1.0 if self._state == "ready" else 0.0,
            running=self._turns.running,
            waiting=self._turns.waiting,
            tokens_read=self._read,
            stops=dict(self._stops),
            error=self._error,
        )

    async def embed(self, texts: Sequence[str]) -> Embedded:
        """The vectors of some texts; cancelling it closes the connection.

        Raises:
            Overloaded: too many requests at once, here or there.
            ContextLengthExceeded: the server says that a text is too long.
            RemoteError: the server cannot be reached, refuses, fails or falls silent.
            RunTimeout: it took longer than Timeouts(total).
        """
        turn = self._turns.enter()
        reason = "cancelled"
        try:
            async with asyncio.timeout(self.server.timeouts.total) as clock:
                await turn.wait()
                found = await self._in_batches(list(texts))
            reason, self._state = "stop", "ready"
        except TimeoutError:
            if not clock.expired():
                raise
            reason = "timeout"
            raise RunTimeout("the embeddings passed their deadline, which is Timeouts(total)") from None
        except MillraceError as error:
            reason, self._error = "error", str(error)
            raise
        finally:
            turn.leave()
            self._stops[reason] = self._stops.get(reason, 0) + 1
        self._read += found.usage.prompt_tokens
        return found

    async def aclose(self) -> None:
        """Closes the connections; they open again when they are needed."""
        await self.server.aclose()
        self._state = "closed"

    # ------------------------------------------------------------ one request

    async def _in_batches(self, texts: list[str]) -> Embedded:
        vectors: list[Vector] = []
        usage = TokenUsage()
        for start in range(0, len(texts), self.batch):
            found = await self.server.tried(partial(self._ask, texts[start : start + self.batch]))
            vectors += found.vectors
            usage += found.usage
        return Embedded(vectors, usage)

    async def _ask(self, texts: list[str]) -> Embedded:
        """The vectors of one batch."""
        body: dict[str, Any] = {
            "model": self.model,
            "input": texts,
            "encoding_format": "float",
            **self._extra,
        }
        body = {name: value for name, value in body.items() if value is not None}
        patience = self.server.timeouts.first_token
        try:
            async with asyncio.timeout(patience) as clock:
                async with self.server.exchange("POST", ENDPOINT, body) as response:
                    reply = await response.aread()
        except TimeoutError:
            if not clock.expired():
                raise  # the deadline's, not ours
            error = RemoteError(
                f"{self.server.address} sent no embeddings within {patience:g} s, which is Timeouts(first_token)"
            )
            raise Failure(error) from None
        return self._read_reply(reply, len(texts))

    def _read_reply(self, reply: bytes, count: int) -> Embedded:
        """Checks that each text has its vector."""
        try:
            found = json.loads(reply)
            vectors = {int(item["index"]): _numbers(item["embedding"]) for item in found["data"]}
            ordered = [vectors.pop(at) for at in range(count)]
            usage = TokenUsage(int((found.get("usage") or {}).get("prompt_tokens") or 0), 0)
            if vectors or len({len(vector) for vector in ordered}) > 1:
                raise ValueError
        except (AttributeError, KeyError, TypeError, ValueError, struct.error):
            shown = self.server.address.hide(reply[:200].decode("utf-8", "replace"))
            error = RemoteError(
                f"{self.server.address} sent what are no embeddings of {count} texts: {shown}"
            )
            raise Failure(error) from None
        return Embedded([_normalized(vector) for vector in ordered] if self.normalize else ordered, usage)


def _numbers(given: Any) -> Vector:
    """A vector as a list of numbers, or as base64 of float32, which some servers send unasked."""
    if isinstance(given, str):
        raw = base64.b64decode(given, validate=True)
        return list(struct.unpack(f"<{len(raw) // 4}f", raw))
    vector = [float(number) for number in given]
    if not vector or not all(map(math.isfinite, vector)):
        raise ValueError
    return vector


def _normalized(vector: Vector) -> Vector:
    length = math.sqrt(sum(number * number for number in vector))
    return [number / length for number in vector] if length else vector
