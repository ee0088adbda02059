"""What is old or too much goes: expired runs, then the oldest while the store is over its quota; never a live one."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..errors import QueueError
from .descriptors import with_room
from .folders import Folder
from .locks import is_held
from .names import GONE, LOCK, RUN, SEEN, split
from .peers import Peers
from .segments import Segment
from .states import condition, repair

__all__ = ["Known", "alone", "remove", "sweep"]

logger = logging.getLogger("millrace.streaming")

SWEEP = "sweep.lock"

YOUNG = 60.0
"""Seconds for which a file that is only just being made is left alone."""

TRACE = 24 * 3600.0
"""Seconds for which it is remembered that a run has expired."""


@contextmanager
def alone(folder: Folder, wait: bool) -> Iterator[bool]:
    """Holds the lock of those who remove runs; false when another process does and `wait` is false.

    Raises:
        FileNotFoundError: the directory is gone.
        QueueError: it cannot be written.
    """
    from filelock import lock_descriptor

    try:
        descriptor = with_room(lambda: folder.open_or_create(SWEEP))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise QueueError(f"nothing can be removed from {folder.root}: {error.strerror}") from error
    try:
        yield lock_descriptor(descriptor, blocking=wait, poll_interval=0.005)
    finally:
        os.close(descriptor)


Known = dict[str, tuple[int, float]]
"""Of runs that are over, by their names: when they changed last (ns), and for how many seconds they are kept."""


@dataclass(slots=True)
class Swept:
    """How many runs were removed, how many bytes live runs have, and what the next sweep need not read again."""

    removed: int = 0
    live_bytes: int = 0
    known: Known = field(default_factory=dict)


@dataclass(slots=True)
class _Found:
    stem: str
    size: int
    modified: float
    live: bool
    expired: bool


def sweep(folder: Folder, peers: Peers, most: int, known: Known, wait: bool) -> Swept | None:
    """Removes what has expired, and the oldest runs while all together have more than `most` bytes.

    `known` is what the last sweep has learned. Somebody else who sweeps is waited for, or else the result is None.
    Files that are not ours, or are damaged, stay.
    """
    with alone(folder, wait) as mine:
        return _Sweep(folder, peers, known).run(most) if mine else None


class _Sweep:
    def __init__(self, folder: Folder, peers: Peers, known: Known) -> None:
        self._folder = folder
        self._peers = peers
        self._known = known
        self._swept = Swept()
        self._now = time.time()

    def run(self, most: int) -> Swept:
        runs: list[_Found] = []
        for name in self._folder.names():
            parts = split(name)
            if parts is None:
                continue
            try:
                if parts[1] == RUN:
                    runs += self._seen_before(parts[0], name) or self._look(parts[0], name)
                else:
                    self._tidy(name, *parts)
            except FileNotFoundError:
                pass  # removed meanwhile
            except (QueueError, OSError) as error:
                logger.info("the sweep leaves a file alone: %s", error)
        return self._remove(runs, most)

    def _seen_before(self, stem: str, name: str) -> list[_Found]:
        """A run that is over and has not changed since the last sweep; empty where it has to be read."""
        changed, ttl = self._known.get(stem, (0, 0.0))
        found = self._folder.stat(name)
        if found.st_mtime_ns != changed:
            return []
        self._swept.known[stem] = changed, ttl
        return [_Found(stem, found.st_size, found.st_mtime, False, self._now - found.st_mtime > ttl)]

    def _look(self, stem: str, name: str) -> list[_Found]:
        try:
            segment = Segment.open(self._folder, stem)
        except FileNotFoundError:  # its header is not whole
            self._remove_old(name, YOUNG)
            return []
        try:
            found = condition(segment, self._peers)
            if found.state == "lost":
                repair(self._folder, segment)
        finally:
            segment.file.close()
        live = found.state == "live"
        if not live:
            self._swept.known[stem] = self._folder.stat(name).st_mtime_ns, segment.ttl
        expired = not live and self._now - found.modified > segment.ttl
        return [_Found(stem, found.size, found.modified, live, expired)]

    def _tidy(self, name: str, stem: str, ending: str) -> None:
        if ending == GONE:
            self._remove_old(name, TRACE)
        elif ending == SEEN:
            if not self._folder.has(stem + RUN):
                self._remove_old(name, YOUNG)
        elif not is_held(self._folder, stem + LOCK):
            self._remove_old(name, YOUNG)

    def _remove_old(self, name: str, age: float) -> None:
        if self._now - self._folder.stat(name).st_mtime > age:
            self._folder.remove(name)

    def _remove(self, runs: list[_Found], most: int) -> Swept:
        self._swept.live_bytes = sum(run.size for run in runs if run.live)
        total = sum(run.size for run in runs)
        for run in sorted(runs, key=lambda run: (not run.expired, run.modified)):
            if not run.live and (run.expired or total > most) and self._is_still_over(run.stem):
                self._swept.removed += remove(self._folder, run.stem)
                total -= run.size
        return self._swept

    def _is_still_over(self, stem: str) -> bool:
        """Whether the run is over beyond doubt: its name might be that of another one since the last sweep."""
        try:
            return all(not found.live for found in self._look(stem, stem + RUN))
        except (FileNotFoundError, QueueError):
            return False


def remove(folder: Folder, stem: str, trace: bool = True) -> bool:
    """Removes a run, and says whether this call did it; `trace` leaves a word that it was there."""
    if trace:
        try:
            os.close(with_room(lambda: folder.create(stem + GONE)))
        except FileExistsError:
            pass
    removed = folder.remove(stem + RUN)
    folder.remove(stem + SEEN)
    return removed
