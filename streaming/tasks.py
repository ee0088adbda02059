"""Tasks, made with as little around them as can be, and begun at once: flows make one for each run and each branch."""

from __future__ import annotations

import asyncio
import sys
import threading
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Coroutine
from contextvars import Context
from time import perf_counter
from typing import Any, Self
from weakref import ReferenceType, ref

from .forks import after_fork

__all__ = ["Hurry", "begin", "gives_way"]

TURN = 0.0005
"""Seconds for which tasks are begun at once before the loop's other work has a turn."""

NESTED = 4
"""How many tasks that have begun at once may stand on each other: each takes its part of Python's stack."""

DEEP = 250
"""Frames that the caller of one may have: of 1000, which Python allows by default, most are left for the steps."""

_make, _queue = asyncio.BaseEventLoop.create_task, asyncio.BaseEventLoop.call_soon


def makes_plain_tasks(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether its `create_task` only makes the task: asyncio's own, unless they were given a task factory."""
    return type(loop).create_task is _make and loop.get_task_factory() is None


def begin(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], context: Context
) -> asyncio.Task[Any]:
    """`loop.create_task(coroutine, context=context)`, for code that runs on `loop`."""
    if makes_plain_tasks(loop):
        return asyncio.Task(coroutine, loop=loop, name="millrace", context=context)
    return loop.create_task(coroutine, context=context)


def gives_way(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether code on `loop` that goes on and on without waiting ought to `await asyncio.sleep(0)` now."""
    return not _here.turn.has_time(loop, loop)


def _can_hurry(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether it is asyncio's own, and nobody stands before what is asked of it."""
    return makes_plain_tasks(loop) and getattr(loop.call_soon, "__func__", None) is _queue


def _is_deep() -> bool:
    try:
        sys._getframe(DEEP)
    except ValueError:
        return False
    return True


class _Turn:
    """What has begun at once in this thread since its loop has had its turn."""

    __slots__ = ("_asked", "_loop", "_since", "_who", "nested")

    def __init__(self) -> None:
        self.nested = 0
        self._asked = False
        self._since: float | None = None
        self._who = 0
        self._loop: ReferenceType[asyncio.AbstractEventLoop] | None = None

    def has_time(self, loop: asyncio.AbstractEventLoop, who: object | None) -> bool:
        """Whether one more may begin before the loop's other work has its turn.

        `who` is the task that asks; a callback, after which the loop goes on by itself, is nobody. All share the time
        of a turn; whoever asks first in it may begin one in any case.
        """
        if who is None and self.nested == 1:
            return True
        same = self._loop is not None and self._loop() is loop
        if same and self._since is not None:
            if self.nested == 1 and self._who != id(who):
                self._who = id(who)
                return True
            return perf_counter() - self._since < TURN
        self._since, self._who = perf_counter(), id(who)
        if not same:  # the one before may have been closed within its turn
            self._loop = ref(loop)
        if not (same and self._asked):
            self._asked = True
            loop.call_soon(self.end)
        return True

    def end(self) -> None:
        self._since, self._asked = None, False


class _Here(threading.local):
    def __init__(self) -> None:
        self.turn = _Turn()


_here = _Here()


def _forked() -> None:
    """In a forked child: nothing has begun there."""
    _here.turn = _Turn()


after_fork(_forked)


class Hurry:
    """Around the making of tasks on `loop`, which runs this code: each begins now and not in its turn.

    As tasks with `eager_start` do from Python 3.12 on: it works until it first waits, as itself and in its context,
    and costs the loop no turn. On other loops than asyncio's own, where too many have begun within each other, where
    Python's stack is deep, and where what has begun so has taken half a millisecond of the loop's turn, it waits for
    its own.
    """

    __slots__ = ("_at_once", "_context", "_loop", "_outer", "_step", "_turn")

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._turn = turn = _here.turn
        self._at_once = _can_hurry(loop) and (turn.nested > 0 or not _is_deep())
        self._step: Any = None

    def __enter__(self) -> Self:
        self._turn.nested += 1
        self._outer = outer = asyncio.current_task(self._loop) if self._at_once else None
        if outer is not None:
            _leave_task(self._loop, outer)
        return self

    def __exit__(self, *_: object) -> None:
        self._turn.nested -= 1
        if self._outer is not None:
            _enter_task(self._loop, self._outer)

    def make(self, coroutine: Coroutine[Any, Any, Any], context: Context) -> asyncio.Task[Any]:
        """`loop.create_task(coroutine, context=context)`; as soon as it is known where it has to be, call `begin`."""
        loop = self._loop
        if not self._at_once:
            return begin(loop, coroutine, context)
        if self._turn.nested > NESTED or not self._turn.has_time(loop, self._outer):
            return asyncio.Task(coroutine, loop=loop, name="millrace", context=context)
        self._context = context
        loop.call_soon = self._catch  # what a new task does with its loop is to ask for its turn
        try:
            return asyncio.Task(coroutine, loop=loop, name="millrace", context=context)
        finally:
            del loop.call_soon

    def _catch(self, call: Any, *args: Any, context: Context | None = None) -> Any:
        if context is self._context:
            self._step = call
            return None
        return _queue(self._loop, call, *args, context=context)

    def begin(self) -> bool:
        """Lets the task that was made last work until it waits; false where it waits for its turn."""
        step, self._step = self._step, None
        if step is None:
            return False
        self._context.run(step)
        return True
