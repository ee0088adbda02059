"""A store: one directory with a file for each run, written by the process of the run, read by any process."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, Literal

from ..errors import EventsExpired, QueueError, QueueFull, RunUnknown
from .descriptors import with_room
from .entries import RunEntry, entries, entry_of
from .mailboxes import send_mail
from .names import GONE, RUN, SEEN
from .names import stem as stem_of
from .readers import SegmentReader
from .segments import RESERVED, Segment, encode_header, shown
from .sharing import SharedFolder
from .states import condition, repair
from .sweeping import alone, remove, sweep
from .watchers import Notify
from .writers import SegmentWriter

__all__ = ["FileStore"]

TTL = 3600.0
MAX_BYTES = 1 << 30

SWEEP_EVERY = 30.0
"""Seconds between two sweeps while runs are written."""


class FileStore:
    """A directory of runs, with what this user of it wants.

    `ttl`: seconds that a run made here is kept after its last frame; it is written into the run. `max_bytes`: what
    all runs together may take; the oldest finished ones go first. `sync`: "always" waits after each frame until the
    disk has it, so that a loss of power loses nothing that was said. `notify`: "poll" looks at files every few
    milliseconds, as is done anyway where the system has no inotify.

    All stores of a process on one directory share its lock and its watcher, whatever their settings.
    """

    def __init__(self, shared: SharedFolder, ttl: float, max_bytes: int, sync: bool) -> None:
        self.ttl = ttl
        self.max_bytes = max_bytes
        self.sync = sync
        self._shared = shared
        self._folder = shared.folder

    @classmethod
    def at(
        cls,
        root: str | os.PathLike[str],
        ttl: float | None = None,
        max_bytes: int | None = None,
        sync: Literal["none", "always"] = "none",
        notify: Notify = "auto",
        make: bool = True,
    ) -> FileStore:
        """The store in a directory, which is made if need be; an hour and 1 GiB where nothing else is said.

        Raises:
            QueueError: the directory cannot be used, is not this user's, may be written by others, or is not there
                and shall not be made.
            ValueError: a setting that makes no sense.
        """
        ttl = TTL if ttl is None else ttl
        max_bytes = MAX_BYTES if max_bytes is None else max_bytes
        if not 0 < ttl < float("inf"):
            raise ValueError(f"ttl={ttl!r}: give a number of seconds above 0")
        if max_bytes < 1:
            raise ValueError(f"max_bytes={max_bytes!r}: give a number of bytes above 0")
        if sync not in ("none", "always"):
            raise ValueError(f"sync={sync!r}: there are 'none' and 'always'")
        if notify not in ("auto", "poll"):
            raise ValueError(f"notify={notify!r}: there are 'auto' and 'poll'")
        return cls(SharedFolder.at(os.fspath(root), notify, make), ttl, max_bytes, sync == "always")

    @property
    def root(self) -> str:
        """The directory's real path."""
        return self._folder.root

    # ------------------------------------------------------------ one run

    def create(self, run_id: str, header: dict[str, Any]) -> SegmentWriter:
        """Begins the file of a run; `header` is JSON, and gets `run_id`, `lock`, `pid`, `created` and `ttl`.

        Raises:
            QueueError: the run is there already, the header is no JSON or uses one of these names, or the directory
                cannot be written.
            QueueFull: runs that are still live take up more than `max_bytes`.
        """
        name = stem_of(run_id) + RUN
        taken = sorted(set(header) & set(RESERVED))
        if taken:
            raise QueueError(f"a run's header may not have {taken[0]!r}, since the store sets that itself")
        self._check_room()
        own = {"run_id": run_id, "pid": os.getpid(), "created": time.time(), "ttl": self.ttl}
        lock = self._enter(run_id)
        try:
            whole = {**own, "lock": lock, **header}
            data = encode_header(whole)
            descriptor = self._begin(name, data, run_id)
        except BaseException:
            self._shared.leave(run_id)
            raise
        writer = SegmentWriter(self._shared, whole, descriptor, len(data), self.max_bytes, self.sync)
        self._shared.enlist(writer)
        self._shared.keep_swept(self._sweep, min(SWEEP_EVERY, self.ttl / 2))
        return writer

    def _check_room(self) -> None:
        live = self._shared.live_bytes
        if live > self.max_bytes:
            self._shared.sweep_soon(self._sweep)
            raise QueueFull(
                f"runs that are still live take {live} bytes of {self.root}, and max_bytes is {self.max_bytes}; "
                "wait until some have ended, or raise it"
            )

    def _enter(self, run_id: str) -> str:
        try:
            return self._shared.enter()
        except OSError as error:
            raise self._unmade(run_id, error) from error

    def _begin(self, name: str, data: bytes, run_id: str) -> int:
        """Makes the file of a run with its header; it is there whole, or not at all."""
        try:
            descriptor = with_room(partial(self._folder.create, name))
        except FileExistsError:
            raise QueueError(f"run {shown(run_id)} is in {self.root} already; it is written once") from None
        except OSError as error:
            raise self._unmade(run_id, error) from error
        try:
            if os.write(descriptor, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if self.sync:
                os.fsync(descriptor)
                self._folder.sync()
        except OSError as error:
            os.close(descriptor)
            self._folder.remove(name)
            raise self._unmade(run_id, error) from error
        return descriptor

    def _unmade(self, run_id: str, error: OSError) -> QueueError:
        return QueueError(f"run {shown(run_id)} cannot be made in {self.root}: {error.strerror}")

    def read(self, run_id: str, after: int = 0) -> SegmentReader:
        """The frames of a run behind number `after`, while it is written and after.

        Raises:
            RunUnknown: no such run has been in this store, or it was deleted.
            EventsExpired: the run has expired, or has no frame `after` yet.
            QueueError: its file is damaged.
        """
        if not isinstance(after, int) or after < 0:
            raise ValueError(f"after={after!r}: give the number of a frame, or 0 for all of them")
        reader = SegmentReader(self._shared, self._segment(run_id))
        reader.skip(after)
        return reader

    def header(self, run_id: str) -> dict[str, Any]:
        """What `create` was given, and what it added. Raises as `read` does."""
        segment = self._segment(run_id)
        segment.file.close()
        return segment.header

    def entry(self, run_id: str) -> RunEntry:
        """What `runs` says of one run. Raises as `read` does."""
        return entry_of(self._segment(run_id), self._shared.peers)

    def cancel(self, run_id: str, reason: str) -> bool:
        """Asks the process that writes a run to stop it; false when the run is over, and nobody is there to ask.

        Raises as `read` does.
        """
        segment = self._segment(run_id)
        state = condition(segment, self._shared.peers).state
        segment.file.close()
        if state != "live":
            return False
        try:
            send_mail(self._folder, segment.lock, run_id, reason)
        except FileNotFoundError:
            return False
        return True

    def attend(self, run_id: str) -> None:
        """Notes that somebody follows a run, where other processes see it: in a file beside its own, since the time at
        which that was last read says nothing. Sweeps and lists read it too, and many file systems do not keep it.

        Raises as `read` does, and:
            QueueError: the directory cannot be written.
        """
        self._segment(run_id).file.close()
        try:
            self._folder.touch(stem_of(run_id) + SEEN)
        except OSError as error:
            raise QueueError(f"nothing can be noted in {self.root}: {error.strerror}") from error

    def unattended(self, run_id: str) -> float:
        """Seconds since `attend`, by any process; infinite where it was never called. Raises as `read` does."""
        try:
            seen = self._folder.stat(stem_of(run_id) + SEEN).st_mtime
        except FileNotFoundError:
            self._segment(run_id).file.close()
            return float("inf")
        return max(0.0, time.time() - seen)

    def delete(self, run_id: str) -> None:
        """Removes a run that is over; afterwards it is unknown.

        Raises as `read` does, and:
            QueueError: the run is live.
        """
        with alone(self._folder, wait=True):
            segment = self._segment(run_id)
            live = condition(segment, self._shared.peers).state == "live"
            segment.file.close()
            if live:
                raise QueueError(self._live(segment))
            remove(self._folder, stem_of(run_id), trace=False)

    def repair(self, run_id: str) -> int:
        """Cuts what a dead writer left unfinished at the end of a run, as `sweep` does too; returns how many bytes.

        Raises as `read` does, and:
            QueueError: the run is live.
        """
        with alone(self._folder, wait=True):
            segment = self._segment(run_id)
            try:
                if condition(segment, self._shared.peers).state == "live":
                    raise QueueError(self._live(segment))
                return repair(self._folder, segment)
            finally:
                segment.file.close()

    # ------------------------------------------------------------ all runs

    def runs(self) -> Iterator[RunEntry]:
        """The runs that are kept, oldest change first; damaged and foreign files are passed over, with a warning."""
        return entries(self._folder, self._shared.peers)

    def sweep(self, wait: bool = True) -> int:
        """Removes what has expired or is too much; returns how many runs. Live runs stay, whatever they take.

        It is done every 30 seconds while runs are written here, and more often where they are kept for less than a
        minute. Another sweep that is going on is waited for, or else trusted.
        """
        swept = sweep(self._folder, self._shared.peers, self.max_bytes, self._shared.known, wait)
        if swept is None:
            return 0
        self._shared.live_bytes, self._shared.known = swept.live_bytes, swept.known
        return swept.removed

    def _sweep(self) -> None:
        self.sweep(wait=False)

    def _segment(self, run_id: str) -> Segment:
        stem = stem_of(run_id)
        try:
            segment = Segment.open(self._folder, stem)
        except FileNotFoundError:
            pass
        else:
            if not self._expired(segment):
                return segment
            segment.file.close()
            raise EventsExpired(self._gone(run_id))
        try:
            self._folder.stat(stem + GONE)
        except FileNotFoundError:
            raise RunUnknown(f"there is no run {shown(run_id)} in {self.root}") from None
        raise EventsExpired(self._gone(run_id))

    def _expired(self, segment: Segment) -> bool:
        with segment.file.using() as descriptor:
            old = os.fstat(descriptor).st_mtime + segment.ttl < time.time()
        return old and condition(segment, self._shared.peers).state != "live"

    def _gone(self, run_id: str) -> str:
        return f"run {shown(run_id)} has expired; its events are no longer kept in {self.root}"

    def _live(self, segment: Segment) -> str:
        return f"run {shown(segment.run_id)} is being written by process {segment.header['pid']}; cancel it first"
