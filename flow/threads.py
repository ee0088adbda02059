"""Plain functions leave the loop: neighbours share one hop to a pool of daemon threads.

A thread cannot be killed. When a run is stopped while a function of it is working, the run ends at once, the
function's late result is discarded, and `millrace.streaming.status()` counts it as abandoned until it ends.
"""

from __future__ import annotations

import asyncio
import threading
from asyncio import CancelledError
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextvars import Context, ContextVar, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ..streaming.currents import JOINED, check_cancelled
from ..streaming.events import Path, StepFinished, StepStarted
from ..streaming.forks import after_fork
from ..streaming.memory import call_soon
from ..streaming.notes import trail
from ..streaming.runs import ABANDONED, FRAME, VOICE, Run
from ..streaming.sessions import SESSION
from .args import UNSETTLED, dispose
from .pools import Pool
from .references import SCOPE

if TYPE_CHECKING:
    from .functions import FunctionStep
    from .hooks import StepCall

__all__ = ["carry", "changed", "hop", "pool", "thread_of"]


class Joined(set[asyncio.Task[Any]]):
    """Tasks that a function in a thread has started on the loop of its run, and waits for."""

    over = False
    """Whether nobody waits for the function any more."""
    at: Path | None = None
    """Where the step is that has said it begins, and not yet that it is over."""
    thread: int | None = None
    """The thread that the function works in, by its ident."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run

    def add(self, task: asyncio.Task[Any]) -> None:
        if self.over:
            task.cancel()
        super().add(task)
        task.add_done_callback(self.discard)

    def end(self) -> None:
        """Stops them, and those that the function may still start; called on the loop."""
        if self.at is not None and self.run.cut is None:  # the run goes on without it
            self.say(StepFinished(CancelledError()), self.at)
        self.over = True
        for task in self:
            task.cancel()

    def say(self, event: StepStarted | StepFinished, where: Path) -> None:
        """Says what its steps do, as long as somebody waits for them; called on the loop."""
        if not self.over and self.run.log is not None:
            self.at = where if type(event) is StepStarted else None
            self.run.log.put(event, where)


HOLDS: ContextVar[tuple[Any, ...]] = ContextVar("millrace_holds", default=())
"""What is held while this code works, such as a slot; `keep_until(job)` is told of a function that is abandoned."""

READING: ContextVar[tuple[Any, ...]] = ContextVar("millrace_reading", default=())
"""Readers of shared streams, in whose branches this code works: innermost last."""

OURS = frozenset((FRAME, SCOPE, SESSION, VOICE, JOINED, HOLDS, READING))
"""Context variables that belong to a place, not to the values of a run."""


POOL = Pool()


def pool() -> Pool:
    after_fork(_rebuild)
    return POOL


def _rebuild() -> None:
    global POOL
    POOL = Pool()
    ABANDONED.clear()


class Done(NamedTuple):
    """How far a hop has come. `call` is what hooks know of its last step, where that has no value yet."""

    at: int
    value: Any
    call: StepCall | None = None


async def hop(
    run: Run,
    steps: Sequence[FunctionStep[Any, Any]],
    names: Sequence[str | None],
    x: Any,
    path: Path,
    kept: dict[str, Any] | None,
) -> Done:
    """Calls neighbouring plain functions in one thread; returns the index of the last one called and its value.

    A step without a name says nothing of its own. It stops early at a value that is no value yet (a coroutine, a
    generator), and when nobody waits for it any more. Changes of context variables come back on success.
    """
    context = copy_context()
    joined = Joined(run)
    context.run(JOINED.set, joined)
    before = context.copy()
    threads = pool()
    job = threads.submit(partial(context.run, _chain, joined, steps, names, x, path, kept))
    try:
        done: Done = await asyncio.wrap_future(job)
    except CancelledError:
        joined.end()
        if not job.cancel():
            if not job.done():
                abandon(job)
                threads.leave_alone(job)
            job.add_done_callback(_discard)
        raise
    carry(context, before)
    return done


def thread_of(hopping: Mapping[str, Any]) -> int | None:
    """The thread that a `hop` waits for, by its local variables; None where none has begun."""
    joined = hopping.get("joined")
    return joined.thread if isinstance(joined, Joined) else None


def _discard(job: Future[Any]) -> None:
    """Nobody wants the value any more; a coroutine must not be left unawaited."""
    if job.exception() is None:
        dispose(job.result().value)


def abandon(job: Future[Any]) -> None:
    ABANDONED.add(job)
    job.add_done_callback(ABANDONED.discard)
    for hold in HOLDS.get():
        hold.keep_until(job)


def carry(context: Context, before: Context) -> None:
    """Takes over what a step has set in the context that it ran in, a copy like `before`."""
    for variable, value in changed(context, before):
        variable.set(value)


def changed(context: Context, before: Context) -> Iterator[tuple[ContextVar[Any], Any]]:
    """What has been set in `context` since it was like `before`."""
    for variable, value in context.items():
        if variable not in OURS and before.get(variable, before) is not value:
            yield variable, value


def _chain(
    joined: Joined,
    steps: Sequence[FunctionStep[Any, Any]],
    names: Sequence[str | None],
    x: Any,
    path: Path,
    kept: dict[str, Any] | None,
) -> Done:
    run, i = joined.run, -1
    joined.thread = threading.get_ident()
    for i, step in enumerate(steps):
        check_cancelled()
        name = names[i]
        heard = run.log is not None and name is not None
        where = path if name is None else (*path, name)
        if heard:
            FRAME.set((run, where))
            _say(joined, StepStarted(), where)
        call = None
        if run.hooks is not None and name is not None:
            FRAME.set((run, where))
            call = run.hooks.begin(run, where, x)
        try:
            x = step.call(x)
        except BaseException as error:
            if isinstance(error, (StopIteration, StopAsyncIteration)):
                error = stop_iteration(name or step.name or "step", error)
            if name is not None:
                trail(error, name)
            if heard and isinstance(error, Exception):
                _say(joined, StepFinished(error), where)
            if call is not None:
                run.hooks.fail(call, error)
            raise error
        if type(x) in UNSETTLED:
            return Done(i, x, call)
        if kept is not None and name is not None:
            kept[name] = x
        if heard:
            _say(joined, StepFinished(), where)
        if call is not None:
            run.hooks.end(call, x)
    return Done(i, x)


def _say(joined: Joined, event: StepStarted | StepFinished, where: Path) -> None:
    assert joined.run.loop is not None
    call_soon(joined.run.loop, partial(joined.say, event, where))


def stop_iteration(name: str, error: BaseException) -> RuntimeError:
    """StopIteration would hang a future, StopAsyncIteration end a loop; a RuntimeError, as in generators (PEP 479)."""
    made = RuntimeError(f"step {name} raised {type(error).__name__}")
    made.__cause__ = error
    return made
