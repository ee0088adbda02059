"""EngineWorker: one life of an engine, from start to close, in a thread that owns the model."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING

from ...streaming.errors import MillraceError, ModelError, require
from .admission import NEVER, Admission, RateMeter
from .generations import Generation, Waiter, wake
from .requests import Delta, FinishReason, Request
from .sequences import Sequence
from .sources import EngineSettings
from .statuses import EngineStatus
from .switching import quick_switching

if TYPE_CHECKING:
    from .assembling import Assembled
    from .core import EngineCore, Output

__all__ = ["EngineRetired", "EngineWorker"]

log = logging.getLogger("millrace.local")

PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "jinja2")
"""What the extra "local" installs for the engine."""


class EngineClosed(Exception):
    """The engine was closed while it loaded."""


class EngineRetired(Exception):
    """The worker has unloaded the model, since nobody asked anything for long."""


class EngineWorker:
    """Loads a model and serves requests until it is closed.

    Two threads: `millrace-engine` owns the model, every call of torch included; `millrace-prepare` turns requests
    into tokens and ends those that have waited too long. Callers' threads only put requests in and take deltas.

    A request is *unprepared*, then *prepared*, then the core's. Until it first runs, whoever cancels it ends it
    at once; from then on only the engine's thread does, when its blocks are free.
    """

    def __init__(self, settings: EngineSettings, listen: Callable[[float, str], None]) -> None:
        self.settings = settings
        self.ready: Future[None] = Future()
        self._process = os.getpid()
        self._listen = listen
        self._changed = threading.Condition()
        self._over = threading.Event()
        self._admission = Admission(settings.limits)
        self._rate = RateMeter()
        self._status = EngineStatus(state="loading", stage="starting")
        self._closing = False
        self.retired = False
        """It was idle for so long that it unloaded; another one takes the next request."""
        self._error: MillraceError | None = None
        self._assembled: Assembled | None = None
        self._unprepared: deque[Generation] = deque()
        self._prepared: deque[Sequence] = deque()
        self._threads = (
            threading.Thread(target=self._run, name="millrace-engine", daemon=True),
            threading.Thread(target=self._run_prepare, name="millrace-prepare", daemon=True),
        )

    # ------------------------------------------------------------ from any thread

    @property
    def over(self) -> bool:
        """It has failed, was closed, or belongs to the process that this one was forked from."""
        return self._closing or self._process != os.getpid()

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def submit(self, request: Request) -> Generation:
        """Takes a request in, or refuses it at once."""
        generation = Generation(request, self._on_end)
        self.accept(generation)
        return generation

    def accept(self, generation: Generation) -> None:
        """Takes in what a caller holds already."""
        if self._process != os.getpid():
            raise ModelError(
                "this engine runs in the process that this one was forked from; start one of its own"
            )
        with self._changed:
            if self._error is not None:
                raise own_copy(self._error)
            if self.retired:
                raise EngineRetired
            if self._closing:
                raise ModelError("the engine is closed; start() loads it again")
            self._admission.check()
            self._admission.add(generation)
            self._unprepared.append(generation)
            self._changed.notify_all()

    def status(self) -> EngineStatus:
        with self._changed:
            found = replace(self._status, **self._admission.figures())
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
                tokens_reused=core.blocks.tokens_reused,
                tokens_produced=core.tokens_produced,
                preemptions=core.scheduler.preemptions,
                tokens_per_second=self._rate.rate(core.tokens_produced),
            )

    def idle_for(self) -> float:
        """Seconds since there was anything to do."""
        with self._changed:
            return self._admission.idle_for()

    def retire(self, idle: float) -> bool:
        """Takes no more requests, if there was none for `idle` seconds; then it can be closed."""
        with self._changed:
            self.retired = not self._closing and self._admission.idle_for() >= idle
            return self.retired

    def wait_over(self, timeout: float) -> None:
        """Waits until it is closed, `timeout` seconds at most."""
        self._over.wait(timeout)

    def close(self, timeout: float) -> None:
        """Ends everything that runs or waits as cancelled and gives the memory back; again and again."""
        if self._process != os.getpid():
            return
        self._over.set()
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(timeout)
                if thread.is_alive():
                    log.warning("%s is still at work after %.0f s", thread.name, timeout)

    def _on_end(self, generation: Generation) -> None:
        """A generation is over and its place is free; or it was cancelled, and the engine's thread will end it."""
        with self._changed:
            if generation.finish_reason is not None:
                self._admission.release(generation)
            if isinstance(generation.sequence, Sequence) and self._assembled is not None:
                self._assembled.core.abort(generation.sequence)
            self._changed.notify_all()

    # ------------------------------------------------------------ the engine's thread

    def _run(self) -> None:
        try:
            with quick_switching():
                self._serve(self._load())
            self._end_all(None)
        except BaseException as error:
            if self._closing:  # whatever a load says that was cut short, such as by the interpreter's end
                log.debug("closed while at work", exc_info=error)
                self._end_all(None)
            else:
                self._fail(error)
        with self._changed:
            self._assembled = None
            if self._error is None:
                self._status = replace(self._status, state="closed", stage="")
            self._changed.notify_all()
        if not self.ready.done():
            self.ready.set_exception(self._error or ModelError("the engine was closed while it loaded"))

    def _load(self) -> EngineCore:
        for package in PACKAGES:
            require(package, "local")
        from .assembling import assemble

        assembled = assemble(self.settings, self._say)
        self._listen(1.0, "ready")
        with self._changed:
            self._assembled = assembled
            self._admission.open_since = time.monotonic()
            self._status = replace(
                self._status, state="ready", stage="ready", progress=1.0, model=assembled.name
            )
            self._changed.notify_all()
        self.ready.set_result(None)
        return assembled.core

    def _say(self, fraction: float, stage: str) -> None:
        with self._changed:
            if self._closing:
                raise EngineClosed
            self._status = replace(self._status, progress=fraction, stage=stage)
        self._listen(fraction, stage)

    def _serve(self, core: EngineCore) -> None:
        while True:
            with self._changed:
                while core.idle and not self._prepared and not self._closing:
                    self._changed.wait()
                if self._closing:
                    return
                while self._prepared:
                    core.add(self._prepared.popleft())
            self._deliver(core.step())
            self._rate.note(core.tokens_produced)

    def _deliver(self, outputs: list[Output]) -> None:
        """Hands a step's deltas out: one wake-up for each event loop."""
        waiters: list[Waiter] = []
        for sequence, delta in outputs:
            generation = sequence.listener
            assert isinstance(generation, Generation)
            if delta.finish_reason is None:
                waiters += generation.push(delta)
            else:
                waiters += self._end(generation, delta)
        wake(waiters)

    def _end(self, generation: Generation, last: Delta) -> list[Waiter]:
        """Ends a request: whoever sees its end finds its place free."""
        with self._changed:
            waiters = generation.push(last)
            self._admission.release(generation)
        return waiters

    def _fail(self, error: BaseException) -> None:
        """The engine cannot go on: whoever waits is told now, and whoever comes later at once."""
        if self._assembled is not None:  # while it loads, whoever waits for that is told
            log.error("the engine has stopped", exc_info=error)
        failure = (
            error if isinstance(error, MillraceError) else ModelError(f"the engine has stopped: {error!r}")
        )
        if failure is not error:
            failure.__cause__ = error
        with self._changed:
            self._error = failure
            self._status = replace(self._status, state="failed", error=str(failure))
        self._end_all(failure)

    def _end_all(self, failure: MillraceError | None) -> None:
        """Ends every request, wherever it stands: with this error, or as cancelled."""
        with self._changed:
            self._closing = True
            live = list(self._admission.live)
            self._changed.notify_all()
        reason: FinishReason = "cancelled" if failure is None else "error"
        for generation in live:
            error = None if failure is None else own_copy(failure)
            wake(self._end(generation, Delta(finish_reason=reason, usage=generation.usage, error=error)))

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
                overdue = self._admission.overdue()
                if not overdue:
                    if self._closing:
                        return None
                    if self._unprepared and self._assembled is not None:
                        return self._unprepared.popleft()
                    due = self._admission.next_due()
                    self._changed.wait(None if due == NEVER else max(0.0, due - time.monotonic()))
            for generation in overdue:
                generation.end_unbegun(self._admission.last_words(generation))

    def _prepare_one(self, generation: Generation) -> None:
        request, assembled = generation.request, self._assembled
        if generation.finish_reason is not None or assembled is None:
            return
        try:
            prompt = assembled.prompts.build(request)
        except Exception as error:
            generation.end_unbegun(Delta(finish_reason="error", usage=generation.usage, error=error))
            return
        sequence = Sequence(
            prompt.token_ids,
            len(prompt.token_ids),
            prompt.max_tokens,
            request.sampling,
            deadline=request.deadline,
            continues_text=request.messages is None,
            listener=generation,
            is_stopped=request.is_stopped,
            salt=request.salt,
            session=request.session,
            splitter=prompt.splitter,
            constraint=prompt.constraint,
        )
        with self._changed:
            if generation.join_line(sequence, prompt.dropped):
                self._prepared.append(sequence)
                self._changed.notify_all()


def own_copy(error: MillraceError) -> MillraceError:
    """The same error for one more of those who wait: a traceback belongs to one raise."""
    found = copy(error)
    found.__cause__ = error.__cause__
    return found
