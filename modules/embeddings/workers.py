"""EmbeddingWorker: one life of an embedding engine, from start to close, in the thread that owns the encoder."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING

from ...streaming.errors import MillraceError, ModelError, Overloaded, require
from ...streaming.usage import TokenUsage
from ..local import EngineStatus
from ..local.admission import RateMeter
from ..local.switching import quick_switching
from ..local.workers import own_copy
from .batches import Batch, Batcher, Work
from .jobs import EmbeddingJob, Vector
from .sources import EmbeddingSettings

if TYPE_CHECKING:
    from .encoders import Encoder

__all__ = ["EmbeddingWorker"]

log = logging.getLogger("millrace.embeddings")

PACKAGES = ("torch", "transformers", "tokenizers", "safetensors")
"""What the extra "local" installs for encoders."""


class EmbeddingClosed(Exception):
    """The engine was closed while it loaded."""


class EmbeddingWorker:
    """Loads an encoder and serves jobs until it is closed; every call of torch is made in its one thread."""

    def __init__(self, settings: EmbeddingSettings, listen: Callable[[float, str], None]) -> None:
        self.settings = settings
        self.ready: Future[None] = Future()
        self._process = os.getpid()
        self._listen = listen
        self._changed = threading.Condition()
        self._live: dict[EmbeddingJob, None] = {}
        """In the order of their coming."""
        self._new: list[EmbeddingJob] = []
        self._status = EngineStatus(state="loading", stage="starting", model=str(settings.source))
        self._stops: dict[str, int] = {}
        self._rate = RateMeter()
        self._read = self._steps = 0
        self._open_since: float | None = None
        self._closing = False
        self._error: MillraceError | None = None
        self._thread = threading.Thread(target=self._run, name="millrace-embedding", daemon=True)

    # ------------------------------------------------------------ from any thread

    @property
    def over(self) -> bool:
        """It has failed, was closed, or belongs to the process that this one was forked from."""
        return self._closing or self._process != os.getpid()

    def start(self) -> None:
        self._thread.start()

    def submit(self, texts: Sequence[str]) -> EmbeddingJob:
        """Takes texts in, or refuses them at once."""
        limits = self.settings.limits
        with self._changed:
            if self._error is not None:
                raise own_copy(self._error)
            if self.over:
                raise ModelError("the embedding engine is closed; start() loads it again")
            if len(self._live) >= limits.running + limits.waiting:
                raise Overloaded(
                    f"{len(self._live)} requests for embeddings run or wait, as many as Limits(running="
                    f"{limits.running}, waiting={limits.waiting}) let in; try again later"
                ).for_clients()
            job = EmbeddingJob(texts, self._on_cancel)
            self._live[job] = None
            self._new.append(job)
            self._changed.notify_all()
        return job

    def status(self) -> EngineStatus:
        with self._changed:
            running = sum(job.begun for job in self._live)
            return replace(
                self._status,
                running=running,
                waiting=len(self._live) - running,
                steps=self._steps,
                tokens_read=self._read,
                tokens_per_second=self._rate.rate(self._read),
                stops=dict(self._stops),
            )

    def close(self, timeout: float) -> None:
        """Ends everything as cancelled and gives the memory back; again and again."""
        if self._process != os.getpid():
            return
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)
            if self._thread.is_alive():
                log.warning("%s is still at work after %.0f s", self._thread.name, timeout)

    def _on_cancel(self, job: EmbeddingJob) -> None:
        with self._changed:
            if self._live.pop(job, False) is None:
                self._stops["cancelled"] = self._stops.get("cancelled", 0) + 1

    # ------------------------------------------------------------ the engine's thread

    def _run(self) -> None:
        try:
            with quick_switching():
                self._serve(self._load())
        except EmbeddingClosed:
            pass
        except BaseException as error:
            self._fail(error)
        self._end_all()

    def _load(self) -> Encoder:
        for package in PACKAGES:
            require(package, "local")
        from .encoders import load_encoder

        encoder = load_encoder(self.settings, self._say)
        self._listen(1.0, "ready")
        with self._changed:
            self._open_since = time.monotonic()
            self._status = replace(
                self._status,
                state="ready",
                stage="ready",
                progress=1.0,
                model=encoder.loaded.name,
                context_length=encoder.longest,
            )
        self.ready.set_result(None)
        return encoder

    def _say(self, fraction: float, stage: str) -> None:
        with self._changed:
            if self._closing:
                raise EmbeddingClosed
            self._status = replace(self._status, progress=fraction, stage=stage)
        self._listen(fraction, stage)

    def _serve(self, encoder: Encoder) -> None:
        batcher = Batcher(self.settings.batch_tokens, self.settings.limits.running)
        while True:
            with self._changed:
                while batcher.idle and not self._new and not self._closing:
                    self._changed.wait()
                if self._closing:
                    return
                new, self._new = self._new, []
            for job in new:
                self._take_in(job, encoder, batcher)
            self._refuse_overdue()
            batch = batcher.next_batch()
            if batch:
                self._compute(batch, encoder)

    def _take_in(self, job: EmbeddingJob, encoder: Encoder, batcher: Batcher) -> None:
        if job.finish_reason is not None:
            return
        try:
            rows = encoder.tokens(job.texts)
        except Exception as error:
            self._end(job, "error", error=error)
            return
        if rows:
            batcher.add(Work(job, rows))
        else:
            self._end(job, "stop", [])

    def _compute(self, batch: Batch, encoder: Encoder) -> None:
        """One forward; where it fails, each half of it, so that at last only one text is to blame."""
        rows = [work.rows[at] for work, at in batch]
        try:
            vectors = encoder.encode(rows)
        except Exception as error:
            if len(batch) == 1:
                self._end(batch[0][0].job, "error", error=error)
                return
            half = len(batch) // 2
            self._compute(batch[:half], encoder)
            self._compute(batch[half:], encoder)
            return
        with self._changed:
            self._steps += 1
            self._read += sum(map(len, rows))
            self._rate.note(self._read)
        for (work, at), vector in zip(batch, vectors, strict=True):
            self._deliver(work, at, vector)

    def _deliver(self, work: Work, at: int, vector: Vector) -> None:
        work.job.usage += TokenUsage(len(work.rows[at]), 0)
        if not vector:
            error = ModelError(
                f"{self._status.model} gave numbers that are none (NaN or infinite) for text {at}; try dtype='float32'"
            )
            self._end(work.job, "error", error=error)
        elif work.take(at, vector):
            self._end(work.job, "stop", work.vectors)

    def _end(
        self,
        job: EmbeddingJob,
        reason: str,
        vectors: list[Vector] | None = None,
        error: BaseException | None = None,
    ) -> None:
        """Whoever sees the end finds the place free."""
        with self._changed:
            if job.finish_reason is None and job in self._live:
                del self._live[job]
                self._stops[reason] = self._stops.get(reason, 0) + 1
        job.end(reason, vectors, error)

    def _refuse_overdue(self) -> None:
        """Ends those that have waited too long for their first forward; loading does not count."""
        assert self._open_since is not None
        longest = self.settings.limits.queue_timeout
        now = time.monotonic()
        with self._changed:
            overdue = [
                job
                for job in self._live
                if not job.begun and now - max(job.submitted, self._open_since) > longest
            ]
        for job in overdue:
            error = Overloaded(
                f"no turn came within {longest:g} s, which is Limits(queue_timeout); try again later"
            )
            self._end(job, "error", error=error.for_clients())

    def _fail(self, error: BaseException) -> None:
        """The engine cannot go on."""
        if self.ready.done():  # while it loads, whoever waits for that is told
            log.error("the embedding engine has stopped", exc_info=error)
        failure = (
            error if isinstance(error, MillraceError) else ModelError(f"the engine has stopped: {error!r}")
        )
        if failure is not error:
            failure.__cause__ = error
        with self._changed:
            self._error = failure
            self._status = replace(self._status, state="failed", error=str(failure))

    def _end_all(self) -> None:
        """Ends every job, wherever it stands: with the engine's error, or as cancelled."""
        with self._changed:
            self._closing = True
            live, failure = list(self._live), self._error
            if failure is None:
                self._status = replace(self._status, state="closed", stage="")
        for job in live:
            if failure is None:
                self._end(job, "cancelled")
            else:
                self._end(job, "error", error=own_copy(failure))
        if not self.ready.done():
            self.ready.set_exception(failure or ModelError("the engine was closed while it loaded"))
