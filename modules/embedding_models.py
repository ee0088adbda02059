"""LocalEmbedding and RemoteEmbedding: texts to vectors, as steps."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any

from ..streaming.currents import emit
from ..streaming.errors import ModelError
from ..streaming.events import Usage
from ..streaming.limits import Limits
from .base import Module
from .embeddings import EmbeddingEngine, Pooling, RemoteEmbeddingEngine, Vector
from .listeners import telling_progress
from .local import EngineStatus
from .protocols import Embedder
from .remote import Timeouts

__all__ = ["LocalEmbedding", "RemoteEmbedding"]

Texts = str | list[str] | tuple[str, ...]


class Embedding(Module[Texts, Vector | list[Vector]]):
    """What embeddings have in common, wherever their vectors are made."""

    body = "embed"

    def __init__(self, *, prompt: str, owns_engine: bool, name: str | None) -> None:
        super().__init__(name=name)
        if not isinstance(prompt, str):
            raise TypeError(
                f"prompt={prompt!r}: give the text that is put before each text, such as 'query: '"
            )
        self.prompt = prompt
        self._owns_engine = owns_engine

    @property
    def engine(self) -> Embedder:
        """The engine behind it; looking at it loads nothing and connects to nothing."""
        raise NotImplementedError

    async def setup(self) -> None:
        await self.engine.ready()

    async def aclose(self) -> None:
        """Closes the engine; one that was given stays open."""
        if self._owns_engine:
            await self.engine.aclose()

    def status(self) -> EngineStatus:
        return self.engine.status()

    async def embed(self, x: Texts) -> Vector | list[Vector]:
        """One text gives one vector, a list of texts gives a list of them."""
        texts = [x] if isinstance(x, str) else x
        if not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) for text in texts):
            raise TypeError(
                f"an embedding takes a text or a list of texts, not {_kind(x)}; put a step before it that makes text"
            )
        if not texts:
            return []
        found = await self.engine.embed([self.prompt + text for text in texts])
        emit(Usage(found.usage.prompt_tokens, 0))
        return found.vectors[0] if isinstance(x, str) else found.vectors


def _kind(x: Any) -> str:
    if isinstance(x, (list, tuple)):
        return f"a {type(x).__name__} with {next(type(text).__name__ for text in x if not isinstance(text, str))}"
    return type(x).__name__


class LocalEmbedding(Embedding):
    """An encoder on this machine, as a step: a text becomes a vector, a list of texts a list of vectors.

    The texts of all who ask share its forwards. It loads at its first use, or when a launcher starts. Encoders of
    transformers are meant, such as BERT, RoBERTa, DistilBERT, MPNet and ModernBERT, and decoders that were trained for
    embeddings where their directory or `pooling` says so. A stop ends the work with the forward at hand.

    Args:
        source: a directory with weights (safetensors), or `org/name` from the local cache of the model hub; an
            EmbeddingEngine is taken as it is.
        pooling: how the tokens' vectors become one: `"mean"`, `"cls"`, `"max"`, `"last"`; `"auto"` is what the
            directory says (in the files of sentence-transformers), otherwise the mean.
        normalize: whether vectors get the length 1.
        prompt: put before each text, such as `"query: "` for models that were trained so.
        device: `"auto"`, `"cpu"`, `"cuda"`, `"cuda:1"`.
        dtype: `"auto"` (the weights' own; float32 for float16 weights on a CPU) or a torch dtype's name.
        limits: how many calls run and wait.
        batch_tokens: of one forward at most, padding included.

    Raises:
        ModelError: at the first use: no such weights, no encoder. The message names the cure.
        ContextLengthExceeded: a text is too long; nothing is cut off in silence.
        Overloaded: too many calls at once.
    """

    def __init__(
        self,
        source: str | FilePath | EmbeddingEngine,
        *,
        pooling: Pooling = "auto",
        normalize: bool = True,
        prompt: str = "",
        device: str = "auto",
        dtype: str = "auto",
        limits: Limits | None = None,
        batch_tokens: int = 8192,
        name: str | None = None,
    ) -> None:
        if not isinstance(source, (str, os.PathLike, EmbeddingEngine)) or not str(source):
            raise ModelError(
                f"LocalEmbedding({source!r}): give the path of a directory with weights, or a name such as 'org/name'"
            )
        super().__init__(prompt=prompt, owns_engine=not isinstance(source, EmbeddingEngine), name=name)
        self._engine = (
            source
            if isinstance(source, EmbeddingEngine)
            else EmbeddingEngine(
                source,
                device=device,
                dtype=dtype,
                pooling=pooling,
                normalize=normalize,
                limits=limits,
                batch_tokens=batch_tokens,
            )
        )

    @property
    def engine(self) -> EmbeddingEngine:
        return self._engine

    async def setup(self) -> None:
        with telling_progress(self.engine):
            self.engine.start()
            await self.engine.ready()


class RemoteEmbedding(Embedding):
    """An encoder behind an OpenAI-compatible server, as a step: what LocalEmbedding does, over `/embeddings`.

    A stop closes the connection. Arguments that are not here are those of RemoteModel.

    Args:
        url: the server's base URL; mostly ends in `/v1`. A RemoteEmbeddingEngine is taken as it is.
        model: the model's name there.
        normalize: whether vectors get the length 1, whatever the server gives.
        prompt: put before each text, such as `"query: "` for models that were trained so.
        batch: how many texts a request has at most; those of one call are sent one after the other.
        extra: further fields for every request's body, such as `{"dimensions": 256}`.

    Raises:
        ValueError: a URL, key or number that cannot be; names it.
        RemoteError: at the first use or later: the server cannot be reached, refuses, fails or falls silent.
        ContextLengthExceeded: the server says that a text is too long.
        Overloaded: too many requests at once, here or there.
    """

    def __init__(
        self,
        url: str | RemoteEmbeddingEngine,
        model: str | None = None,
        *,
        api_key: str | None = None,
        api_key_env: str | None = None,
        normalize: bool = True,
        prompt: str = "",
        batch: int = 64,
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
        retries: int = 2,
        extra: Mapping[str, Any] | None = None,
        http: Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(prompt=prompt, owns_engine=not isinstance(url, RemoteEmbeddingEngine), name=name)
        if isinstance(url, RemoteEmbeddingEngine):
            self._engine = url
            return
        if model is None:
            raise ValueError(
                f"RemoteEmbedding({url!r}): give the model's name too, as the server's /models lists it"
            )
        self._engine = RemoteEmbeddingEngine(
            url,
            model,
            api_key=api_key,
            api_key_env=api_key_env,
            normalize=normalize,
            batch=batch,
            limits=limits,
            timeouts=timeouts,
            retries=retries,
            extra=extra,
            http=http,
        )

    @property
    def engine(self) -> RemoteEmbeddingEngine:
        return self._engine
