"""What is old or too much goes: expired runs, then the oldest while the store is over its quota; never a live one."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ..errors import QueueError
from .descriptors import with_room
from .folders import Folder
from .locks import is_held
from .names import GONE, LOCK, RUN, split
from .peers import Peers
from .segments import Segment
from .states import condition, repair

__all__ = ["TRACE", "alone", "remove", "sweep"]

logger = logging.getLogger("millrace.streaming")

SWEEP = "sweep.lock"

YOUNG = 60.0
"""Seconds for which a file that is only just being made is left alone."""

TRACE = 24 * 3600.0
"""Seconds for which it is remembered that a run has expired."""


@contextmanager
def alone(folder: Folder, wait: bool) -> Iterator[bool]:
    """Holds the lock of those who remove runs; false when another process does and `wait` is false."""
    from filelock import lock_descriptor

    descriptor = with_room(lambda: folder.open_or_create(SWEEP))
    try:
        yield lock_descriptor(descriptor, blocking=wait, poll_interval=0.005)
    finally:
        os.close(descriptor)


@dataclass(slots=True)
class Swept:
    """How many runs were removed, and how many bytes live runs have."""

    removed: int = 0
    live_bytes: int = 0


@dataclass(slots=True)
class _Found:
    stem: str
    size: int
    modified: float
    live: bool
    expired: bool


def sweep(folder: Folder, peers: Peers, most: int, wait: bool) -> Swept | None:
    """Removes what has expired, and the oldest runs while all together have more than `most` bytes.

    Somebody else who sweeps is waited for, or else the result is None. Files that are not ours, or are damaged, stay.
    """
    with alone(folder, wait) as mine:
        return _Sweep(folder, peers).run(most) if mine else None


class _Sweep:
    def __init__(self, folder: Folder, peers: Peers) -> None:
        self._folder = folder
        self._peers = peers
        self._now = time.time()

    def run(self, most: int) -> Swept:
        runs = []
        for name in self._folder.names():
            parts = split(name)
            if parts is None:
                continue
            try:
                if parts[1] == RUN:
                    found = self._look(parts[0], name)
                    runs += [found] if found is not None else []
                else:
                    self._tidy(name, *parts)
            except FileNotFoundError:
                pass  # removed meanwhile
            except (QueueError, OSError) as error:
                logger.info("the sweep leaves a file alone: %s", error)
        return self._remove(runs, most)

    def _look(self, stem: str, name: str) -> _Found | None:
        try:
            segment = Segment.open(self._folder, stem)
        except FileNotFoundError:  # its header is not whole
            self._remove_old(name, YOUNG)
            return None
        try:
            found = condition(segment, self._peers)
            if found.state == "lost":
                repair(self._folder, segment)
        finally:
            segment.file.close()
        expired = found.state != "live" and self._now - found.modified > segment.ttl
        return _Found(stem, found.size, found.modified, found.state == "live", expired)

    def _tidy(self, name: str, stem: str, ending: str) -> None:
        if ending == GONE:
            self._remove_old(name, TRACE)
        elif not is_held(self._folder, stem + LOCK):
            self._remove_old(name, YOUNG)

    def _remove_old(self, name: str, age: float) -> None:
        if self._now - self._folder.stat(name).st_mtime > age:
            self._folder.remove(name)

    def _remove(self, runs: list[_Found], most: int) -> Swept:
        swept = Swept(live_bytes=sum(run.size for run in runs if run.live))
        total = sum(run.size for run in runs)
        for run in sorted(runs, key=lambda run: (not run.expired, run.modified)):
            if not run.live and (run.expired or total > most):
                swept.removed += remove(self._folder, run.stem)
                total -= run.size
        return swept


def remove(folder: Folder, stem: str, trace: bool = True) -> bool:
    """Removes a run, and says whether this call did it; `trace` leaves a word that it was there."""
    if trace:
        try:
            os.close(with_room(lambda: folder.create(stem + GONE)))
        except FileExistsError:
            pass
    return folder.remove(stem + RUN)
