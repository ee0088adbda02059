"""Tasks, made with as little around them as can be: flows make one for each run and each branch."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import Context
from typing import Any

__all__ = ["begin"]

_make = asyncio.BaseEventLoop.create_task


def begin(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], context: Context
) -> asyncio.Task[Any]:
    """`loop.create_task(coroutine, context=context)`, for code that runs on `loop`.

    asyncio's own loops do nothing in between, unless they were given a task factory.
    """
    if type(loop).create_task is _make and loop.get_task_factory() is None:
        return asyncio.Task(coroutine, loop=loop, name="millrace", context=context)
    return loop.create_task(coroutine, context=context)
