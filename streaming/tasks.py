"""Tasks, made with as little around them as can be: flows make one for each run and each branch."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import Context
from typing import Any

__all__ = ["begin", "makes_plain_tasks"]

_make = asyncio.BaseEventLoop.create_task


def begin(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], context: Context
) -> asyncio.Task[Any]:
    """`loop.create_task(coroutine, context=context)`, for code that runs on `loop`."""
    if makes_plain_tasks(loop):
        return asyncio.Task(coroutine, loop=loop, name="millrace", context=context)
    return loop.create_task(coroutine, context=context)


def makes_plain_tasks(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether its `create_task` only makes the task: asyncio's own, unless they were given a task factory."""
    return type(loop).create_task is _make and loop.get_task_factory() is None
