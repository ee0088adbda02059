"""How a flow is called: flows are coroutines, written once; the synchronous call is a thin face.

Where every leaf is a plain function and nobody listens, the coroutine is driven with `send(None)`: no loop, no
thread, no events. Should a function return something to await after all, the same coroutine goes on, on a loop.
"""

from __future__ import annotations

import threading
import types
from asyncio import CancelledError, get_running_loop, sleep
from asyncio.events import _get_running_loop
from collections.abc import Callable, Coroutine, Generator
from contextvars import copy_context
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

from ..streaming.blocking import acquire
from ..streaming.currents import JOINED
from ..streaming.errors import RunCancelled
from ..streaming.events import Path
from ..streaming.loops import framework_loop
from ..streaming.memory import call_soon
from ..streaming.messages import Message
from ..streaming.notes import annotate
from ..streaming.options import NO_OPTIONS, Options
from ..streaming.runs import FRAME, Body, Run
from ..streaming.sessions import SESSION
from ..streaming.starting import start
from ..streaming.tasks import gives_way
from .escapes import Escape, contained
from .performing import perform
from .threads import carry, stop_iteration

if TYPE_CHECKING:
    from .steps import Step

__all__ = ["HANDOVER", "call_async", "call_blocking", "call_direct", "call_joined"]


LOOP_CHECK = 1.0
"""Seconds. A loop that is closed calls nobody: whoever waits for it looks after it so often."""


class _Handover:
    """Awaited under `send(None)`, it tells the driver to pass the coroutine on to a loop."""

    def __await__(self) -> Generator[_Handover, None, None]:
        yield self


HANDOVER = _Handover()


def call_direct(step: Step[Any, Any], x: Any) -> Any:
    """A run of plain functions, in a copy of the caller's context: called as `context.run(call_direct, ...)`."""
    run = Run()
    run.born = perf_counter()
    run._session = SESSION.get()
    FRAME.set((run, ()))
    try:
        coroutine = step.execute(x, None, (), False)
        try:
            coroutine.send(None)
        except StopIteration as stop:
            value = stop.value
        else:
            value = _hand_over(coroutine, run)
        if run.loop is None:  # it was not handed over
            run.status, run.value = "done", value
            if run.takes_turn:
                run.end_turn(x)
        return value
    except BaseException as error:
        if isinstance(error, StopAsyncIteration):  # a StopIteration never leaves a coroutine
            error = stop_iteration(step.name or "step", error)
        run.name = step.name
        if isinstance(error, CancelledError) and run.loop is None:  # as on a loop: it is no other run's
            run.status, run.reason = "cancelled", "task cancelled"
            raise RunCancelled("task cancelled") from error
        annotate(error, run)
        if run.loop is None:
            run.status, run.error = "error", error
        raise error


def call_joined(step: Step[Any, Any], x: Any, run: Run, path: Path) -> Any:
    """Inside a synchronous step: goes on in the run that the step belongs to."""
    if step.plain and run.log is None and run.hooks is None:
        return _drive(step.execute(x, None, path, False), run, joins=True)
    if run.loop is None or run.over:
        return call_blocking(step, x, NO_OPTIONS, run, joins=True)
    return _on_loop_of(run, partial(execute_joined, step, x, run, path))


def call_blocking(
    step: Step[Any, Any],
    x: Any,
    options: Options = NO_OPTIONS,
    parent: Run | None = None,
    joins: bool = False,
) -> Any:
    """A run on the framework's loop; this thread waits for it.

    With `joins` it stands for a part of `parent`: what its steps set in context variables is seen by the caller.
    """
    run = Run()
    run.name = step.name
    run.adopt(options, parent)
    return _block_on(run, partial(start_body, step, x), options.timeout, joins)


