"""The log of a run without a listener: it keeps everything for readers that come later, up to a bound in bytes."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice
from time import time
from typing import Any

from .errors import QueueError, QueueFull
from .events import Event, Path, RunFinished, RunStarted, TextDelta
from .logs import LogSource
from .memory import pending_cancel
from .paces import Pace
from .pieces import Piece
from .records import without_traceback

__all__ = ["KEPT_BYTES", "KeptLog", "laid_up", "weight_of"]

KEPT_BYTES = 16 * 1024 * 1024
"""How much a detached run may say before it fails with QueueFull."""

SAMPLE = 256
"""How many of a container's values are weighed; a quarter as many on each level further inside."""


BREATH = 63
"""Where nobody listens, a producer that never waits lets other tasks run whenever these bits of `seq` are 0."""


class KeptLog:
    """The events of a detached run, all of them. Written on the run's loop, read from anywhere, by anybody."""

    def __init__(self, most: int = KEPT_BYTES) -> None:
        self.events: list[Event] = []
        self.last: RunFinished | None = None
        self.text: list[str] = []
        self.bound = 1
        self.cut = self.skip = False
        self.failure: QueueError | None = None
        self.pace: Pace | None = None
        """Whom the producer waits for, if anybody."""
        self._most = most
        self._size = 0
        self._lock = threading.Lock()
        self._waiting: list[Callable[[], object]] = []

    @property
    def seq(self) -> int:
        return len(self.events)

    def put(self, event: Event, path: Path) -> bool:
        """As `MemoryLog.put`; nobody is waited for, but others are let run now and then."""
        if self.last is not None:
            return False
        size = 0 if isinstance(event, RunFinished) else weight_of(event)
        if self._size + size > self._most:
            self.failure = QueueFull(
                f"a detached run has said more than {self._most} bytes; read it as a stream instead, "
                "or give it a queue on disk"
            )
            return True
        self._size += size
        event.seq, event.path, event.time = len(self.events) + 1, path, time()
        if type(event) is TextDelta and event.output:
            self.text.append(event.text)
        self.events.append(event)
        if self._waiting:
            self._wake()
        if self.pace is not None and self.pace.is_ahead(event.seq):
            return True
        return not self.bound or not event.seq & BREATH

    def say_text(self, text: str, output: bool, path: Path) -> bool:
        """As `put` of a TextDelta."""
        return self.put(TextDelta(text, output), path)

    def _wake(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for wake in waiting:
            wake()

    async def room(self) -> None:
        """Lets other tasks run.

        Raises:
            QueueFull: the run has said more than is kept.
            CancelledError: the run was cut, and goes on all the same.
        """
        if self.failure is not None:
            raise self.failure
        if self.cut:
            await pending_cancel()
        if self.pace is not None:
            await self.pace.wait(self.seq)
        await asyncio.sleep(0)

    def accept(self, value: Any) -> None:
        """As `Log.accept`."""
        if self.failure is not None:
            raise self.failure

    def close(self, event: RunFinished, skip: bool) -> None:
        """Queues the run's last event; what was said before stays."""
        self.put(event, ())
        self.last = event
        self._wake()

    # ------------------------------------------------------------ readers

    def source(self, after: int) -> LogSource:
        """As `Log.source`."""
        return LogSource(self, after)

    def said(self) -> str:
        """All output text so far, delivered or not."""
        return "".join(self.text)

    def kept(self) -> list[Event]:
        """All events that are there."""
        return self.events[:]

    def since(self, after: int) -> list[Event]:
        """The events after the sequence number `after` that are there; from any thread."""
        return self.events[after:]

    def wake_at(self, seq: int, wake: Callable[[], object]) -> None:
        """Calls `wake` as soon as there are events after `seq`; from any thread, and sometimes twice."""
        with self._lock:
            self._waiting.append(wake)
        if len(self.events) > seq or self.last is not None:
            wake()


def laid_up(queued: Sequence[Event | Piece]) -> tuple[list[Event | Piece], int]:
    """What lay in a run's queue, as it is kept when that is over, and the bytes that it takes, roughly."""
    kept, size = [*queued], 0
    for at, event in enumerate(kept):
        if getattr(event, "error", None) is not None:
            event = kept[at] = without_traceback(event)  # type: ignore[arg-type]
        size += weight_of(event)
    return kept, size


def weight_of(event: Event | Piece) -> int:
    """Bytes that an event takes, roughly: texts as their characters, of long lists a sample."""
    if isinstance(event, tuple):
        return 100 + len(event[3])
    if type(event) is TextDelta:
        return 100 + len(event.text)
    if type(event) is RunStarted:
        return 100
    if type(event) is RunFinished and event.error is None:
        return 300 + _weigh(event.result)
    return 100 + sum(_weigh(value) for value in event.payload().values())


def _weigh(value: Any, depth: int = 0) -> int:
    if value is None:
        return 16
    if isinstance(value, (str, bytes)):
        return 50 + len(value)
    items: Iterator[Any]
    if isinstance(value, Mapping):
        many, items = 2 * len(value), chain.from_iterable(value.items())
    elif isinstance(value, (list, tuple, set, frozenset)):
        many, items = len(value), iter(value)
    else:
        return _size_of(value)
    sample = [_weigh(item, depth + 1) for item in islice(items, SAMPLE >> 2 * depth)]
    return 50 + (sum(sample) * many // len(sample) if sample else 0)


def _size_of(value: Any) -> int:
    try:
        return int(getattr(value, "nbytes", 0)) + sys.getsizeof(value, 50)  # arrays and tensors tell
    except Exception:  # a value's own fault must not stop what is said about it
        return 50
