"""EmbeddingJob: the caller's handle on some texts that are to become vectors."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal

from ...streaming.usage import TokenUsage

__all__ = ["Embedded", "EmbeddingJob", "JobStatus", "Vector"]

Vector = list[float]
JobStatus = Literal["waiting", "running", "finished"]


@dataclass(frozen=True, slots=True)
class Embedded:
    """The vectors of some texts, in their order, and what they cost."""

    vectors: list[Vector]
    usage: TokenUsage


class EmbeddingJob:
    """Some texts on their way to vectors.

    `usage` has the tokens that were read; `finish_reason` is `stop`, `cancelled` or `error`, and None before the end.
    """

    def __init__(self, texts: Sequence[str], on_cancel: Callable[[EmbeddingJob], None]) -> None:
        self.texts = tuple(texts)
        self.submitted = time.monotonic()
        self.usage = TokenUsage()
        self.finish_reason: str | None = None
        self.begun = False
        """Some of its texts are, or were, in a forward."""
        self._on_cancel = on_cancel
        self._lock = threading.Lock()
        self._done: Future[list[Vector] | None] = Future()

    @property
    def status(self) -> JobStatus:
        if self.finish_reason is not None:
            return "finished"
        return "running" if self.begun else "waiting"

    def cancel(self) -> None:
        """Stops it; from any thread, again and again. Of its texts no further one is computed."""
        if self.end("cancelled"):
            self._on_cancel(self)

    async def result(self) -> Embedded:
        """Waits for the vectors.

        Raises:
            MillraceError: it failed, or a text is too long.
            asyncio.CancelledError: it was cancelled by somebody else.
        """
        vectors = await asyncio.shield(asyncio.wrap_future(self._done))
        if vectors is None:
            raise asyncio.CancelledError("the texts were cancelled")
        return Embedded(vectors, self.usage)

    # ------------------------------------------------------------ for the engine

    def end(
        self, reason: str, vectors: list[Vector] | None = None, error: BaseException | None = None
    ) -> bool:
        """Ends it; false where it has ended already."""
        with self._lock:
            if self.finish_reason is not None:
                return False
            self.finish_reason = reason
        if error is not None:
            self._done.set_exception(error)
        else:
            self._done.set_result(vectors)
        return True
