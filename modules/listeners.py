"""Telling the run that waits for an engine to load how far that is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Protocol

from ..streaming.currents import emit
from ..streaming.events import Progress

__all__ = ["telling_progress"]


class Loading(Protocol):
    """An engine that says how far it is with loading, in a thread of its own."""

    def add_progress_listener(self, listener: Callable[[float, str], None]) -> Callable[[], None]: ...


@contextmanager
def telling_progress(engine: Loading) -> Iterator[None]:
    """While the block lasts, what the engine says becomes events of the run whose turn it was to load."""
    context = copy_context()

    def listener(fraction: float, stage: str) -> None:
        context.copy().run(emit, Progress(fraction, stage))

    remove = engine.add_progress_listener(listener)
    try:
        yield
    finally:
        remove()
