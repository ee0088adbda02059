"""Where the events of a run come from, for whoever wants to look at all of it at once; without waiting."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ...streaming.attachments import Attachment
from ...streaming.errors import EventsExpired, MillraceError, QueueError
from ...streaming.events import Event
from ...streaming.queues import Queue, RunInfo, open_queue
from ...streaming.registries import MEMORY, MemoryQueue, info_of
from ...streaming.runs import Run
from ...streaming.streams import Stream

__all__ = ["Found", "find"]


@dataclass(frozen=True, slots=True)
class Found:
    """The events of a run that are there, and what is known of it besides."""

    events: Sequence[Event]
    info: RunInfo | None = None
    queued: bool = False
    """Whether it had to be admitted, as far as that is known."""


def find(run: Run | Stream | Attachment | str | Iterable[Event], queue: Queue | str | None = None) -> Found:
    """What there is of a run.

    Raises:
        QueueError: there is no such run or queue, or nobody keeps what the run says.
        MillraceError: it is nothing that a run can be found by.
    """
    if isinstance(run, Stream):
        run = run.run
    if isinstance(run, Run):
        return _of_run(run)
    if isinstance(run, Attachment):
        return _in_queue(run.run_id, run.queue)
    if isinstance(run, str):
        return _in_queue(run, MEMORY.where(run) if queue is None else open_queue(queue))
    events = _listed(run)
    return Found(events)


def _listed(events: Any) -> list[Event]:
    try:
        found = list(events)
    except TypeError:
        found = [events]
    for one in found:
        if not isinstance(one, Event):
            raise MillraceError(
                f"explain() got {type(one).__name__}; give it a run, a stream, what attach() returns, a run id, "
                "or the events of a run"
            )
        if not hasattr(one, "time"):
            raise MillraceError(f"{one!r} has been said by no run: it has no time")
    return found


def _of_run(run: Run) -> Found:
    if run.log is None:
        raise QueueError(
            "nobody keeps what this run says: it was called; use flow.stream(x) or flow.start(x), or give the "
            "call a queue=..."
        )
    if run.queue is not None and not isinstance(run.queue, MemoryQueue):
        return _in_queue(run.id, run.queue)
    return Found(run.log.kept(), info_of(run), run.had_line)


def _in_queue(run_id: str, queue: Queue) -> Found:
    info = queue.info(run_id)
    if isinstance(queue, MemoryQueue):
        return Found(queue.kept(run_id), info)
    try:
        source = queue.read(run_id)
    except EventsExpired:
        return Found((), info)
    events: list[Event] = []
    try:
        while some := source.take():
            events += some
    finally:
        source.close()
    return Found(events, info)
