"""Meetings: who stands at a barrier is not at work, and does not count where only so many may be at work at once."""

from __future__ import annotations

import asyncio
import sys
import threading
from types import CodeType
from typing import Any

from .threads import hop, thread_of

__all__ = ["GROUPS", "stands_at_barrier"]

AT_BARRIER, IN_THREAD = asyncio.Barrier.wait.__code__, hop.__code__
AT_THREADS_BARRIER = threading.Barrier.wait.__code__

GROUPS: set[CodeType] = set()
"""Coroutines whose `self` waits for tasks of its own, and knows whether all of them stand at barriers."""


def stands_at_barrier(task: asyncio.Task[Any]) -> bool:
    """Whether a task waits at an asyncio.Barrier, or for a plain function that waits at a threading.Barrier.

    Or for several tasks all of which do. Barriers within the pieces of a stream, and in other runs, are not seen.
    """
    inner: Any = task.get_coro()
    while inner is not None:
        code = getattr(inner, "cr_code", None)
        if code is AT_BARRIER:
            return True
        if code is IN_THREAD:
            return inner.cr_frame is not None and _stands(thread_of(inner.cr_frame.f_locals))
        if code in GROUPS:
            return inner.cr_frame is not None and inner.cr_frame.f_locals["self"].stands_at_barrier()
        inner = getattr(inner, "cr_await", None)
    return False


def _stands(thread: int | None) -> bool:
    frame = None if thread is None else sys._current_frames().get(thread)
    while frame is not None:
        if frame.f_code is AT_THREADS_BARRIER:
            return True
        frame = frame.f_back
    return False
