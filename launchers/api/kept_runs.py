"""Runs that somebody has started before: finding one of an owner's, and stopping it wherever it goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from itertools import islice

from ...streaming.attachments import Attachment
from ...streaming.errors import EventsExpired, QueueError, RunUnknown
from ...streaming.events import RunFinished
from ...streaming.file_queues import FileQueue
from ...streaming.queues import RunInfo
from ...streaming.registries import info_of
from ..owners import Owner
from .desks import Desk
from .refusals import refusal_of
from .run_frames import finished_of

__all__ = ["end_of", "find_run", "runs_of", "stop_run"]


LONGEST_END = 5.0
"""Seconds that a run which was stopped is given to end, before its client is told how it is."""


async def find_run(desk: Desk, run_id: str, owner: Owner) -> RunInfo | None:
    """The run, if it is the owner's: of others it is not even told that they are there.

    Raises:
        Refusal: 410, it is not kept any more, where runs have no owners; 500, it cannot be read.
    """
    work = desk.works.get(run_id)
    try:
        info = info_of(work.run) if work is not None else await desk.look(partial(desk.queue.info, run_id))
    except EventsExpired as error:
        if owner.name is None:
            raise refusal_of(error) from None
        return None  # whose it was is not known any more
    except RunUnknown:
        return None
    except QueueError as error:
        raise refusal_of(error, run_id, desk.debug) from None
    return info if owner.owns(info) else None


async def runs_of(desk: Desk, owner: Owner, most: int) -> list[RunInfo]:
    """An owner's runs, the latest first, so many at most."""

    def own() -> Iterator[RunInfo]:
        if isinstance(desk.queue, FileQueue):
            return desk.queue.runs_of(owner.name)
        return filter(owner.owns, desk.queue.runs())

    return await desk.look(lambda: list(islice(own(), most)))


async def end_of(desk: Desk, info: RunInfo) -> RunFinished | None:
    """The last event of a run that is over; None where it goes on.

    Raises:
        Refusal: 410, it is not kept any more; 500, it cannot be read.
    """
    if not info.over:
        return None
    try:
        return await desk.look(partial(finished_of, desk.queue, info))
    except QueueError as error:
        raise refusal_of(error, info.id, desk.debug) from None


async def stop_run(desk: Desk, info: RunInfo, reason: str) -> RunInfo:
    """Stops a run and waits for its end, wherever it goes on, for LONGEST_END seconds at most; the run as it is then.

    One that is over stays as it is.

    Raises:
        Refusal: 500, it cannot be read.
    """
    try:
        desk.queue.cancel(info.id, reason)
        if not info.over:
            await _ended(desk, info)
        return await desk.look(partial(desk.queue.info, info.id))
    except QueueError as error:
        raise refusal_of(error, info.id, desk.debug) from None


async def _ended(desk: Desk, info: RunInfo) -> None:
    """Waits for a run's end, as long as that may take; a run of another process is followed to it."""
    work = desk.works.get(info.id)
    try:
        async with asyncio.timeout(LONGEST_END):
            if work is not None:
                await work.run.wait()
                return
            with Attachment(info.id, desk.queue, info.events) as reader:
                await reader.wait()
    except (TimeoutError, EventsExpired):
        pass
