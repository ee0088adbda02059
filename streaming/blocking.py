"""Waiting in a thread that belongs to a pool: the pool is told, so that waiters cannot use up its threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["acquire", "blocking", "in_pool"]

SLICE = 0.25
"""Seconds. A signal that lands right before a wait is seen only when the wait ends, so none is untimed."""

_local = threading.local()


def acquire(lock: threading.Lock, timeout: float | None = None) -> bool:
    """Waits for a lock that another thread releases, `timeout` seconds at most; Ctrl-C is heard meanwhile."""
    deadline = None if timeout is None else time.monotonic() + timeout
    with blocking():
        while not lock.acquire(
            timeout=SLICE if deadline is None else min(SLICE, max(0.0, deadline - time.monotonic()))
        ):
            if deadline is not None and time.monotonic() >= deadline:
                return False
    return True


def in_pool(begin: Callable[[], None], end: Callable[[], None]) -> None:
    """Declares this thread a pool's; `begin` and `end` are called around each wait."""
    _local.hooks = (begin, end)


@contextmanager
def blocking() -> Iterator[None]:
    """Around whatever waits for another run or stream."""
    hooks = getattr(_local, "hooks", None)
    if hooks is None:
        yield
        return
    hooks[0]()
    try:
        yield
    finally:
        hooks[1]()
