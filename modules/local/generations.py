"""Generation: the caller's handle on one request."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Literal, Protocol, cast

from ...streaming.events import ToolCall
from ...streaming.usage import TokenUsage
from .requests import Completion, Delta, FinishReason, Request

__all__ = ["Generation", "Waiter", "wake"]

GenerationStatus = Literal["preparing", "waiting", "running", "finished"]
Waiter = tuple[asyncio.AbstractEventLoop, "asyncio.Future[None]"]
KEPT_REASONS = ("stop_condition", "timeout")
"""What `cancel(reason)` keeps as finish reason; everything else is "cancelled"."""


class Counted(Protocol):
    """What knows how many tokens a request has read and produced."""

    @property
    def usage(self) -> TokenUsage: ...


class Generation:
    """An answer as it comes: an async iterator of `Delta`, from any event loop.

    Exactly one delta has a finish reason, and it is the last one, however the request ends. Where it failed, that
    delta has `error`; iterating never raises, `result()` does.
    """

    def __init__(self, request: Request, on_end: Callable[[Generation], None]) -> None:
        self.request = request
        self.submitted = time.monotonic()
        self.sequence: Counted | None = None
        self.dropped = 0
        """How many of the oldest messages were left out so that the prompt fits."""
        self.on_first: Callable[[float], object] | None = None
        """Told once, with the seconds since the submit, when the first output comes."""
        self._on_end = on_end
        self._lock = threading.Lock()
        self._status: GenerationStatus = "preparing"
        self._begun = False
        self._cancelled: FinishReason | None = None
        self._buffer: deque[Delta] = deque()
        self._last: Delta | None = None
        self._taken: list[Delta] = []
        self._waiters: list[Waiter] = []

    # ------------------------------------------------------------ for callers

    @property
    def status(self) -> GenerationStatus:
        return self._status

    @property
    def usage(self) -> TokenUsage:
        """Tokens read and produced so far; exact once the generation is finished."""
        if self._last is not None and self._last.usage is not None:
            return self._last.usage
        return self.sequence.usage if self.sequence is not None else TokenUsage()

    @property
    def finish_reason(self) -> FinishReason | None:
        """How it ended; None while it has not."""
        return self._last.finish_reason if self._last is not None else None

    def __aiter__(self) -> Generation:
        return self

    async def __anext__(self) -> Delta:
        while True:
            with self._lock:
                if self._buffer:
                    delta = self._buffer.popleft()
                    self._taken.append(delta)
                    return delta
                if self._last is not None:
                    raise StopAsyncIteration
                waiter = self._wait()
            await waiter

    def cancel(self, reason: str = "cancelled") -> None:
        """Stops the request; from any thread, again and again, without waiting.

        What was produced and not yet taken is discarded: the next delta is the last one. Its finish reason is
        `stop_condition` or `timeout` where that is the reason given, otherwise `cancelled`.
        """
        finish = cast(FinishReason, reason if reason in KEPT_REASONS else "cancelled")
        with self._lock:
            if self._last is not None:
                self._discard(finish)
                return
            if self._cancelled is not None:
                return
            self._cancelled = finish
            self._buffer.clear()
            waiters = [] if self._begun else self._finish(Delta(finish_reason=finish, usage=self.usage))
        self._on_end(self)
        wake(waiters)

    async def aclose(self) -> None:
        """Cancels the request if it is not over, and waits until its memory is free and its usage exact."""
        self.cancel()
        while True:
            with self._lock:
                if self._last is not None:
                    return
                waiter = self._wait()
            await waiter

    async def result(self) -> Completion:
        """Takes the rest and returns the whole answer.

        Raises:
            MillraceError: the request failed; the error of its last delta.
        """
        async for _ in self:
            pass
        assert self._last is not None
        if self._last.error is not None:
            raise self._last.error
        return Completion(
            text="".join(delta.text for delta in self._taken),
            finish_reason=cast(FinishReason, self._last.finish_reason),
            usage=self.usage,
            token_ids=tuple(token for delta in self._taken for token in delta.token_ids),
            logprobs=tuple(found for delta in self._taken for found in delta.logprobs),
            reasoning="".join(delta.reasoning for delta in self._taken),
            tool_calls=tuple(
                call for delta in self._taken for call in delta.tool_calls if isinstance(call, ToolCall)
            ),
        )

    # ------------------------------------------------------------ for the engine

    @property
    def begun(self) -> bool:
        """It runs or has run: only the engine ends it."""
        return self._begun

    @property
    def stopping(self) -> FinishReason | None:
        """How a request that was cancelled is to end."""
        return self._cancelled

    def join_line(self, sequence: Counted, dropped: int) -> bool:
        """Prepared: the request waits to run. False when it is over already."""
        with self._lock:
            if self._last is not None:
                return False
            self.sequence, self.dropped, self._status = sequence, dropped, "waiting"
            return True

    def begin(self) -> bool:
        """The request runs from now on, and only the engine ends it. False when it is over already."""
        with self._lock:
            if self._last is not None:
                return False
            self._begun, self._status = True, "running"
            return True

    def pause(self) -> None:
        """The request lost its memory to an older one and waits again."""
        with self._lock:
            self._status = "waiting"

    def push(self, delta: Delta) -> list[Waiter]:
        """Adds what a step has produced; returns who waits for it. What comes after the end is dropped."""
        with self._lock:
            if self._last is not None:
                return []
            if self.on_first is not None and self._cancelled is None and has_output(delta):
                self.on_first(time.monotonic() - self.submitted)
                self.on_first = None
            if delta.finish_reason is not None:
                return self._finish(delta)
            if self._cancelled is None:
                self._buffer.append(delta)
            return self._take_waiters()

    def end_unbegun(self, last: Delta) -> None:
        """Ends a request that does not run; for one that does or did, nothing changes."""
        with self._lock:
            if self._begun or self._last is not None:
                return
            waiters = self._finish(last)
        self._on_end(self)
        wake(waiters)

    # ------------------------------------------------------------ with the lock held

    def _finish(self, last: Delta) -> list[Waiter]:
        if self._cancelled is not None and last.finish_reason != "error":
            last = Delta(finish_reason=self._cancelled, usage=last.usage)
        self._last = last
        self._buffer.append(last)
        self._status = "finished"
        return self._take_waiters()

    def _discard(self, finish: FinishReason) -> None:
        """A cancel after the end: what nobody has taken is discarded, and the end says that it was."""
        if self._buffer and any(delta.text or delta.reasoning or delta.tool_calls for delta in self._buffer):
            self._last = Delta(finish_reason=finish, usage=self.usage)
            self._buffer.clear()
            self._buffer.append(self._last)

    def _wait(self) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._waiters.append((loop, future))
        return future

    def _take_waiters(self) -> list[Waiter]:
        waiters, self._waiters = self._waiters, []
        return waiters


def has_output(delta: Delta) -> bool:
    """Whether a model has produced something, and be it a token without text yet."""
    return bool(delta.token_ids or delta.text or delta.reasoning or delta.tool_calls)


def wake(waiters: Iterable[Waiter]) -> None:
    """Wakes who waits, with one call into each event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for loop, future in waiters:
        by_loop.setdefault(loop, []).append(future)
    for loop, futures in by_loop.items():
        try:
            loop.call_soon_threadsafe(_set_all, futures)
        except RuntimeError:
            pass  # that loop is closed, and whoever waited in it is gone


def _set_all(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)
