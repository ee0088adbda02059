"""ProcessWorker: one life of an engine in a process of its own, seen from the parent."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from ....streaming.errors import MillraceError, ModelError
from ....streaming.usage import TokenUsage
from ..admission import Admission, RateMeter
from ..generations import Generation, Waiter, wake
from ..requests import Delta, Request
from ..sources import EngineSettings
from ..statuses import EngineStatus
from ..workers import EngineRetired, own_copy
from .framing import Pipe
from .wires import delta_from, error_from, request_to, settings_to

__all__ = ["ProcessWorker"]

log = logging.getLogger("millrace.local")

TRIES = 3
"""Processes that may die one after another without having become ready; then the engine has failed."""

BOOT = "import json, sys; sys.path[:] = json.loads(sys.argv[2]); from {} import main; main(int(sys.argv[1]))"


class Tally:
    """How many tokens a request has read and produced, as far as is known here."""

    def __init__(self, prompt_tokens: int) -> None:
        self.usage = TokenUsage(prompt_tokens, 0)


class Child:
    """A process and the pipe to it."""

    def __init__(self, settings: dict[str, Any]) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            boot = BOOT.format(__name__.replace(".workers", ".children"))
            self.process = subprocess.Popen(
                [sys.executable, "-c", boot, str(theirs.fileno()), json.dumps(sys.path)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        self.pipe = Pipe(ours)
        self.pipe.send(settings)

    def end(self, grace: float) -> int:
        """Lets go of the process, which then ends by itself, or is ended after `grace` s; returns its exit code."""
        self.pipe.close()
        try:
            self.process.wait(grace)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.pipe.dispose()
        return self.process.returncode


class ProcessWorker:
    """Keeps a child process that runs the engine, and tells each caller what it says about their request.

    A thread, `millrace-engine`, starts the child and reads what it says. When the child dies, everybody who waits
    is told at once, and another one is started.
    """

    def __init__(self, settings: EngineSettings, listen: Callable[[float, str], None]) -> None:
        self.settings = settings
        self.ready: Future[None] = Future()
        self._settings = settings_to(settings)
        self._process = os.getpid()
        self._listen = listen
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._admission = Admission(settings.limits)
        self._rate = RateMeter()
        self._status = EngineStatus(state="loading", stage="starting", model=str(settings.source))
        self._closing = False
        self.retired = False
        """It was idle for so long that it unloaded; another one takes the next request."""
        self._error: MillraceError | None = None
        self._child: Child | None = None
        self._numbers: dict[Generation, int] = {}
        self._generations: dict[int, Generation] = {}
        self._next = 0
        self._unsent: deque[list[Any]] = deque()
        self._thread = threading.Thread(target=self._run, name="millrace-engine", daemon=True)

    # ------------------------------------------------------------ from any thread

    @property
    def over(self) -> bool:
        """It has failed, was closed, or belongs to the process that this one was forked from."""
        return self._closing or self._process != os.getpid()

    @property
    def pid(self) -> int | None:
        """The child's process id, while there is one."""
        child = self._child
        return child.process.pid if child is not None else None

    def start(self) -> None:
        self._thread.start()

    def submit(self, request: Request) -> Generation:
        """Takes a request in, or refuses it at once."""
        if self._process != os.getpid():
            raise ModelError(
                "this engine runs in the process that this one was forked from; start one of its own"
            )
        frame = request_to(request)
        with self._lock:
            if self._error is not None:
                raise own_copy(self._error)
            if self.retired:
                raise EngineRetired
            if self._closing:
                raise ModelError("the engine is closed; start() loads it again")
            self._admission.check()
            generation = Generation(request, self._on_end)
            self._admission.add(generation)
            self._next += 1
            self._numbers[generation], self._generations[self._next] = self._next, generation
            self._say("submit", self._next, frame)
        return generation

    def status(self) -> EngineStatus:
        with self._lock:
            return replace(
                self._status,
                **self._admission.figures(),
                tokens_per_second=self._rate.rate(self._status.tokens_produced),
            )

    def idle_for(self) -> float:
        """Seconds since there was anything to do."""
        with self._lock:
            return self._admission.idle_for()

    def retire(self, idle: float) -> bool:
        """Takes no more requests, if there was none for `idle` seconds; then it can be closed."""
        with self._lock:
            self.retired = not self._closing and self._admission.idle_for() >= idle
            return self.retired

    def wait_over(self, timeout: float) -> None:
        """Waits until it is closed, `timeout` seconds at most."""
        self._over.wait(timeout)

    def close(self, timeout: float) -> None:
        """Ends everything that runs or waits as cancelled, and the process; again and again.

        A process that still loads is killed: there is nothing to be lost, and loading cannot be stopped.
        """
        if self._process != os.getpid():
            return
        self._over.set()
        with self._lock:
            self._closing = True
            child = self._child
            if child is not None and self.ready.done():
                child.pipe.send({"said": [["close", timeout]]})
            elif child is not None:
                child.process.kill()
        if threading.current_thread() is self._thread:
            return
        self._thread.join(timeout)
        if self._thread.is_alive() and child is not None:
            log.warning(
                "the engine's process %d does not end within %.0f s; killing it", child.process.pid, timeout
            )
            child.process.kill()
            self._thread.join()

    def _say(self, *said: Any) -> None:
        """Sends to the child, or keeps it for the one that is being started. With the lock held."""
        if self._child is None:
            self._unsent.append(list(said))
        else:
            self._child.pipe.send({"said": [said]})

    def _on_end(self, generation: Generation) -> None:
        """A generation was cancelled: if it has not begun, it is over for its caller; the child hears of it."""
        with self._lock:
            number = self._numbers.get(generation)
            if generation.finish_reason is not None:
                self._forget(generation)
            if number is not None:
                self._say("cancel", number, generation.stopping or "cancelled")

    def _forget(self, generation: Generation) -> None:
        self._admission.release(generation)
        number = self._numbers.pop(generation, None)
        if number is not None:
            self._generations.pop(number, None)

    # ------------------------------------------------------------ the thread

    def _run(self) -> None:
        failures = 0
        while True:
            try:
                child = self._start_child()
            except Exception as error:
                self._fail(error)
                break
            if child is None:
                break
            was_ready = False
            try:
                was_ready = self._listen_to(child)
            except Exception as error:
                self._fail(error)
            code = child.end(1.0 if not self._closing else 30.0)
            failures = 0 if was_ready else failures + 1
            with self._lock:
                self._child = None
            if self._closing or self._error is not None:
                break
            died = ModelError(
                f"the engine's process died ({_cause(code)}); it is started again, so try once more"
            )
            log.error("the engine's process died (%s)", _cause(code))
            if failures >= TRIES:
                self._fail(
                    ModelError(f"the engine's process died {failures} times while it loaded ({_cause(code)})")
                )
                break
            self._restart(died)
        self._end_all(None)
        with self._lock:
            self._closing = True
            if self._error is None:
                self._status = replace(self._status, state="closed", stage="", blocks_used=0)
        if not self.ready.done():
            self.ready.set_exception(self._error or ModelError("the engine was closed while it loaded"))

    def _start_child(self) -> Child | None:
        """None where the engine was closed before."""
        if self.over:
            return None
        child = Child(self._settings)
        with self._lock:
            self._child = child
            if self._closing:
                child.process.kill()
            child.pipe.send({"said": list(self._unsent)})
            self._unsent.clear()
        return child

    def _listen_to(self, child: Child) -> bool:
        """Until the child is gone; whether it had become ready."""
        was_ready, counted = False, 0
        for frame in child.pipe.frames():
            with self._lock:
                if (counters := frame.get("counters")) is not None and counters["number"] > counted:
                    counted = counters.pop("number")
                    self._status = replace(self._status, **counters)
                    self._rate.note(self._status.tokens_produced)
            if (progress := frame.get("progress")) is not None:
                self._progress(*progress)
            self._take(frame["said"])
            if (name := frame.get("ready")) is not None:
                was_ready = True
                self._become_ready(name)
            if (failure := frame.get("failure")) is not None and not self._closing:
                self._fail(error_from(failure))
                break
        return was_ready

    def _progress(self, fraction: float, stage: str) -> None:
        with self._lock:
            self._status = replace(self._status, progress=fraction, stage=stage)
        self._listen(fraction, stage)

    def _become_ready(self, name: str) -> None:
        with self._lock:
            self._admission.open_since = time.monotonic()
            self._status = replace(
                self._status, state="ready", stage="ready", progress=1.0, model=name, error=""
            )
            ready = self.ready
        if not ready.done():
            ready.set_result(None)

    def _take(self, said: list[list[Any]]) -> None:
        """What the child says of requests: one wake-up for each event loop."""
        waiters: list[Waiter] = []
        for kind, number, *rest in said:
            generation = self._generations.get(number)
            if generation is None:
                continue
            if kind == "delta":
                waiters += self._delta(generation, delta_from(rest[0]))
            elif kind == "waits":
                generation.join_line(Tally(rest[0]), rest[1])
            elif kind == "begins":
                generation.begin()
            else:
                generation.pause()
        wake(waiters)
        for generation in list(self._generations.values()):
            self._ask(generation)

    def _ask(self, generation: Generation) -> None:
        """Ends a request whose caller says so in passing; where asking fails, with that error."""
        asked = generation.request.is_stopped
        try:
            if asked is not None and asked():
                generation.cancel()
        except Exception as error:
            with self._lock:
                if (number := self._numbers.get(generation)) is None:
                    return  # somebody has just cancelled it
                self._say("cancel", number, "cancelled")
                waiters = generation.push(Delta(finish_reason="error", usage=generation.usage, error=error))
                self._forget(generation)
            wake(waiters)

    def _delta(self, generation: Generation, delta: Delta) -> list[Waiter]:
        tally = generation.sequence
        if isinstance(tally, Tally) and delta.token_ids:
            usage = tally.usage
            tally.usage = TokenUsage(usage.prompt_tokens, usage.completion_tokens + len(delta.token_ids))
        if delta.finish_reason is None:
            return generation.push(delta)
        with self._lock:
            waiters = generation.push(delta)
            self._forget(generation)
        return waiters

    # ------------------------------------------------------------ ends

    def _restart(self, died: ModelError) -> None:
        """Tells everybody who waits, and begins anew."""
        with self._lock:
            self._admission.open_since = None
            self._status = replace(
                self._status,
                state="loading",
                stage="restarting",
                progress=0.0,
                blocks_used=0,
                error=str(died),
            )
            if self.ready.done():
                self.ready = Future()
            live = list(self._admission.live)
            self._unsent.clear()
        self._end_each(live, died)

    def _fail(self, error: BaseException) -> None:
        """The engine cannot go on: whoever waits is told now, and whoever comes later at once."""
        failure = (
            error if isinstance(error, MillraceError) else ModelError(f"the engine has stopped: {error!r}")
        )
        with self._lock:
            self._error = failure
            self._status = replace(self._status, state="failed", error=str(failure))
        self._end_all(failure)

    def _end_all(self, failure: MillraceError | None) -> None:
        with self._lock:
            self._closing = True
            live = list(self._admission.live)
        self._end_each(live, failure)

    def _end_each(self, live: list[Generation], failure: MillraceError | None) -> None:
        for generation in live:
            if failure is None:
                last = Delta(finish_reason="cancelled", usage=generation.usage)
            else:
                last = Delta(finish_reason="error", usage=generation.usage, error=own_copy(failure))
            with self._lock:
                waiters = generation.push(last)
                self._forget(generation)
            wake(waiters)


def _cause(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
