"""How a run's end is waited for: from its own loop, from others, from threads; and what it ended with."""

from __future__ import annotations

import asyncio
import threading
from asyncio import AbstractEventLoop
from asyncio.events import _get_running_loop
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from .blocking import acquire
from .errors import FlowCallError, RunCancelled, RunTimeout
from .memory import call_soon, resolve

__all__ = ["LEFT", "Ending", "RunStatus"]

LEFT = "listener left"
"""The reason of a run whose listener went away; the listener itself hears nothing of it."""

RunStatus = Literal["queued", "running", "waiting", "done", "cancelled", "timeout", "error", "lost"]


class Ending:
    """The part of a run that knows whether it is over, how it ended, and who waits for that."""

    status: RunStatus = "running"
    reason: str | None = None
    loop: AbstractEventLoop | None = None
    cut: str | None = None
    value: Any = None
    error: BaseException | None = None
    _outcome: RunStatus = "cancelled"
    _written = False
    _caller: asyncio.Future[None] | None = None
    """What a coroutine waits for that has called the flow, on the run's own loop."""
    _watchers: list[Callable[[], object]] | None = None

    @property
    def over(self) -> bool:
        return self.status not in ("queued", "running", "waiting")

    @property
    def settled(self) -> bool:
        """Over, and its end is written down: in its log, and in the history of its session."""
        return self._written or (self.over and self.loop is None)

    def has_lost_its_loop(self) -> bool:
        return self.loop is not None and self.loop.is_closed()

    def outcome(self) -> Any:
        """The result of a finished run; raises what it raised."""
        if self.status == "done":
            return self.value
        if self.error is not None:
            raise self.error
        raise self._stop_error()

    def _stop_error(self) -> RunCancelled | RunTimeout:
        reason = self.reason or self.cut or "cancelled"
        if self._outcome == "timeout":
            return RunTimeout(f"the run was stopped: {reason}")
        return RunCancelled(reason)

    def is_cut(self) -> bool:
        """Whether the run is being stopped, or was; true from the very moment of `cancel()`."""
        return self.cut is not None

    def raise_if_cut(self) -> None:
        """Raises RunCancelled or RunTimeout when the run is being stopped or has been."""
        if self.cut is not None:
            raise self._stop_error()

    # ------------------------------------------------------------ waiting

    def watch(self, watcher: Callable[[], object]) -> None:
        """Calls `watcher` on the run's loop when the run is over. To be set before `open`, or on its loop."""
        if self._watchers is None:
            self._watchers = []
        self._watchers.append(watcher)

    def _tell_watchers(self) -> None:
        """The run is over; called once, on its loop."""
        if self._caller is not None and not self._caller.done():
            self._caller.set_result(None)
        if self._watchers is not None:
            watchers, self._watchers = self._watchers, None
            for watcher in watchers:
                watcher()

    async def wait(self) -> RunStatus:
        """Waits for the run's end, from any loop, and returns its status; never raises what the run raised."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        if self._watch_from_outside(partial(call_soon, loop, partial(resolve, future))):
            await future
        return self.status

    def result(self, timeout: float | None = None) -> Any:
        """Waits in this thread for the run's end, `timeout` seconds at most, and returns its result.

        Raises:
            FlowCallError: in a coroutine on the run's own loop, which could not go on meanwhile.
            TimeoutError: the run is still going on after `timeout` seconds; it is not disturbed.
        """
        if self.loop is not None and self.loop is _get_running_loop() and not self.settled:
            raise FlowCallError(
                "run.result() waits in this thread, which the run needs to go on; use `await run.wait()` first"
            )
        if not self.wait_sync(timeout):
            raise TimeoutError(f"the run has not ended within {timeout} s; it goes on")
        return self.outcome()

    def wait_sync(self, timeout: float | None = None) -> bool:
        """Waits in this thread for the run's end; false when `timeout` seconds were not enough."""
        ended = threading.Lock()
        ended.acquire()
        return not self._watch_from_outside(ended.release) or acquire(ended, timeout)

    def _watch_from_outside(self, watcher: Callable[[], object]) -> bool:
        """False when the run is settled, and then nobody will call."""

        def register() -> None:
            if self.over:
                watcher()
            else:
                self.watch(watcher)

        return not self.settled and self.loop is not None and call_soon(self.loop, register)
