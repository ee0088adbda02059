"""Runs as they are listed."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..errors import EventsExpired, QueueError
from .folders import Folder
from .names import RUN, split
from .peers import Peers
from .segments import Segment, State
from .states import condition

__all__ = ["RunEntry", "entries", "entry_of"]

logger = logging.getLogger("millrace.streaming")

Payload = bytes


@dataclass(frozen=True, slots=True)
class RunEntry:
    """One run in a list. `frames` and `last`, the payload of its end, are None while it is live.

    `bytes` is the size of its file; `created` and `modified` are seconds since the epoch.
    """

    run_id: str
    header: dict[str, Any]
    state: State
    bytes: int
    created: float
    modified: float
    frames: int | None = None
    last: Payload | None = None


def entry_of(segment: Segment, peers: Peers) -> RunEntry:
    """What there is to say of a run; its file is closed."""
    found = condition(segment, peers)
    segment.file.close()
    return RunEntry(
        segment.run_id,
        segment.header,
        found.state,
        found.size,
        segment.header["created"],
        found.modified,
        found.frames,
        found.last,
    )


def entries(folder: Folder, peers: Peers) -> Iterator[RunEntry]:
    """The runs that are kept, oldest change first; damaged and foreign files are passed over, with a warning."""
    found = []
    for name in folder.names():
        parts = split(name)
        if parts is not None and parts[1] == RUN:
            try:
                found.append((folder.stat(name).st_mtime_ns, parts[0]))
            except FileNotFoundError:
                pass  # removed meanwhile
    for _, stem in sorted(found):
        entry = _entry(folder, peers, stem)
        if entry is not None:
            yield entry


def _entry(folder: Folder, peers: Peers, stem: str) -> RunEntry | None:
    try:
        segment = Segment.open(folder, stem)
        entry = entry_of(segment, peers)
    except (FileNotFoundError, EventsExpired):
        return None  # removed meanwhile
    except QueueError as error:
        logger.warning("a file among the runs is passed over: %s", error)
        return None
    expired = entry.state != "live" and entry.modified + segment.ttl < time.time()
    return None if expired else entry
