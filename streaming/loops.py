"""The framework's own event loop: one daemon thread for all synchronous callers.

It is started at the first need, rebuilt after a fork and ended at interpreter exit.
"""

from __future__ import annotations

import asyncio
import atexit
import threading

from .forks import after_fork

__all__ = ["framework_loop", "is_framework_loop"]

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_thread: threading.Thread | None = None
_registered = False

EXIT_GRACE = 2.0
"""Seconds that interpreter exit waits for the cleanup of runs that are still going on."""


def framework_loop() -> asyncio.AbstractEventLoop:
    """The loop on which synchronous callers' runs live, started if need be."""
    loop = _loop
    if loop is not None and not loop.is_closed():
        return loop
    return _start()


def is_framework_loop(loop: asyncio.AbstractEventLoop | None) -> bool:
    return loop is not None and loop is _loop


def _start() -> asyncio.AbstractEventLoop:
    global _loop, _thread, _registered
    with _lock:
        if _loop is not None and not _loop.is_closed():
            return _loop
        if not _registered:
            _registered = True
            atexit.register(_stop)
            after_fork(_forget)
        _loop = asyncio.new_event_loop()
        _thread = threading.Thread(target=_serve, args=(_loop,), name="millrace-loop", daemon=True)
        _thread.start()
        return _loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks, timeout=EXIT_GRACE / 2))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


def _stop() -> None:
    loop, thread = _loop, _thread
    if loop is None or thread is None or loop.is_closed():
        return
    loop.call_soon_threadsafe(loop.stop)
    thread.join(EXIT_GRACE)


def _forget() -> None:
    """In a forked child the thread is gone and the loop is the parent's; neither may be touched."""
    global _loop, _thread, _lock
    _loop = _thread = None
    _lock = threading.Lock()