async def call_async(step: Step[Any, Any], x: Any, options: Options) -> Any:
    """Joins the run that this coroutine belongs to, or makes one of its own."""
    frame, loop, parent = FRAME.get(), get_running_loop(), None
    if frame is not None and not frame[0].over:
        parent, path = frame
        if parent.loop is loop and options is NO_OPTIONS:
            if gives_way(loop):
                await sleep(0)
            return await execute_joined(step, x, parent, path)
    run = Run()
    run.name, run.called = step.name, True
    run.adopt(options, parent)
    run.open(partial(start_body, step, x), loop, copy_context(), options.timeout)
    if not run.over:
        run._caller = loop.create_future()
        try:
            await run._caller  # a plain future: the caller's cancel never reaches the run's cleanup
        except BaseException:  # it was cancelled, or closed
            run.cancel("caller cancelled")
            raise
    return run.outcome()


def run_here() -> Run | None:
    """The run of this code, where its loop is the one that runs: a direct drive has been handed over to it."""
    frame = FRAME.get()
    if frame is None or frame[0].loop is None or frame[0].loop is not _get_running_loop():
        return None
    return frame[0]


def start_detached(step: Step[Any, Any], x: Any, options: Options) -> Run:
    """A run on the framework's loop that nobody needs to listen to."""
    return start(partial(start_body, step, x), options, step.name)


def start_body(step: Step[Any, Any], x: Any, run: Run) -> Coroutine[Any, Any, Any]:
    run.name = step.name
    if isinstance(x, (str, Message)):
        run.question = x
    return step.execute(x, run, (), True) if step.shallow else _execute_on_new_stack(step, x, run)


async def _execute_on_new_stack(step: Step[Any, Any], x: Any, run: Run) -> Any:
    await sleep(0)  # the run's task may have begun on its caller's stack
    return await step.execute(x, run, (), True)


async def execute_joined(step: Step[Any, Any], x: Any, run: Run, path: Path) -> Any:
    outer = FRAME.get()
    try:
        return await perform(step, x, run, path, step.name, False)
    finally:
        FRAME.set(outer)  # never a token: a step may be closed in another context


def _drive(coroutine: Coroutine[Any, Any, Any], run: Run, joins: bool = False) -> Any:
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    return _hand_over(coroutine, run, joins)


def _hand_over(coroutine: Coroutine[Any, Any, Any], run: Run, joins: bool = False) -> Any:
    """Goes on on a loop: there is something to await after all."""
    if run.loop is not None:
        try:
            return _on_loop_of(run, partial(_resume, coroutine))
        finally:
            coroutine.close()  # of use where it was stopped before it went on
    if joins:  # the run itself goes on in this thread
        run, parent = Run(), run
        run.adopt(NO_OPTIONS, parent)
    return _block_on(run, lambda _: _resume(coroutine), None, joins)


@types.coroutine
def _continue(coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
    return (yield from coroutine)


async def _resume(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """A coroutine that has begun under `send(None)`: `yield from` goes on where `await` would refuse."""
    return await _continue(coroutine)


def _block_on(run: Run, body: Body, timeout: float | None, joins: bool = False) -> Any:
    context, ended = copy_context(), threading.Lock()
    before = context.copy()
    ended.acquire()
    run.watch(ended.release)
    run.called = True
    loop = run.loop = framework_loop()
    try:
        loop.call_soon_threadsafe(run.open, body, loop, context, timeout)
        acquire(ended)
    except BaseException:  # Ctrl-C
        run.cancel("interrupted")
        raise
    if joins:
        carry(context, before)
    return run.outcome()


def _on_loop_of(run: Run, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Runs a coroutine as a part of `run`, on its loop, while this thread waits."""
    loop, ended = run.loop, threading.Lock()
    assert loop is not None
    ended.acquire()
    context, tasks, joined = copy_context(), [], JOINED.get()
    before = context.copy()

    def start() -> None:
        task = loop.create_task(contained(work), context=context)
        tasks.append(task)
        run.join(task)
        if joined is not None:
            joined.add(task)
        task.add_done_callback(lambda _: ended.release())

    started = call_soon(loop, start)
    while not (started and acquire(ended, LOOP_CHECK)):
        if loop.is_closed():
            raise RunCancelled("its event loop was closed")
    (task,) = tasks
    carry(context, before)
    if task.cancelled():
        run.raise_if_cut()
    try:
        return task.result()
    except Escape as escape:
        raise escape.error from None
