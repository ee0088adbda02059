"""Tasks, made with as little around them as can be, and begun at once: flows make one for each run and each branch."""

from __future__ import annotations

import asyncio
import threading
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Coroutine
from contextvars import Context
from time import perf_counter
from typing import Any, Self
from weakref import ReferenceType, ref

__all__ = ["Hurry", "begin", "makes_plain_tasks"]

_make, _queue = asyncio.BaseEventLoop.create_task, asyncio.BaseEventLoop.call_soon

TURN = 0.0005
"""Seconds for which tasks are begun at once before the loop's other work has a turn."""

NESTED = 4
"""How many tasks that have begun at once may stand on each other: each takes its part of Python's stack."""


def begin(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], context: Context
) -> asyncio.Task[Any]:
    """`loop.create_task(coroutine, context=context)`, for code that runs on `loop`."""
    if makes_plain_tasks(loop):
        return asyncio.Task(coroutine, loop=loop, name="millrace", context=context)
    return loop.create_task(coroutine, context=context)


def makes_plain_tasks(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether its `create_task` only makes the task: asyncio's own, unless they were given a task factory."""
    kind = type(loop)
    return kind.create_task is _make and kind.call_soon is _queue and loop.get_task_factory() is None


class _Turn:
    """What has begun at once in this thread since its loop has had its turn."""

    __slots__ = ("loop", "nested", "since")

    def __init__(self) -> None:
        self.nested = 0
        self.loop: ReferenceType[asyncio.AbstractEventLoop] | None = None
        self.since: float | None = None

    def has_time(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether one more may begin before the loop's other work has its turn."""
        if self.since is not None:
            if perf_counter() - self.since < TURN:
                return True
            if self.loop is not None and self.loop() is loop:
                return False  # the loop before this one may have been closed within its turn
        self.since = perf_counter()
        self.loop = ref(loop)
        loop.call_soon(self.end)
        return True

    def end(self) -> None:
        self.since = None


class _Here(threading.local):
    def __init__(self) -> None:
        self.turn = _Turn()


_here = _Here()


class Hurry:
    """Around the making of tasks by `begin` on `loop`, which runs this code: each begins now and not in its turn.

    As tasks with `eager_start` do from Python 3.12 on: it works until it first waits, as itself and in its context,
    and costs the loop no turn. Where the loop makes them in a way of its own, where too many have begun within each
    other, and where others have waited for their turn for half a millisecond, it waits for its own.
    """

    __slots__ = ("_loop", "_outer", "_ready", "_turn")

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._turn = turn = _here.turn
        self._ready = loop._ready if turn.nested < NESTED and makes_plain_tasks(loop) else None

    def __enter__(self) -> Self:
        self._turn.nested += 1
        self._outer = outer = asyncio.current_task(self._loop) if self._ready is not None else None
        if outer is not None:
            _leave_task(self._loop, outer)
        return self

    def __exit__(self, *_: object) -> None:
        self._turn.nested -= 1
        if self._outer is not None:
            _enter_task(self._loop, self._outer)

    def begin(self, task: asyncio.Task[Any]) -> None:
        """To be called as soon as the task is made."""
        ready = self._ready
        if not ready:
            return
        handle = ready[-1]
        step, context = handle._callback, handle._context
        if getattr(step, "__self__", None) is task and self._turn.has_time(self._loop):
            handle.cancel()
            context.run(step)
