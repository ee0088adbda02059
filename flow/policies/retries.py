"""Retry: a step that failed is tried again, as long as nobody has heard a piece of it."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from ...streaming.errors import (
    ContextLengthExceeded,
    FlowBuildError,
    FlowCallError,
    MissingExtra,
    Overloaded,
    RequestRefused,
    RunCancelled,
)
from ...streaming.events import Path, Progress
from ...streaming.notes import forget
from ...streaming.runs import Run
from ..steps import In, Keep, Out, Step
from ..taps import close, is_stream
from .upstreams import Upstream
from .wrapping import PolicyStep, pieces_of

__all__ = ["Retry", "Retrying", "is_final", "tell"]

logger = logging.getLogger("millrace.flow")

STOPS = (RunCancelled, FlowBuildError, FlowCallError)
"""What neither another attempt nor a fallback is for: somebody stopped it, or wrote it wrongly."""

HOPELESS = (ContextLengthExceeded, MissingExtra, RequestRefused)
"""What another attempt cannot change."""


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a step is tried, how long it waits in between, and after which errors.

    `step(f, retry=3)` is `step(f, retry=Retry(3))`.

    Args:
        attempts: how often in all, the first one included.
        wait: seconds before the second attempt; each further wait is twice as long. A random part of up to a half
            is taken off, so that many that failed together do not come back together ("Exponential Backoff And
            Jitter", AWS Architecture Blog, 2015). Or a function of the number of the attempt that failed, from 1,
            that gives the seconds exactly.
        most: no wait is longer, in seconds.
        on: the errors to try again after: an exception class, several, or a function of the error that says so.

    Never tried again are a stopped run, a cancelled one, a flow written or called wrongly, a missing package and
    a prompt that does not fit. After an Overloaded the wait is at least its `retry_after`.

    Raises:
        FlowBuildError: a setting that cannot be; it says which.
    """

    attempts: int = 3
    wait: float | Callable[[int], float] = 0.5
    most: float = 30.0
    on: type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool] = Exception

    def __post_init__(self) -> None:
        if not isinstance(self.attempts, int) or isinstance(self.attempts, bool) or self.attempts < 1:
            raise FlowBuildError(
                f"retry={self.attempts!r}: give how often to try in all, a whole number of 1 or more, or a Retry"
            )
        for name, value in (("wait", self.wait), ("most", self.most)):
            if not (callable(value) and name == "wait") and not _is_time(value):
                raise FlowBuildError(f"Retry({name}={value!r}): give seconds, 0 or more")
        if isinstance(self.on, (type, tuple)):
            kinds = self.on if isinstance(self.on, tuple) else (self.on,)
            if not kinds or not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
                raise FlowBuildError(f"Retry(on={self.on!r}): give exception classes, derived from Exception")
        elif not callable(self.on):
            raise FlowBuildError(f"Retry(on={self.on!r}): give exception classes, or a function of the error")

    def wants(self, error: Exception) -> bool:
        """Whether it is worth another attempt."""
        if isinstance(error, HOPELESS):
            return False
        return isinstance(error, self.on) if isinstance(self.on, (type, tuple)) else bool(self.on(error))

    def pause(self, attempt: int, error: Exception) -> float:
        """Seconds to wait after the attempt number `attempt`, from 1, has failed with `error`."""
        if callable(self.wait):
            seconds = float(self.wait(attempt))
        else:
            whole = min(self.most, self.wait * 2.0 ** min(attempt - 1, 1000))
            seconds = whole * random.uniform(0.5, 1.0)
        asked = error.retry_after if isinstance(error, Overloaded) else 0.0
        return max(seconds, asked, 0.0)


class Retrying(PolicyStep[In, Out]):
    """Tries its step again when it fails, before its first piece."""

    def __init__(self, inner: Step[In, Out], retry: Retry, name: str | None = None) -> None:
        super().__init__(inner, name)
        self.retry = retry

    async def work(self, x: Any, run: Run, path: Path, output: bool) -> Any:
        upstream = Upstream(x) if self.live and is_stream(x) else None
        attempt, before = 1, run.outputs
        while True:
            try:
                given = x if upstream is None else upstream.read()
                return await self.inner.execute(given, run, path, output)
            except Exception as error:
                heard = output and run.outputs != before  # of a part that streams, such as a loop's turn
                pause = None if heard else self._pause(error, attempt, run, upstream)
                if pause is None:
                    raise
                self._say(error, attempt, pause, run, path)
            await asyncio.sleep(pause)
            attempt += 1

    async def pieces(self, x: Any, run: Run, path: Path, output: bool, keep: Keep) -> AsyncIterator[Any]:
        upstream = Upstream(x) if self.live and is_stream(x) else None
        attempt, begun, before = 1, False, run.outputs
        while True:
            given = x if upstream is None else upstream.read()
            stream = pieces_of(self.inner, given, run, path, output, keep)
            try:
                async for item in stream:
                    if not begun and upstream is not None:
                        upstream.forget()
                    begun = True
                    yield item
                return
            except Exception as error:
                heard = begun or (output and run.outputs != before)  # a tool call is heard, and no piece
                pause = None if heard else self._pause(error, attempt, run, upstream)
                if pause is None:
                    raise
                self._say(error, attempt, pause, run, path)
            finally:
                await close(stream)
            await asyncio.sleep(pause)
            attempt += 1

    def _pause(self, error: Exception, attempt: int, run: Run, upstream: Upstream | None) -> float | None:
        """Seconds until the next attempt; None: there is none."""
        if attempt >= self.retry.attempts or is_final(error, run, upstream) or not self.retry.wants(error):
            return None
        return self.retry.pause(attempt, error)

    def _say(self, error: Exception, attempt: int, pause: float, run: Run, path: Path) -> None:
        kind = type(error).__name__
        of = f"attempt {attempt + 1} of {self.retry.attempts}"
        logger.warning("step %s failed with %s; %s follows in %.2f s", self.label, kind, of, pause)
        tell(run, path, f"{of} in {pause:.2f} s, after {kind}")
        forget(error)


def is_final(error: Exception, run: Run, upstream: Upstream | None) -> bool:
    """Whether the step's error is no business of policies: the run is being stopped, or the upstream broke."""
    return run.cut is not None or isinstance(error, STOPS) or (upstream is not None and upstream.failed)


def tell(run: Run, path: Path, message: str) -> None:
    """Says what a policy did to the step at `path`, to whoever listens to events; never a value."""
    run.say(Progress(0.0, message), path)


def _is_time(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf
