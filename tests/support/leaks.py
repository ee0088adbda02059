"""Waiting on conditions, and finding what was left behind.

`eventually(lambda: engine.status().running == 0)` waits on a condition with a deadline and says what it
waited for. `with leaks():` compares threads, tasks, runs and descriptors before and after a block.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from typing import Any, TypeVar

import psutil

T = TypeVar("T")

TIMEOUT = 10.0
POOLS = ("millrace-loop", "millrace-step*", "asyncio_*", "AnyIO worker thread*", "ThreadPoolExecutor-*")
"""Names of threads that are kept for later work and so are no leaks."""


def eventually(
    condition: Callable[[], T], timeout: float = TIMEOUT, message: str | Callable[[], object] = ""
) -> T:
    """Waits in this thread until `condition()` is true and returns its value.

    `timeout` is in seconds. `message`, or what it returns then, is added to the failure.

    Raises:
        AssertionError: the condition was still false at the deadline; names the condition and its last value.
    """
    deadline = time.monotonic() + timeout
    pause = 0.0005
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(_unmet(condition, value, timeout, message))
        time.sleep(pause)
        pause = min(pause * 1.5, 0.02)
    return value


async def eventually_async(
    condition: Callable[[], T], timeout: float = TIMEOUT, message: str | Callable[[], object] = ""
) -> T:
    """`eventually` for coroutines: the loop goes on while it waits. `condition` is a plain function."""
    deadline = time.monotonic() + timeout
    pause = 0.0
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(_unmet(condition, value, timeout, message))
        await asyncio.sleep(pause)
        pause = min(pause * 1.5 + 0.0005, 0.02)
    return value


def _unmet(
    condition: Callable[[], object], value: object, timeout: float, message: str | Callable[[], object]
) -> str:
    try:
        source = " ".join(inspect.getsource(condition).split())
    except (OSError, TypeError):
        source = repr(condition)
    more = message() if callable(message) else message
    return f"not within {timeout} s: {source}\nlast value: {value!r}" + (f"\n{more}" if more else "")


@dataclass(frozen=True)
class Snapshot:
    """What this process holds at one moment."""

    threads: Counter[str]
    tasks: Counter[str]
    runs: int
    descriptors: Counter[str]

    @classmethod
    def take(
        cls, ignore_threads: tuple[str, ...] = POOLS, *, daemons: bool = True, descriptors: bool = True
    ) -> Snapshot:
        return cls(
            threads=Counter(
                thread.name
                for thread in threading.enumerate()
                if (daemons or not thread.daemon)
                and not any(fnmatch(thread.name, pattern) for pattern in ignore_threads)
            ),
            tasks=Counter(pending_tasks()),
            runs=live_runs(),
            descriptors=Counter(open_descriptors() if descriptors else ()),
        )

    def surplus(self, before: Snapshot) -> dict[str, Any]:
        """What is here and was not there before; empty when nothing was left behind."""
        found = {
            "threads": dict(self.threads - before.threads),
            "tasks": dict(self.tasks - before.tasks),
            "runs": max(0, self.runs - before.runs),
            "descriptors": dict(self.descriptors - before.descriptors),
        }
        return {kind: what for kind, what in found.items() if what}


@contextmanager
def leaks(timeout: float = TIMEOUT, ignore_threads: tuple[str, ...] = ()) -> Iterator[None]:
    """Fails when threads, asyncio tasks, runs or descriptors of the block are still there after `timeout` s.

    What starts once and stays (the framework's loop, a library's caches) is to be warmed up before. Threads
    whose names match `ignore_threads` (shell patterns) do not count, nor do those of the usual pools.
    """
    take = partial(Snapshot.take, POOLS + ignore_threads)
    before = take()
    yield
    nothing_beyond(before, take, timeout)


def nothing_beyond(before: Snapshot, take: Callable[[], Snapshot], timeout: float = TIMEOUT) -> None:
    """Waits until `take()` holds no more than `before`; fails with what is left at the deadline."""
    left: dict[str, Any] = {}

    def gone() -> bool:
        left.clear()
        left.update(take().surplus(before))
        return not left

    eventually(gone, timeout, lambda: f"left behind: {left}")


def live_runs() -> int:
    """How many runs are going on in this process; 0 when nothing of millrace was used."""
    streaming = sys.modules.get("millrace.streaming.currents")
    return streaming.status().runs if streaming is not None else 0


def forget_live_runs() -> None:
    """Cancels the runs that are going on and counts them no more, whether they end or not."""
    streaming = sys.modules["millrace.streaming.runs"]
    for run in list(streaming.LIVE):
        run.cancel("left behind by a test")
        streaming.LIVE.discard(run)


def pending_tasks() -> list[str]:
    """The coroutines of unfinished tasks on the framework's loop and this thread's, the current one aside."""
    found: list[str] = []
    framework = _framework_loop()
    if framework is not None:
        found += [_task_name(task) for task in asyncio.all_tasks(framework)]
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        return found
    if running is not framework:
        current = asyncio.current_task()
        found += [_task_name(task) for task in asyncio.all_tasks(running) if task is not current]
    return found


def _framework_loop() -> asyncio.AbstractEventLoop | None:
    """The framework's loop, if it has been started; looking must not start it."""
    loops = sys.modules.get("millrace.streaming.loops")
    loop: asyncio.AbstractEventLoop | None = getattr(loops, "_loop", None)
    return loop


def _task_name(task: asyncio.Task[Any]) -> str:
    coroutine = task.get_coro()
    return getattr(coroutine, "__qualname__", repr(coroutine))


def open_descriptors() -> list[str]:
    """What the open descriptors of this process point to; sockets and pipes only by their kind."""
    process = psutil.Process()
    directory = f"/proc/{process.pid}/fd"
    if not os.path.isdir(directory):
        return ["descriptor"] * process.num_fds()
    found = []
    for entry in os.listdir(directory):
        try:
            target = os.readlink(f"{directory}/{entry}")
        except OSError:
            continue  # closed since it was listed; the one that lists the directory is always among them
        if target != directory:
            found.append(target.partition(":[")[0])
    return found
