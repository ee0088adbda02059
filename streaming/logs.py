"""Logs: where one run's events are put. What a run needs of one, and what its readers need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from .errors import EventsExpired, QueueError
from .events import Event, Path, RunFinished

__all__ = ["Log", "LogSource", "Readable", "Source"]


class Log(Protocol):
    """The events of one run, in order, as the run puts them. It belongs to the run's loop."""

    bound: int
    """How far the producer may run ahead; 0 cuts it off."""
    cut: bool
    """Whether the run's task has been told to stop."""
    skip: bool
    """Whether the listener is to go straight to the run's end."""
    failure: QueueError | None
    """Why the log can take no more, when it cannot; the run fails with it."""
    text: list[str]
    """The output text, as far as it counts as delivered."""

    @property
    def seq(self) -> int:
        """How many events there are."""

    @property
    def last(self) -> RunFinished | None:
        """The run's last event, once it is there."""

    def put(self, event: Event, path: Path) -> bool:
        """Stamps and queues an event; never blocks or raises. When true, `await room()` before the next one."""

    def say_text(self, text: str, output: bool, path: Path) -> bool:
        """As `put` of a TextDelta."""

    async def room(self) -> None:
        """Waits until there is room for more.

        Raises:
            QueueError: `failure`, when there is one.
        """

    def accept(self, value: Any) -> None:
        """Looks at what the run will return, before it is told as done.

        Raises:
            QueueError: `failure`, or the log cannot keep the value.
        """

    def close(self, event: RunFinished, skip: bool) -> None:
        """Queues the run's last event; `skip` moves the listener past what it has not taken yet."""

    def said(self) -> str:
        """All output text so far, delivered or not."""

    def kept(self) -> Sequence[Event]:
        """All events that are still there, in this process."""

    def source(self, after: int) -> Source:
        """The events after the sequence number `after`, for one more reader; from any thread.

        Raises:
            EventsExpired: they are not kept any more, or the run has not said so much.
        """


class Source(Protocol):
    """What one reader reads a run from: a log in this process, or a record elsewhere."""

    @property
    def ended(self) -> bool:
        """Whether nothing more will come than what is there."""

    def take(self) -> Sequence[Event]:
        """The events that are there and have not been taken, in order. After RunFinished there are none.

        Where the writer has died it is followed by a RunFinished without `seq`, of status "lost" and with the error
        WriterLost.

        Raises:
            EventsExpired: what comes next is not kept any more.
        """

    def wake_at_more(self, wake: Callable[[], object]) -> None:
        """Calls `wake`, from any thread, as soon as there may be more to take; sometimes for nothing."""

    def close(self) -> None:
        """The reader is gone."""


class Readable(Protocol):
    """What keeps events in this process."""

    @property
    def seq(self) -> int:
        """How many events there were."""

    @property
    def last(self) -> Event | None:
        """The run's last event, once it is there."""

    def since(self, after: int) -> Sequence[Event]:
        """The events after the sequence number `after` that are there; from any thread.

        Raises:
            EventsExpired: they are not kept any more.
        """

    def wake_at(self, seq: int, wake: Callable[[], object]) -> None:
        """Calls `wake` as soon as there are events after `seq`; from any thread, and sometimes for nothing."""


class LogSource:
    """A reader's place in what keeps events in this process.

    Raises:
        EventsExpired: the events behind `after` are not kept any more, or the run has not said so much.
    """

    def __init__(self, log: Readable, after: int) -> None:
        if not 0 <= after <= log.seq:
            raise EventsExpired(f"after={after}: this run has said {log.seq} events so far")
        self._log = log
        self._seq = after
        log.since(after)

    @property
    def ended(self) -> bool:
        return self._log.last is not None

    def take(self) -> Sequence[Event]:
        events = self._log.since(self._seq)
        if events:
            self._seq = events[-1].seq
        return events

    def wake_at_more(self, wake: Callable[[], object]) -> None:
        self._log.wake_at(self._seq, wake)

    def close(self) -> None:
        pass
