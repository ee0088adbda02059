"""Attaching to a run by its id: from another task, another thread, or, through a queue on disk, another process."""

from __future__ import annotations

import time
from typing import Any, cast

from .endings import RunStatus
from .queues import Queue, RunInfo, open_queue
from .readers import Reader, outcome_of
from .registries import MEMORY

__all__ = ["Attachment", "attach"]


class Attachment(Reader):
    """A run that somebody else has started, and its events: for `for` or `async for`, as from `run.events()`.

    Leaving it disturbs nobody; `cancel` stops the run for all.
    """

    def __init__(self, run_id: str, queue: Queue, after: int = 0) -> None:
        super().__init__(queue.read(run_id, after), after, MEMORY.loop_of(run_id))
        self.run_id = run_id
        self.queue = queue

    @property
    def info(self) -> RunInfo:
        """How the run is, now.

        Raises:
            QueueError: it is not kept any more.
        """
        return self.queue.info(self.run_id)

    @property
    def status(self) -> RunStatus:
        """The run's status, now."""
        return self.info.status

    def cancel(self, reason: str = "cancelled") -> None:
        """Stops the run, wherever it goes on; without waiting. For one that is over it does nothing."""
        self.queue.cancel(self.run_id, reason)

    def result(self, timeout: float | None = None) -> Any:
        """Waits in this thread for the run's end, `timeout` seconds at most, and returns its result.

        Raises:
            TimeoutError: it goes on after `timeout` seconds; it is not disturbed.
            RemoteError: what a step raised, in words; errors of millrace's own come as themselves.
            WriterLost: the process that ran it has died.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._twin() as reader:
            while reader.finished is None:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                if reader.next_within(left) is None:
                    raise TimeoutError(f"the run has not ended within {timeout} s; it goes on")
            return outcome_of(reader.finished)

    async def wait(self) -> RunStatus:
        """Waits for the run's end and returns its status; never raises what the run raised."""
        with self._twin() as reader:
            while reader.finished is None:
                await anext(reader)
            return cast("RunStatus", reader.finished.status)

    def _twin(self) -> Reader:
        """Another reader at about the same place: waiting for the end takes no event from this one.

        It begins one event earlier, since that may be the run's last.
        """
        if self.finished is not None:
            return self
        after = max(0, self.seq - 1)
        return Reader(self.queue.read(self.run_id, after), after, self._loop)


def attach(run_id: str, queue: Queue | str | None = None, after: int = 0) -> Attachment:
    """A run by its id, to be read from the event after the number `after` on; by any number of readers at once.

    Args:
        run_id: `run.id`, of a run that is going on or is still kept.
        queue: where its events go, as an object or a URL; without it the runs of this process are meant.
        after: the `seq` of the last event that is known already; 0 reads from the start.

    Raises:
        RunUnknown: there is no such run.
        EventsExpired: what it said there is not kept any more, or it has not said so much.
        QueueError: no such queue.
    """
    return Attachment(run_id, MEMORY.where(run_id) if queue is None else open_queue(queue), after)
