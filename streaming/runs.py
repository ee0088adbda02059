"""Runs: one invocation of a flow, from its caller down to the engine's request, with one way to stop it.

A run lives in a task of its own, on the loop of its listener or on the framework's. Whoever stops it calls
`run.cancel()`: two plain stores cut the producer off at once, from any thread; the task hears of it on its loop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from asyncio import AbstractEventLoop, CancelledError
from asyncio.events import _get_running_loop
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from copy import copy
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

from .blocking import acquire
from .errors import QueueError, RunCancelled, RunTimeout
from .events import Event, Path, RunFinished, RunStarted, TextDelta, Usage
from .forks import after_fork
from .kept import EventReader, KeptLog
from .memory import MemoryLog, call_soon, pending_cancel, resolve
from .messages import Message
from .notes import annotate
from .options import NO_OPTIONS, Options
from .sessions import SESSION, new_session_id
from .usage import TokenUsage

__all__ = ["Run", "RunStatus"]

logger = logging.getLogger("millrace.streaming")

RunStatus = Literal["queued", "running", "waiting", "done", "cancelled", "timeout", "error", "lost"]
Body = Callable[["Run"], Coroutine[Any, Any, Any]]

FRAME: ContextVar[tuple[Run, Path] | None] = ContextVar("millrace_frame", default=None)
"""The run that this code belongs to, and the path of the step."""

VOICE: ContextVar[tuple[int, Callable[[Event], None]] | None] = ContextVar("millrace_voice", default=None)
"""In the thread (its ident) of a generator: where its events go, so that they keep their place among its items."""

HOOKS: ContextVar[Any] = ContextVar("millrace_hooks", default=None)
"""Who wants to hear of the steps of the runs started in this context; flow/hooks.py says what it is."""

LIVE: set[Run] = set()
"""Runs that are going on. Loops hold tasks weakly, and run, task and log are one cycle: something must hold it."""

ABANDONED: set[object] = set()
"""Functions of ended runs that could not be stopped and still occupy their threads."""

LEFT = "listener left"
"""The reason of a run whose listener went away; the listener itself hears nothing of it."""


class Run:
    """One invocation of a flow. `id` is 128 random bits in hex, made at the first look."""

    name: str | None = None
    status: RunStatus = "running"
    reason: str | None = None
    parent: Run | None = None
    usage: TokenUsage = TokenUsage()
    history: tuple[Message, ...] = ()
    sampling: Any = MappingProxyType({})
    log: MemoryLog | KeptLog | None = None
    hooks: Any = None
    loop: AbstractEventLoop | None = None
    cut: str | None = None
    stop_when: Callable[[str], bool] | None = None
    finish_reason: str | None = None
    value: Any = None
    error: BaseException | None = None
    born = 0.0
    _id: str | None = None
    _session: str | None = None
    _outcome: RunStatus = "cancelled"
    _begun = False
    _delivered = False
    _task: asyncio.Task[None] | None = None
    _joined: set[asyncio.Task[Any]] | None = None
    _timer: asyncio.TimerHandle | None = None
    _children: set[Run] | None = None
    _watchers: list[Callable[[], object]] | None = None
    _said: list[str] | None = None

    @property
    def id(self) -> str:
        if self._id is not None:
            return self._id
        made: str = vars(self).setdefault("_id", os.urandom(16).hex())  # the first of several threads decides
        return made

    @property
    def session(self) -> str:
        """The id of the session that the run belongs to."""
        if self._session is not None:
            return self._session
        if self.parent is not None:
            return self.parent.session
        vars(self).setdefault("_new_session", new_session_id())
        made: str = vars(self)["_new_session"]
        return made

    @property
    def text(self) -> str:
        """The text of the output step as far as it was delivered to the listener."""
        return "".join(self.log.text) if self.log is not None else ""

    @property
    def over(self) -> bool:
        return self.status not in ("queued", "running", "waiting")

    # ------------------------------------------------------------ its life, on its loop

    def adopt(self, options: Options, parent: Run | None = None) -> None:
        """Takes what the caller gave; what is missing comes from the context or the parent."""
        hooks = HOOKS.get()
        if hooks is not None:
            self.hooks = hooks
        if parent is None:
            self._session = options.session or SESSION.get()
            if options is NO_OPTIONS:
                return
        else:
            self.parent = parent
            self._session = options.session or SESSION.get() or parent.session
        self.history = options.history or (parent.history if parent is not None else ())
        if options.sampling:
            self.sampling = options.sampling

    def open(
        self, body: Body, loop: AbstractEventLoop, context: Context, timeout: float | None = None
    ) -> None:
        """Starts the run's task; called on `loop`. `timeout` in seconds."""
        self.loop, self.born = loop, time.perf_counter()
        if self.parent is not None:
            if self.parent.over:
                self.cut = self.cut or "parent ended"
            else:
                if self.parent._children is None:
                    self.parent._children = set()
                self.parent._children.add(self)
        if self.cut is not None:
            if self.log is not None:
                self.log.put(RunStarted(), ())
            self._finish(self._outcome, self.cut)
            return
        if not LIVE:
            after_fork(LIVE.clear)
        LIVE.add(self)
        self._task = loop.create_task(self._main(body), context=context)
        if timeout is not None:
            self._timer = loop.call_later(timeout, self._cut, "deadline passed", "timeout")

    async def _main(self, body: Body) -> None:
        self._begun = True
        FRAME.set((self, ()))
        if self._session is not None:
            SESSION.set(self._session)
        try:
            if self.log is not None:
                self.log.put(RunStarted(), ())
            value = await body(self)
            if self.log is not None and self.log.failure is not None:
                raise self.log.failure
            if self.cut is not None:
                raise CancelledError  # a step swallowed the cancel: the run is cancelled all the same
        except CancelledError:
            self._finish(self._outcome, self.cut or "task cancelled")
        except BaseException as error:
            if isinstance(error, (StopIteration, StopAsyncIteration)):
                cause, error = error, RuntimeError(f"a step raised {type(error).__name__}")
                error.__cause__ = cause
            annotate(error, self)
            if self.cut is not None:
                if not isinstance(error, (RunCancelled, RunTimeout)):
                    logger.warning("the cleanup of a stopped run failed", exc_info=error)
                self._finish(self._outcome, self.cut)
            else:
                self._finish("error", "error", None, error)
        else:
            self._finish("done", self.finish_reason, value)

    def end_unbegun(self) -> None:
        """Ends a run whose task was cancelled before it had begun: nothing else does."""
        if not self._begun and not self.over:
            if self.log is not None:
                self.log.put(RunStarted(), ())
            self._finish(self._outcome, self.cut or "task cancelled")

    def has_lost_its_loop(self) -> bool:
        return self.loop is not None and self.loop.is_closed()

    def _finish(
        self,
        status: RunStatus,
        reason: str | None = None,
        value: Any = None,
        error: BaseException | None = None,
    ) -> None:
        if self.over:
            return
        if status == "done" and self._outcome == "done":
            value = "".join(self._said or ())
        self.reason, self.value, self.error = reason, value, error
        self.status = status
        self._task = None
        LIVE.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        if self.parent is not None:
            if self.parent._children is not None:
                self.parent._children.discard(self)
            self.parent.usage = self.parent.usage + self.usage
        for child in list(self._children or ()):
            child.cancel("parent ended")
        for task in list(self._joined or ()):
            task.cancel()
        try:
            if self.log is not None:
                event = RunFinished(status, reason, value, error, self.usage)
                self.log.close(event, skip=status in ("cancelled", "timeout"))
        finally:
            watchers, self._watchers = self._watchers, None
            for watcher in watchers or ():
                watcher()

    # ------------------------------------------------------------ stopping it

    def cancel(self, reason: str = "cancelled") -> None:
        """Stops the run and everything below it; from any task or thread, any number of times, without waiting."""
        self._cut(reason, "cancelled")

    def drop(self, reason: str) -> None:
        """`cancel` for a `__del__`, which may run anywhere: it only leaves word, and takes no lock."""
        self._cut(reason, "cancelled", at_once=False)

    def _cut(self, reason: str, outcome: RunStatus, at_once: bool = True) -> None:
        if self.cut is not None or self.over:
            return
        self._outcome = outcome
        self.cut = reason
        if self.log is not None:
            self.log.bound = 0
            self.log.skip = outcome != "done"
        for child in tuple(self._children or ()):
            child._cut("parent stopped", "cancelled", at_once)
        if self.loop is None:
            return
        if at_once and _get_running_loop() is self.loop:
            self._deliver()
        else:
            call_soon(self.loop, self._deliver)

    def _deliver(self) -> None:
        if self._delivered or self._task is None:
            return
        self._delivered = True
        if self.log is not None:
            self.log.cut = True
        self._task.cancel()
        self.end_unbegun()
        for task in self._joined or ():
            task.cancel()

    def is_cut(self) -> bool:
        """Whether the run is being stopped, or was; true from the very moment of `cancel()`."""
        return self.cut is not None

    async def park(self) -> None:
        """Waits for the cancel that is on its way; where it has been swallowed, raises it again."""
        await pending_cancel()

    def raise_if_cut(self) -> None:
        """Raises RunCancelled or RunTimeout when the run is being stopped or has been."""
        if self.cut is not None:
            raise self._stop_error()

    def _stop_error(self) -> RunCancelled | RunTimeout:
        reason = self.reason or self.cut or "cancelled"
        if self._outcome == "timeout":
            return RunTimeout(f"the run was stopped: {reason}")
        return RunCancelled(reason)

    # ------------------------------------------------------------ what steps say

    def say(self, event: Event, path: Path) -> bool:
        """Queues an event on the run's loop; when true, wait for `log.room()` before the next one."""
        if hasattr(event, "seq"):  # said before: each has a place of its own
            event = copy(event)
        if type(event) is Usage:
            self.usage = self.usage + TokenUsage(event.prompt_tokens, event.completion_tokens)
        log = self.log
        if log is None:
            return False
        full = log.put(event, path)
        if self.stop_when is not None and type(event) is TextDelta and event.output and self.cut is None:
            if self._said is None:
                self._said = []
            self._said.append(event.text)
            if self.stop_when("".join(self._said)):
                self._cut("stop_condition", "done")
                return True
        return full

    def join(self, task: asyncio.Task[Any]) -> None:
        """Makes `task` a part of the run: it is cancelled with it."""
        if self._joined is None:
            self._joined = set()
        self._joined.add(task)
        task.add_done_callback(self._joined.discard)
        if self._delivered:
            task.cancel()

    # ------------------------------------------------------------ waiting for it

    def watch(self, watcher: Callable[[], object]) -> None:
        """Calls `watcher` on the run's loop when the run is over. To be set before `open`, or on its loop."""
        if self._watchers is None:
            self._watchers = []
        self._watchers.append(watcher)

    def outcome(self) -> Any:
        """The result of a finished run; raises what it raised."""
        if self.status == "done":
            return self.value
        if self.error is not None:
            raise self.error
        raise self._stop_error()

    def events(self, after: int = 0) -> EventReader:
        """What a detached run says after the event `after`, for `for` or `async for`; leaving disturbs nobody.

        Raises:
            QueueError: the run is a stream's, whose events go to its listener.
            EventsExpired: the run has not said so much.
        """
        if not isinstance(self.log, KeptLog):
            raise QueueError("only a detached run keeps its events; begin it with flow.start(x)")
        return EventReader(self.log, after)

    async def wait(self) -> RunStatus:
        """Waits for the run's end, from any loop, and returns its status; never raises what the run raised."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        if self._watch_from_outside(partial(call_soon, loop, partial(resolve, future))):
            await future
        return self.status

    def result(self, timeout: float | None = None) -> Any:
        """Waits in this thread for the run's end, `timeout` seconds at most, and returns its result.

        Raises:
            TimeoutError: the run is still going on after `timeout` seconds; it is not disturbed.
        """
        if not self.wait_sync(timeout):
            raise TimeoutError(f"the run has not ended within {timeout} s; it goes on")
        return self.outcome()

    def wait_sync(self, timeout: float | None = None) -> bool:
        """Waits in this thread for the run's end; false when `timeout` seconds were not enough."""
        ended = threading.Lock()
        ended.acquire()
        return not self._watch_from_outside(ended.release) or acquire(ended, timeout)

    def _watch_from_outside(self, watcher: Callable[[], object]) -> bool:
        """False when the run is over, and then nobody will call."""

        def register() -> None:
            if self.over:
                watcher()
            else:
                self.watch(watcher)

        return not self.over and self.loop is not None and call_soon(self.loop, register)

    def __repr__(self) -> str:
        return f"<Run {self.status}{f': {self.reason}' if self.reason else ''}>"
