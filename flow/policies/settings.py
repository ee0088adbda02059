"""Policies: what `step(f, retry=..., timeout=..., ...)` was given, checked, and put around a step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...streaming.errors import FlowBuildError
from ..functions import as_step
from ..steps import Step
from .fallbacks import FallingBack
from .limiters import Limiter
from .limiting import Limited
from .rates import Rate
from .retries import Retry, Retrying
from .timeouts import Timed

if TYPE_CHECKING:
    from .caches import Cache

__all__ = ["Policies"]


@dataclass(frozen=True)
class Policies:
    """The policies of a step. From the outside in: fallback, cache, retry, concurrency, rate, timeout.

    Raises:
        FlowBuildError: one of them cannot be; it says which, and what there is.
    """

    retry: int | Retry | None = None
    timeout: float | None = None
    fallback: Step[Any, Any] | Callable[..., Any] | None = None
    cache: bool | str | Cache | None = None
    concurrency: int | Limiter | None = None
    rate: float | str | Rate | None = None

    def __post_init__(self) -> None:
        seconds = self.timeout
        if seconds is not None and (
            not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or not 0 < seconds < math.inf
        ):
            raise FlowBuildError(f"timeout={seconds!r}: give a number of seconds above 0")
        if self.retry is not None and not isinstance(self.retry, Retry):
            Retry(self.retry)
        if self.concurrency is not None and not isinstance(self.concurrency, Limiter):
            Limiter(self.concurrency)
        if self.rate is not None:
            Rate.of(self.rate)
        if self.cache is not None and self.cache is not False:
            from .opening import open_cache

            open_cache(self.cache)
        if self.fallback is not None:
            object.__setattr__(self, "fallback", as_step(self.fallback))

    def around(self, inner: Step[Any, Any], name: str | None) -> Step[Any, Any]:
        """The step with its policies; slots, tokens and values of its own, where they were not given."""
        if self.timeout is not None:
            inner = Timed(inner, self.timeout, name)
        if self.concurrency is not None or self.rate is not None:
            limiter = self.concurrency
            if limiter is not None and not isinstance(limiter, Limiter):
                limiter = Limiter(limiter)
            inner = Limited(inner, limiter, None if self.rate is None else Rate.of(self.rate), name)
        if self.retry is not None:
            retry = self.retry if isinstance(self.retry, Retry) else Retry(self.retry)
            inner = Retrying(inner, retry, name)
        if self.cache is not None and self.cache is not False:
            from .caching import Cached
            from .opening import open_cache

            inner = Cached(inner, open_cache(self.cache), name=name)
        if self.fallback is not None:
            inner = FallingBack(inner, as_step(self.fallback), name)
        return inner
