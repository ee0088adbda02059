"""EngineWorker: one life of an engine, from start to close, in one thread that owns the model."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from ...streaming.errors import ModelError, Overloaded
from .generations import Generation, Waiter, wake
from .requests import Delta, FinishReason, Request
from .sources import EngineSettings
from .statuses import EngineStatus

__all__ = ["EngineWorker"]

log = logging.getLogger("millrace.local")

RATE_WINDOW = 5.0
"""Seconds over which tokens per second are counted."""


class EngineClosed(Exception):
    """The engine was closed while it loaded."""


class EngineWorker:
    """Loads a model and serves requests until it is closed.

    Two threads: `millrace-engine` owns the model, every call of torch included; `millrace-prepare` turns requests
    into tokens and ends those that have waited too long. Callers' threads only put requests in and take deltas.
    """

    def __init__(self, settings: EngineSettings, listen: Callable[[float, str], None]) -> None:
        self.settings = settings
        self.ready: Future[None] = Future()
        self._listen = listen
        self._changed = threading.Condition()
        self._status = EngineStatus(state="loading", stage="starting")
        self._closing = False
        self._error: ModelError | None = None
        self._assembled: Any = None
        self._ready_at = 0.0
        self._live: set[Generation] = set()
        self._unprepared: deque[Generation] = deque()
        self._prepared: deque[Generation] = deque()
        self._stops: Counter[str] = Counter()
        self._mean_time = 1.0
        self._rate: deque[tuple[float, int]] = deque()
        self._engine = threading.Thread(target=self._run, name="millrace-engine", daemon=True)
        self._prepare = threading.Thread(target=self._run_prepare, name="millrace-prepare", daemon=True)

    def start(self) -> None:
        self._engine.start()
        self._prepare.start()

    # ------------------------------------------------------------ from any thread

    def submit(self, request: Request) -> Generation:
        """Takes a request in, or refuses it at once."""
        limits = self.settings.limits
        with self._changed:
            if self._error is not None:
                raise ModelError(str(self._error)) from self._error
            if self._closing:
                raise ModelError("the engine is closed")
            if len(self._live) >= limits.running + limits.waiting:
                raise Overloaded(
                    f"{limits.running} requests run and {limits.waiting} wait, which are Limits(running, waiting); "
                    "try again later",
                    self._retry_after(),
                )
            generation = Generation(request, self._cancelled)
            self._live.add(generation)
            self._unprepared.append(generation)
            self._changed.notify_all()
        return generation

    def status(self) -> EngineStatus:
        with self._changed:
            running = sum(generation.status == "running" for generation in self._live)
            found = replace(
                self._status, running=running, waiting=len(self._live) - running, stops=dict(self._stops)
            )
            if self._assembled is None:
                return found
            core = self._assembled.core
            return replace(
                found,
                blocks_used=core.blocks.used,
                blocks_total=core.blocks.total,
                block_size=core.blocks.block_size,
                context_length=self._assembled.prompts.limit,
                steps=core.steps,
                tokens_read=core.tokens_read,
                tokens_produced=core.tokens_produced,
                preemptions=core.scheduler.preemptions,
                tokens_per_second=self._tokens_per_second(),
            )

    def close(self, timeout: float) -> None:
        """Ends everything that runs or waits as cancelled and gives the memory back; again and again."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in (self._engine, self._prepare):
            if thread is not threading.current_thread():
                thread.join(timeout)
                if thread.is_alive():
                    log.warning("%s is still at work after %.0f s", thread.name, timeout)

    def _cancelled(self, generation: Generation) -> None:
        """A generation's cancel: the engine is told, or it is over already and its place is free."""
        with self._changed:
            if generation.finish_reason is not None:
                self._release(generation)
            if generation.sequence is not None and self._assembled is not None:
                self._assembled.core.abort(generation.sequence)
            self._changed.notify_all()

    def _release(self, generation: Generation) -> None:
        """Counts an end and frees the place; with the lock held."""
        if generation in self._live:
            self._live.discard(generation)
            self._stops[generation.finish_reason or "error"] += 1
            if generation.finish_reason in ("stop", "length"):
                spent = time.monotonic() - generation.submitted
                self._mean_time += 0.2 * (spent - self._mean_time)

    def _retry_after(self) -> float:
        """When a place may be free: the mean time of a request, by how many stand before."""
        turns = len(self._live) / self.settings.limits.running
        return round(min(max(self._mean_time * turns, 1.0), self.settings.limits.queue_timeout), 1)

    # ------------------------------------------------------------ the engine's thread

    def _run(self) -> None:
        try:
            self._load()
            self._serve()
            self._end_all(lambda: None)
        except EngineClosed:
            self._end_all(lambda: None)
        except BaseException as error:
            self._fail(error)
        finally:
            with self._changed:
                self._assembled = None
                if self._error is None:
                    self._status = replace(self._status, state="closed", stage="")
                self._changed.notify_all()
            if not self.ready.done():
                self.ready.set_exception(self._error or ModelError("the engine was closed while it loaded"))

    def _load(self) -> None:
        from .assembling import assemble

        assembled = assemble(self.settings, self._say)
        with self._changed:
            self._assembled = assembled
            self._ready_at = time.monotonic()
            self._status = replace(
                self._status, state="ready", stage="ready", progress=1.0, model=assembled.name
            )
            self._changed.notify_all()
        self._listen(1.0, "ready")
        self.ready.set_result(None)

    def _say(self, fraction: float, stage: str) -> None:
        with self._changed:
            if self._closing:
                raise EngineClosed
            self._status = replace(self._status, progress=fraction, stage=stage)
        self._listen(fraction, stage)

    def _serve(self) -> None:
        core = self._assembled.core
        while True:
            with self._changed:
                while core.idle and not self._prepared and not self._closing:
                    self._changed.wait()
                if self._closing:
                    return
                while self._prepared:
                    core.add(self._prepared.popleft().sequence)
            self._deliver(core.step())
            self._note_rate(core.tokens_produced)

    def _deliver(self, outputs: list[tuple[Any, Delta]]) -> None:
        """Hands a step's deltas out: one wake-up for each event loop."""
        waiters: list[Waiter] = []
        for sequence, delta in outputs:
            generation: Generation = sequence.listener
            waiters += generation.push(delta)
            if delta.finish_reason is not None:
                with self._changed:
                    self._release(generation)
        wake(waiters)

    def _fail(self, error: BaseException) -> None:
        """The engine cannot go on: everybody who waits is told, and whoever comes later."""
        log.error("the engine has stopped", exc_info=error)
        failure = error if isinstance(error, ModelError) else ModelError(f"the engine has stopped: {error!r}")
        with self._changed:
            self._error = failure
            self._status = replace(self._status, state="failed", error=str(failure))
            self._changed.notify_all()

        def fresh() -> ModelError:
            copy = ModelError(str(failure))
            copy.__cause__ = error
            return copy

        self._end_all(fresh)

    def _end_all(self, make_error: Callable[[], ModelError | None]) -> None:
        """Ends every generation, whether the core knows it or not: as failed, or as cancelled."""
        with self._changed:
            self._closing = True
            live = list(self._live)
            self._changed.notify_all()
        if self._assembled is not None:
            self._assembled.core.cancel_all()
        for generation in live:
            error = make_error()
            reason: FinishReason = "cancelled" if error is None else "error"
            waiters = generation.push(Delta(finish_reason=reason, usage=generation.usage, error=error))
            with self._changed:
                self._release(generation)
            wake(waiters)

    def _note_rate(self, produced: int) -> None:
        now = time.monotonic()
        if not self._rate or now - self._rate[-1][0] > 0.1:
            self._rate.append((now, produced))
            while now - self._rate[0][0] > RATE_WINDOW:
                self._rate.popleft()

    def _tokens_per_second(self) -> float:
        now = time.monotonic()
        first = next(((at, count) for at, count in self._rate if now - at <= RATE_WINDOW), None)
        if first is None:
            return 0.0
        produced: int = self._assembled.core.tokens_produced - first[1]
        return produced / max(now - first[0], 0.1)

    # ------------------------------------------------------------ the preparing thread

    def _run_prepare(self) -> None:
        try:
            while (generation := self._next_unprepared()) is not None:
                self._prepare_one(generation)
        except BaseException as error:
            self._fail(error)

    def _next_unprepared(self) -> Generation | None:
        """Waits for a request to prepare, and ends those that have waited too long; None at the close."""
        while True:
            with self._changed:
                now = time.monotonic()
                overdue = [generation for generation in self._live if self._due(generation) <= now]
                if not overdue:
                    if self._closing:
                        return None
                    if self._unprepared and self._assembled is not None:
                        return self._unprepared.popleft()
                    due = min(map(self._due, self._live), default=float("inf"))
                    self._changed.wait(None if due == float("inf") else due - now)
            for generation in overdue:
                self._expire(generation)

    def _due(self, generation: Generation) -> float:
        """When a request that does not run has waited too long; loading does not count."""
        if generation.begun:
            return float("inf")
        deadline = generation.request.deadline
        due = float("inf") if deadline is None else deadline
        if self._assembled is None:
            return due
        return min(due, max(generation.submitted, self._ready_at) + self.settings.limits.queue_timeout)

    def _expire(self, generation: Generation) -> None:
        deadline = generation.request.deadline
        if deadline is not None and time.monotonic() >= deadline:
            last = Delta(finish_reason="timeout", usage=generation.usage)
        else:
            limit = self.settings.limits.queue_timeout
            error = Overloaded(f"waited {limit:g} s without a turn, which is Limits(queue_timeout)", 1.0)
            last = Delta(finish_reason="error", usage=generation.usage, error=error)
        if generation.end_unbegun(last):
            self._cancelled(generation)

    def _prepare_one(self, generation: Generation) -> None:
        from .sequences import Sequence

        request = generation.request
        if generation.finish_reason is not None:
            return
        try:
            prompt = self._assembled.prompts.build(request)
        except Exception as error:
            if generation.end_unbegun(Delta(finish_reason="error", usage=generation.usage, error=error)):
                self._cancelled(generation)
            return
        sequence = Sequence(
            prompt.token_ids,
            len(prompt.token_ids),
            prompt.max_tokens,
            request.sampling,
            deadline=request.deadline,
            continues_text=request.messages is None,
            listener=generation,
        )
        with self._changed:
            if generation.join_line(sequence, prompt.dropped):
                self._prepared.append(generation)
                self._changed.notify_all()
