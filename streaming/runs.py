"""Runs: one invocation of a flow, from its caller down to the engine's request, with one way to stop it.

A run lives in a task of its own, on the loop of its listener or on the framework's. Whoever stops it calls
`run.cancel()`: two plain stores cut the producer off at once, from any thread; the task hears of it on its loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from asyncio import AbstractEventLoop, CancelledError
from asyncio.events import _get_running_loop
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from contextvars import Context, ContextVar
from copy import copy
from types import MappingProxyType
from typing import Any

from .deadlines import Limited
from .endings import RunStatus
from .errors import MillraceError, QueueError, RunCancelled, RunTimeout
from .events import Event, Path, RunFinished, RunStarted, StatusChanged, TextDelta, Usage
from .forks import after_fork
from .ids import new_id
from .memory import MemoryLog, call_soon, pending_cancel
from .notes import annotate
from .options import NO_OPTIONS, Options
from .queues import Queue
from .readers import Reader
from .registries import MEMORY, MemoryQueue
from .sessions import SESSION, new_session_id
from .tasks import Hurry, begin
from .usage import TokenUsage

__all__ = ["Run", "RunStatus"]

logger = logging.getLogger("millrace.streaming")

Body = Callable[["Run"], Coroutine[Any, Any, Any]]

FRAME: ContextVar[tuple[Run, Path] | None] = ContextVar("millrace_frame", default=None)
"""The run that this code belongs to, and the path of the step."""

VOICE: ContextVar[tuple[int, Callable[[Event], None]] | None] = ContextVar("millrace_voice", default=None)
"""In the thread (its ident) of a generator: where its events go, so that they keep their place among its items."""

HOOKS: ContextVar[Any] = ContextVar("millrace_hooks", default=None)
"""Who wants to hear of the steps of the runs started in this context; flow/hooks.py says what it is."""

LIVE: set[Run] = set()
"""Runs that are going on. Loops hold tasks weakly, and run, task and log are one cycle: something must hold it."""

after_fork(LIVE.clear)

ABANDONED: set[object] = set()
"""Functions of ended runs that could not be stopped and still occupy their threads."""


class Run(Limited):
    """One invocation of a flow. `id` is 128 random bits in hex, made at the first look.

    `queue` is the one that it was given, `owner` whose it is, where a launcher has said so. `sampling`, `tools` and
    `tool_choice` are for the model that gives its answer. It begins at once where it was `called`, else in its turn.
    """

    name: str | None = None
    parent: Run | None = None
    sampling: Any = MappingProxyType({})
    tools: tuple[Mapping[str, Any], ...] | None = None
    tool_choice: str | Mapping[str, Any] | None = None
    queue: Queue | None = None
    owner: str | None = None
    hooks: Any = None
    registry: MemoryQueue | None = None
    """Who knows it by its id in this process, and keeps what is left of it."""
    stop_when: Callable[[str], bool] | None = None
    called = False
    outputs = 0
    """How many streams of output text, ended or broken, have been heard of."""
    finish_reason: str | None = None
    born = 0.0
    _id: str | None = None
    _new_session: str | None = None
    _admission: Callable[[], Awaitable[object]] | None = None
    _begun = False
    _said_started = False
    _delivered = False
    _waits = 0
    _task: asyncio.Task[None] | None = None
    _joined: set[asyncio.Task[Any]] | None = None
    _children: set[Run] | None = None
    _said: list[str] | None = None

    @property
    def id(self) -> str:
        if self._id is not None:
            return self._id
        made: str = vars(self).setdefault("_id", new_id())  # the first of several threads decides
        if self.log is not None:
            MEMORY.register(self)
        return made

    @property
    def session(self) -> str:
        """The id of the session that the run belongs to."""
        if self._session is not None:
            return self._session
        if self.parent is not None:
            return self.parent.session
        return vars(self).setdefault("_new_session", new_session_id())  # type: ignore[no-any-return]

    @property
    def had_line(self) -> bool:
        """Whether it had to be admitted before it began."""
        return self._admission is not None

    # ------------------------------------------------------------ its life, on its loop

    def adopt(
        self, options: Options, parent: Run | None = None, listener: AbstractEventLoop | None = None
    ) -> None:
        """Takes what the caller gave; what is missing comes from the context or the parent.

        `listener`: the loop that the run will have, where somebody listens to what it says.

        Raises:
            QueueError: the queue cannot take the run.
        """
        self.hooks = HOOKS.get()
        self._session = options.session or SESSION.get()
        if parent is not None:
            self.parent = parent
            self.owner = parent.owner
            self._session = self._session or parent._session
        if options is not NO_OPTIONS:
            self._history = options.history
            if options.sampling:
                self.sampling = options.sampling
            if options.tools is not None or options.tool_choice is not None:
                self.tools, self.tool_choice = options.tools, options.tool_choice
            if options.owner is not None:
                self.owner = options.owner
            if options.run_id is not None:
                self._id = options.run_id
            elif options.queue is not None:
                self._id = new_id()  # a queue asks for it, and nobody else knows the run yet
            if options.admission is not None:
                self.status, self._admission = "queued", options.admission
            if options.queue is not None:
                self.queue = options.queue
                self.log = options.queue.open_log(self, listener)
                if self.registry is None:
                    MEMORY.register(self)
                return
        self.log = MemoryLog(listener) if listener is not None else None

    def open(
        self, body: Body, loop: AbstractEventLoop, context: Context, timeout: float | None = None
    ) -> None:
        """Starts the run's task; called on `loop`. `timeout` in seconds; one that is `patient` needs `set_clock`."""
        self.loop, self.born = loop, time.perf_counter()
        if self.parent is not None:
            if self.parent.over:
                self.cut = self.cut or "parent ended"
            elif self.parent._children is None:
                self.parent._children = {self}
            else:
                self.parent._children.add(self)
        if self.cut is not None:
            self._finish(self._outcome, self.cut)
            return
        LIVE.add(self)
        if timeout is not None:
            self._deadline = self.born + timeout
        if self.called:
            with Hurry(loop) as hurry:
                self._task = hurry.make(self._main(body), context)
                hurry.begin()
        else:
            self._task = begin(loop, self._main(body), context)
        if not self.patient:
            self.set_clock()

    async def _main(self, body: Body) -> None:
        self._begun = True
        FRAME.set((self, ()))
        if self._session is not None:
            SESSION.set(self._session)
        try:
            if self._admission is not None:
                await self._admission()
                self.status = "running"
            if self.log is not None:
                self._said_started = True
                self.log.put(RunStarted(), ())
            value = await body(self)
            if self.log is not None:
                self.log.accept(value)
            if self.cut is not None:
                raise CancelledError  # a step swallowed the cancel: the run is cancelled all the same
        except CancelledError:
            self._finish(self._outcome, self.cut or "task cancelled")
        except BaseException as error:
            if isinstance(error, (StopIteration, StopAsyncIteration)):
                cause, error = error, RuntimeError(f"{self.name or 'a step'} raised {type(error).__name__}")
                error.__cause__ = cause
            annotate(error, self)
            if self.status == "queued" and isinstance(error, MillraceError):
                error.for_clients()  # by the service, not by the flow
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
            self._finish(self._outcome, self.cut or "task cancelled")

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
        self.reason, self.value, self.error, self.status = reason, value, error, status
        self._task = None
        LIVE.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        if self.parent is not None:
            if self.parent._children is not None:
                self.parent._children.discard(self)
            self.parent.usage = self.parent.usage + self.usage
        if self._children:
            for child in list(self._children):
                child.cancel("parent ended")
        if self._joined:
            for task in list(self._joined):
                task.cancel()
        try:
            if self.takes_turn:
                self.end_turn()
            if self.log is not None:
                if not self._said_started:
                    self.log.put(RunStarted(), ())
                event = RunFinished(status, reason, value, error, self.usage)
                self.log.close(event, skip=status in ("cancelled", "timeout"))
        finally:
            self._written = True
            if self.registry is not None:
                self.registry.ended(self)
            self._tell_watchers()

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

    async def park(self) -> None:
        """Waits for the cancel that is on its way; where it has been swallowed, raises it again."""
        await pending_cancel()

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

    def say_text(self, text: str, output: bool, path: Path) -> bool:
        """As `say` of a TextDelta."""
        return self.say(TextDelta(text, output), path)

    async def put(self, event: Event, path: Path = ()) -> None:
        """Says an event and waits until the listener has room for more; on the run's loop.

        Raises:
            QueueError: the queue cannot take it.
        """
        if self.say(event, path) and self.log is not None:
            await self.log.room()

    def join(self, task: asyncio.Task[Any]) -> None:
        """Makes `task` a part of the run: it is cancelled with it."""
        if self._joined is None:
            self._joined = set()
        self._joined.add(task)
        task.add_done_callback(self._joined.discard)
        if self._delivered:
            task.cancel()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around a wait for a person, or for something else outside: meanwhile the run's status is "waiting"."""
        frame = FRAME.get()
        path = frame[1] if frame is not None and frame[0] is self else ()
        self._waits += 1
        if self._waits == 1 and not self.over:
            self.status = "waiting"
            self.say(StatusChanged("waiting"), path)
        try:
            yield
        finally:
            self._waits -= 1
            if not self._waits and not self.over:
                self.status = "running"
                self.say(StatusChanged("running"), path)

    def events(self, after: int = 0) -> Reader:
        """What the run says after the event `after`, for `for` or `async for`; leaving disturbs nobody.

        In memory a stream keeps 256 events behind its listener, a detached run everything.

        Raises:
            QueueError: nobody keeps what the run says, since it was called.
            EventsExpired: what it said there is not kept any more, or it has not said so much.
        """
        if self.log is None:
            raise QueueError(
                "nobody keeps what this run says: it was called; use flow.stream(x) or flow.start(x), or give the "
                "call a queue=..."
            )
        return Reader(self.log.source(after), after, self.loop)

    def __repr__(self) -> str:
        return f"<Run {self.status}{f': {self.reason}' if self.reason else ''}>"
