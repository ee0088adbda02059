"""How long a busy Python thread may keep the engine's waiting: a setting of the whole interpreter."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quick_switching"]

INTERVAL = 1e-5
"""Seconds. By default a busy thread keeps the others waiting for 5 ms at each of hundreds of calls in a step."""
SET_SLACK, GET_SLACK = 29, 30
"""`PR_SET_TIMERSLACK` and `PR_GET_TIMERSLACK` of Linux's prctl(2)."""

_lock = threading.Lock()
_users = 0
_before = 0.0


@contextmanager
def quick_switching() -> Iterator[None]:
    """Lets threads take turns sooner while any engine of this process runs, and wakes the calling one on time.

    Threads that the calling one starts are woken on time as well.
    """
    global _users, _before
    with _lock:
        _users += 1
        if _users == 1:
            _before = sys.getswitchinterval()
            sys.setswitchinterval(min(INTERVAL, _before))
    slack = 0
    try:
        slack = prctl(GET_SLACK)
        prctl(SET_SLACK, 1)
        yield
    finally:
        if slack > 0:  # else it is not Linux, or not allowed
            prctl(SET_SLACK, slack)
        with _lock:
            _users -= 1
            if _users == 0:
                sys.setswitchinterval(_before)


def prctl(option: int, value: int = 0) -> int:
    """Asks Linux about the calling thread; elsewhere nothing.

    Linux lets a thread that waits for an interval sleep 50 us longer than that, to save wake-ups (its timer slack).
    """
    return int(ctypes.CDLL(None).prctl(option, value, 0, 0, 0)) if sys.platform == "linux" else 0
