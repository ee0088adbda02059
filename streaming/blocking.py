"""Waiting in a thread that belongs to a pool: the pool is told, so that waiters cannot use up its threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["blocking", "in_pool"]

_local = threading.local()


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
