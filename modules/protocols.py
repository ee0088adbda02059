"""What local and remote engines share: the one place where it is written down.

An **engine** runs requests on a language model, many at once. A **generation** is one answer as it comes. Whoever
stands on an engine (`LanguageModel`, the launchers, tests/modules/test_conformance.py) knows these two and no more.

- `submit` is cheap and may be called from any thread and any event loop. It refuses at once (`Overloaded`, before any
  work), or gives a generation.
- A generation is an asynchronous iterator of `Delta`. Exactly one of them has a finish reason and the usage, and it is
  the last, however the request ends: by itself, cancelled while it waits, before its first token or while it decodes,
  overdue, failed. Where it failed, that delta has `error`; iterating never raises, `result()` does.
- The finish reasons are `stop`, `length`, `tool_calls`, `stop_condition`, `timeout`, `cancelled` and `error`.
- After `cancel()` nothing comes any more but the last delta: what was produced and not taken is discarded. It never
  waits and may be called from any thread, again and again. `aclose()` waits too, until nothing of the request is left:
  its memory is free, its connection closed.
- What was produced is buffered, never held back for a slow reader; `max_tokens` bounds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from ..streaming.usage import TokenUsage
from .embeddings import Embedded
from .local import Completion, Delta, EngineStatus, FinishReason, Request

__all__ = ["Embedder", "ModelEngine", "ModelGeneration"]


class ModelGeneration(Protocol):
    """One answer as it comes."""

    request: Request
    dropped: int
    """How many of the oldest messages were left out so that the prompt fits, as far as `drop_oldest` allows."""

    @property
    def status(self) -> str:
        """preparing, waiting, running or finished."""
        ...

    @property
    def usage(self) -> TokenUsage:
        """Tokens read and produced so far; exact once the generation is finished, as far as the engine can know."""
        ...

    @property
    def finish_reason(self) -> FinishReason | None:
        """How it ended; None while it has not."""
        ...

    def __aiter__(self) -> ModelGeneration: ...

    async def __anext__(self) -> Delta: ...

    def cancel(self, reason: str = "cancelled") -> None:
        """Stops it. `stop_condition` and `timeout` keep their names as finish reasons, all else is `cancelled`."""
        ...

    async def aclose(self) -> None:
        """Cancels it if it is not over, and waits until nothing of it is left."""
        ...

    async def result(self) -> Completion:
        """Takes the rest and returns the whole answer.

        Raises:
            MillraceError: the request failed; the error of its last delta.
        """
        ...


class ModelEngine(Protocol):
    """Whatever runs requests on a model."""

    async def ready(self) -> None:
        """Waits until a token can be produced, as far as the engine can know.

        Raises:
            MillraceError: it cannot: the model does not load, the server is not there.
        """
        ...

    def submit(self, request: Request) -> ModelGeneration:
        """Takes a request in.

        Raises:
            Overloaded: as many run and wait as may; nothing was done for this one.
            MillraceError: the engine cannot take requests.
            ValueError: it asks for what this kind of engine does not have.
        """
        ...

    def status(self) -> EngineStatus:
        """How it is, at once."""
        ...

    async def aclose(self) -> None:
        """Ends all requests as cancelled and gives back what it holds; again and again."""
        ...


class Embedder(Protocol):
    """Whatever turns texts into vectors."""

    async def ready(self) -> None:
        """Waits until a vector can be made, as far as the engine can know; raises what keeps it from that."""
        ...

    async def embed(self, texts: Sequence[str]) -> Embedded:
        """The vectors of some texts, in their order; cancelling it stops the work on them.

        Raises:
            Overloaded: as many requests run and wait as may.
            ContextLengthExceeded: a text is too long; nothing is cut off in silence.
            MillraceError: the engine has failed.
        """
        ...

    def status(self) -> EngineStatus:
        """How it is, at once."""
        ...

    async def aclose(self) -> None:
        """Ends what goes on and gives back what it holds; again and again."""
        ...


if TYPE_CHECKING:
    from .embeddings import EmbeddingEngine, RemoteEmbeddingEngine
    from .local import Engine
    from .remote import RemoteEngine

    def all_are_engines(
        local: Engine, remote: RemoteEngine, encoder: EmbeddingEngine, remote_encoder: RemoteEmbeddingEngine
    ) -> tuple[ModelEngine, ModelEngine, Embedder, Embedder]:
        return local, remote, encoder, remote_encoder
