"""EmbeddingEngine: an encoder on this machine that many callers share."""

from __future__ import annotations

import asyncio
import atexit
import logging
import threading
from collections.abc import Callable, Sequence
from weakref import WeakSet

from ...streaming.limits import Limits
from ..local import EngineStatus
from ..local.sources import Source
from .jobs import Embedded, EmbeddingJob
from .sources import EmbeddingSettings, Pooling
from .workers import EmbeddingWorker

__all__ = ["EmbeddingEngine"]

log = logging.getLogger("millrace.embeddings")

EXIT_GRACE = 10.0
"""Seconds that closing waits for the forward at hand."""

ProgressListener = Callable[[float, str], None]
_running: WeakSet[EmbeddingEngine] = WeakSet()


class EmbeddingEngine:
    """Turns texts into vectors, those of many callers in one forward.

    Making one is cheap and loads nothing; `start`, or the first texts, do. All methods may be called from any thread
    and any event loop.

    Args:
        source: a directory with weights (safetensors), `org/name` from the local cache of the model hub, or a
            function that returns `(model, tokenizer)`; the engine then owns that model.
        device: `"auto"`, `"cpu"`, `"cuda"`, `"cuda:1"`.
        dtype: `"auto"` (the weights' own; float32 for float16 weights on a CPU) or a torch dtype's name.
        pooling: how the tokens' vectors become one; `"auto"` is what the directory says, otherwise their mean.
        normalize: whether vectors get the length 1.
        limits: how many requests run and wait, and how long.
        batch_tokens: of one forward at most, padding included.

    Raises:
        ValueError: a kind of pooling that there is not, or no number of tokens.
    """

    def __init__(
        self,
        source: Source,
        *,
        device: str = "auto",
        dtype: str = "auto",
        pooling: Pooling = "auto",
        normalize: bool = True,
        limits: Limits | None = None,
        batch_tokens: int = 8192,
    ) -> None:
        self.settings = EmbeddingSettings(
            source, device, dtype, pooling, normalize, limits or Limits(), batch_tokens
        )
        self._lock = threading.Lock()
        self._worker: EmbeddingWorker | None = None
        self._listeners: list[ProgressListener] = []

    # ------------------------------------------------------------ life

    def start(self) -> None:
        """Begins to load, unless that has been done; an engine that was closed or has failed loads again."""
        with self._lock:
            if self._worker is None or self._worker.over:
                self._worker = EmbeddingWorker(self.settings, self._tell)
                _close_at_exit(self)
                self._worker.start()

    async def ready(self) -> None:
        """Waits until a vector can be made; starts the engine if nobody has.

        Raises:
            ModelError: the encoder could not be loaded.
        """
        await asyncio.shield(asyncio.wrap_future(self._started_worker().ready))

    def status(self) -> EngineStatus:
        """How the engine is, at once; blocks are a language model's, and there are none."""
        worker = self._worker
        return EngineStatus(model=str(self.settings.source)) if worker is None else worker.status()

    def close(self) -> None:
        """Ends all requests as cancelled and gives the memory back; again and again.

        Waits for the forward at hand, at most 10 seconds.
        """
        worker = self._worker
        if worker is not None:
            worker.close(EXIT_GRACE)

    async def aclose(self) -> None:
        """`close` for coroutines: the event loop goes on while it waits."""
        await asyncio.to_thread(self.close)

    def add_progress_listener(self, listener: ProgressListener) -> Callable[[], None]:
        """Calls `listener(fraction, stage)` while the encoder loads, in the engine's thread; returns the undoing."""
        self._listeners.append(listener)

        def remove() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return remove

    # ------------------------------------------------------------ requests

    def submit(self, texts: Sequence[str]) -> EmbeddingJob:
        """Takes texts in; cheap, from any thread; starts the engine if it is cold.

        Raises:
            Overloaded: as many requests run and wait as `limits` allow; nothing was done for this one.
            ModelError: the engine has failed, or was closed.
        """
        return self._started_worker().submit(texts)

    async def embed(self, texts: Sequence[str]) -> Embedded:
        """The vectors of some texts; cancelling it stops the work on them.

        Raises:
            Overloaded: as many requests run and wait as `limits` allow, or no turn came in time.
            ContextLengthExceeded: a text is too long.
            ModelError: the encoder cannot be loaded, or has failed.
        """
        job = self.submit(texts)
        try:
            return await job.result()
        finally:
            job.cancel()

    def _started_worker(self) -> EmbeddingWorker:
        if self._worker is None:
            self.start()
        assert self._worker is not None
        return self._worker

    def _tell(self, fraction: float, stage: str) -> None:
        for listener in list(self._listeners):
            try:
                listener(fraction, stage)
            except Exception:
                log.exception("a progress listener failed at %r", stage)


def _close_at_exit(engine: EmbeddingEngine) -> None:
    """Sees to it that no thread is inside of torch when the interpreter ends."""
    if not _running:
        atexit.unregister(_close_all)
        atexit.register(_close_all)
    _running.add(engine)


def _close_all() -> None:
    for engine in list(_running):
        engine.close()
