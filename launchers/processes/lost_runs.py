"""Lost runs: what a worker that has died was at, written down for it, as it could not do so itself."""

from __future__ import annotations

import logging

from ...streaming.errors import QueueError, WriterLost
from ...streaming.events import Event, RunFinished, RunStarted, TextDelta
from ...streaming.file_queues import FileQueue
from ...streaming.queues import RunInfo, open_queue
from ..run_records import RunRecord, write_down

__all__ = ["write_down_lost"]

logger = logging.getLogger("millrace.service")


def write_down_lost(url: str, pid: int, since: float, died: float) -> None:
    """A record for each run that process `pid` has begun `since` then and not ended when it `died` (seconds since the
    epoch, both).

    It says what the run's queue, at `url`, knows: no endpoint, and pieces as they were made and not as they were sent.
    """
    queue = open_queue(url)
    if not isinstance(queue, FileQueue):
        return
    try:
        lost = [*queue.lost_by(pid, since)]
    except (QueueError, OSError) as error:
        logger.warning("what a worker was at when it died is not written down: %s", error)
        return
    for run in reversed(lost):
        try:
            events = events_of(queue, run)
        except (QueueError, OSError):  # it is not kept any more
            events = []
        write_down(record_of(run, events, died))


def events_of(queue: FileQueue, run: RunInfo) -> list[Event]:
    source, events = queue.read(run.id), list[Event]()
    try:
        while not source.ended and (found := source.take()):
            events += found
    finally:
        source.close()
    return events


def record_of(run: RunInfo, events: list[Event], died: float) -> RunRecord:
    """How a lost run is written down, by what it has said, the end included that was made up for it."""
    began = next((event.time for event in events if isinstance(event, RunStarted)), None)
    pieces = [event.time for event in events if isinstance(event, TextDelta) and event.output]
    usage = next((event.usage for event in reversed(events) if isinstance(event, RunFinished)), run.usage)
    return RunRecord(
        run.id,
        run.owner,
        "",
        "failed",
        WriterLost.__name__,
        usage.prompt_tokens,
        usage.completion_tokens,
        in_line=max(0.0, (died if began is None else began) - run.created),
        first_output=max(0.0, pieces[0] - run.created) if pieces else None,
        took=max(0.0, died - run.created),
        pieces=len(pieces),
    )
