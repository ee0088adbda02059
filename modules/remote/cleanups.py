"""Cleanups: short work that is done to its end, whatever becomes of the task that waits for it."""

from __future__ import annotations

import asyncio
from asyncio import CancelledError
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

__all__ = ["to_its_end"]


async def to_its_end(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Waits for some work, which goes on however often this task is cancelled meanwhile.

    A loop that ends cancels all of its tasks, those of the work too: it is begun once more then.
    """
    loop, cancelled = asyncio.get_running_loop(), False
    for _ in range(2):
        task = loop.create_task(work(), context=Context())
        while not task.done():
            try:
                await asyncio.wait([task])
            except CancelledError:
                cancelled = True
        if not task.cancelled():
            task.result()
            break
    if cancelled:
        raise CancelledError
