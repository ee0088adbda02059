"""Logs that outlive the process: every event goes to a writer as it is said, and from there to any reader."""

from __future__ import annotations

import asyncio
import logging
from asyncio import AbstractEventLoop
from collections.abc import Callable, Sequence
from time import time
from typing import Any, Protocol

from .errors import QueueError
from .events import Event, Path, RunFinished, TextDelta
from .kept import BREATH
from .logs import Source
from .memory import LATE, NEVER, MemoryLog, pending_cancel
from .paces import Pace
from .records import encode
from .usage import TokenUsage

__all__ = ["RecordedLog", "StoredLog", "Writer"]

logger = logging.getLogger("millrace.streaming")


class Writer(Protocol):
    """Where the records of one run go, one after the other. What it raises is a QueueError that says why."""

    def append(self, record: bytes) -> object:
        """Writes one record; quick, and whole or not at all."""

    def end(self, record: bytes) -> object:
        """Writes the last record."""

    def abandon(self) -> object:
        """There will be no last record: readers are told that the run is lost."""


class RecordedLog(MemoryLog):
    """The log of a stream that is recorded as well: its listener reads it in memory, everybody else the record."""

    __slots__ = ("_reread", "_writer")

    def __init__(self, listener: AbstractEventLoop, writer: Writer, reread: Callable[[int], Source]) -> None:
        super().__init__(listener)
        self._writer = writer
        self._reread = reread

    def put(self, event: Event, path: Path) -> bool:
        """As `MemoryLog.put`. What cannot be recorded is refused: it becomes the `failure` of the log."""
        if self.last is not None:
            return False
        seq = self.seq + 1
        event.seq, event.path = seq, path
        event.time = now = time()
        try:
            if type(event) is RunFinished:
                finish(self._writer, event)
            else:
                self._writer.append(encode(event))
        except QueueError as error:
            self.failure = self.failure or error
            return True
        self.seq = seq
        self.ahead.append(event)
        full = len(self.ahead) >= self.bound
        if self.waiting or self.listening:
            if self.due == NEVER:
                self.due = now + LATE
            if self.waiting or full or (type(event) is TextDelta and event.output):
                self._wake()
        return full or now > self.due

    def say_text(self, text: str, output: bool, path: Path) -> bool:
        """As `put` of a TextDelta."""
        return self.put(TextDelta(text, output), path)

    async def room(self) -> None:
        """As `MemoryLog.room`; raises the `failure` of the log."""
        if self.failure is not None:
            raise self.failure
        await super().room()

    def accept(self, value: Any) -> None:
        """As `Log.accept`."""
        accept(self.failure, value)

    def source(self, after: int) -> Source:
        """As `Log.source`: the record has everything."""
        return self._reread(after)


class StoredLog:
    """The log of a run that nobody listens to: its events are in the record alone, and nobody has to be waited for."""

    def __init__(self, writer: Writer, reread: Callable[[int], Source]) -> None:
        self.seq = 0
        self.last: RunFinished | None = None
        self.text: list[str] = []
        self.bound = 1
        self.cut = self.skip = False
        self.failure: QueueError | None = None
        self.pace: Pace | None = None
        """Whom the producer waits for, if anybody."""
        self._writer = writer
        self._append = writer.append
        self.source = reread

    def put(self, event: Event, path: Path) -> bool:
        """As `RecordedLog.put`."""
        if self.last is not None:
            return False
        event.seq = seq = self.seq + 1
        event.path = path
        event.time = time()
        kind = type(event)
        try:
            if kind is RunFinished:
                finish(self._writer, event)
            else:
                self._append(encode(event))
        except QueueError as error:
            self.failure = self.failure or error
            return True
        self.seq = seq
        if kind is TextDelta and event.output:  # type: ignore[attr-defined]
            self.text.append(event.text)  # type: ignore[attr-defined]
        if self.pace is not None and self.pace.is_ahead(seq):
            return True
        return not self.bound or not seq & BREATH

    def say_text(self, text: str, output: bool, path: Path) -> bool:
        """As `put` of a TextDelta."""
        return self.put(TextDelta(text, output), path)

    async def room(self) -> None:
        """Lets other tasks run.

        Raises:
            QueueError: the record can take no more.
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
        accept(self.failure, value)

    def close(self, event: RunFinished, skip: bool) -> None:
        """Records the run's last event; what was said before stays."""
        self.put(event, ())
        self.last = event

    def said(self) -> str:
        """All output text so far."""
        return "".join(self.text)

    def kept(self) -> Sequence[Event]:
        """Nothing: it is all in the record."""
        return ()


def accept(failure: QueueError | None, value: Any) -> None:
    if failure is not None:
        raise failure
    if type(value) is not str and value is not None:
        ending: Event = RunFinished("done", None, value, None, TokenUsage())
        ending.seq, ending.path, ending.time = 0, (), 0.0
        encode(ending)


def finish(writer: Writer, event: Event) -> None:
    """Writes the end; where that cannot be, readers are told that the run is lost, and the log why."""
    try:
        writer.end(encode(event))
    except QueueError as error:
        logger.error(
            "the end of a run could not be recorded, so that its readers will hear it is lost: %s", error
        )
        writer.abandon()
