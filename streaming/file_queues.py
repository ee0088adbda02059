"""Queues on disk: a directory with a file for each run, for readers in any process of the machine."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from .errors import QueueError, RunUnknown, WriterLost
from .events import Event, RunFinished, Usage
from .files import FileStore, RunEntry, SegmentReader
from .logs import Log, Source
from .queues import RunInfo, finished_fields, status_of
from .recording import RecordedLog, StoredLog
from .records import decode, decode_all
from .registries import shown
from .usage import TokenUsage

if TYPE_CHECKING:
    from .runs import Run

__all__ = ["FileQueue"]

logger = logging.getLogger("millrace.streaming")


class FileQueue:
    """Runs in a directory, which is made when the first one begins; `file:///directory` as an object.

    Args:
        path: the directory, from the root on; this user's alone.
        ttl: seconds that a run is kept after its end; an hour by default.
        max_bytes: what all runs together may take, the oldest that are over go first; 1 GiB by default.
        sync: "always": an event is on the disk before the next one is made, so that it outlives a loss of power; by
            default it outlives the process.

    Raises:
        QueueError: a path that is none, or a setting that makes no sense.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        ttl: float | None = None,
        max_bytes: int | None = None,
        sync: Literal["none", "always"] = "none",
    ) -> None:
        self.path = os.fspath(path)
        if not os.path.isabs(self.path) or "\0" in self.path:
            raise QueueError(f"FileQueue({self.path!r}): give the path of a directory, from the root on")
        if ttl is not None and not (isinstance(ttl, (int, float)) and 0 < ttl < float("inf")):
            raise QueueError(f"ttl={ttl!r}: give a number of seconds above 0")
        if max_bytes is not None and not (isinstance(max_bytes, int) and max_bytes > 0):
            raise QueueError(f"max_bytes={max_bytes!r}: give a number of bytes above 0")
        if sync not in ("none", "always"):
            raise QueueError(f"sync={sync!r}: there are 'none' and 'always'")
        self._store = partial(FileStore.at, self.path, ttl=ttl, max_bytes=max_bytes, sync=sync)
        given = {"ttl": ttl, "max_bytes": max_bytes, "sync": None if sync == "none" else sync}
        self._query = "&".join(f"{name}={value}" for name, value in given.items() if value is not None)

    @property
    def url(self) -> str:
        """What `open_queue` would take for it."""
        return f"file://{quote(self.path)}" + (f"?{self._query}" if self._query else "")

    def __repr__(self) -> str:
        return f"<FileQueue {self.url}>"

    # ------------------------------------------------------------ the runs' side

    def open_log(self, run: Run, listener: AbstractEventLoop | None) -> Log:
        """As `Queue.open_log`."""
        facts = {"session": run.session, "name": run.name, "owner": run.owner}
        writer = self._store().create(run.id, facts)
        writer.on_cancel = partial(_cancel, weakref.ref(run))
        reread = partial(self.read, run.id)
        return StoredLog(writer, reread) if listener is None else RecordedLog(listener, writer, reread)

    # ------------------------------------------------------------ the readers' side

    def read(self, run_id: str, after: int = 0) -> Source:
        """As `Queue.read`."""
        return FileSource(self._existing(run_id).read(run_id, after))

    def info(self, run_id: str) -> RunInfo:
        """As `Queue.info`."""
        store = self._existing(run_id)
        return _info(store, store.entry(run_id))

    def runs(self) -> Iterator[RunInfo]:
        """As `Queue.runs`."""
        return self._runs(lambda entry: True)

    def runs_of(self, owner: str | None) -> Iterator[RunInfo]:
        """The runs of one owner, the latest first; of others no more is read than whose they are."""
        return self._runs(lambda entry: entry.header.get("owner") == owner)

    def lost_by(self, pid: int, since: float) -> Iterator[RunInfo]:
        """The runs that a process has begun since then (seconds since the epoch), and that ended with it."""
        return self._runs(
            lambda entry: (entry.state, entry.header.get("pid")) == ("lost", pid) and entry.created >= since
        )

    def _runs(self, wanted: Callable[[RunEntry], bool]) -> Iterator[RunInfo]:
        if os.path.isdir(self.path):
            store = self._store()
            for entry in sorted(filter(wanted, store.runs()), key=lambda entry: -entry.created):
                try:
                    info = _info(store, entry)
                except QueueError as error:  # damaged, or removed meanwhile
                    logger.warning("a run is passed over: %s", error)
                    continue
                yield info

    def cancel(self, run_id: str, reason: str = "cancelled") -> None:
        """As `Queue.cancel`; the process of the run hears of it within milliseconds."""
        self._existing(run_id).cancel(run_id, reason)

    def make(self) -> None:
        """Makes the directory, where it is not there yet.

        Raises:
            QueueError: it cannot hold runs; says why.
        """
        self._store()

    def attend(self, run_id: str) -> None:
        """Lets the process of a run know that somebody follows it from here; see `unattended`."""
        self._existing(run_id).attend(run_id)

    def unattended(self, run_id: str) -> float:
        """Seconds for which nobody in another process has followed a run."""
        return self._existing(run_id).unattended(run_id)

    def sweep(self) -> int:
        """Removes the runs that have expired; returns how many. While runs are written that is done anyway."""
        return self._store(make=False).sweep() if os.path.isdir(self.path) else 0

    def _existing(self, run_id: str) -> FileStore:
        """The store, to look for a run in: looking makes no directory."""
        if not isinstance(run_id, str) or not run_id:
            raise RunUnknown(f"there is no run {shown(run_id)}: an id is what run.id shows")
        if not os.path.isdir(self.path):
            raise RunUnknown(f"there is no run {shown(run_id)} in {self.path}: there is no such directory")
        return self._store(make=False)


class FileSource:
    """A reader's place in the file of a run.

    It is watched while somebody waits, and no longer: what is dropped without a word is let go of at the run's next
    event.
    """

    def __init__(self, reader: SegmentReader) -> None:
        self._reader = reader
        self._usage = TokenUsage()
        self._time = 0.0
        self._lost = False
        self._lock = threading.Lock()
        self._watching = False
        self._changed = False
        self._wake: Callable[[], object] | None = None

    @property
    def ended(self) -> bool:
        """As `Source.ended`."""
        return self._lost or self._reader.ended

    def take(self) -> Sequence[Event]:
        """As `Source.take`."""
        if self._lost:
            return ()
        self._changed = False
        events = decode_all(self._reader.take())
        for event in events:
            self._time = event.time
            if type(event) is Usage:
                self._usage += TokenUsage(event.prompt_tokens, event.completion_tokens)
        if not events and self._reader.lost:
            self._lost = True
            return (self._loss(),)
        return events

    def _loss(self) -> Event:
        error = WriterLost(
            f"the process that ran {shown(self._reader.run_id)} died, or gave it up, before its end; what it had "
            "said until then has been read"
        )
        event: Event = RunFinished("lost", "writer lost", None, error, self._usage)
        event.path, event.time = (), self._time or time.time()  # of its last word, as for all who read that
        return event

    def wake_at_more(self, wake: Callable[[], object]) -> None:
        """As `Source.wake_at_more`."""
        self._wake = wake
        with self._lock:
            if not self._watching:
                self._watching = True
                self._reader.watch(partial(_told, weakref.ref(self), self._reader))
        if self._changed:
            wake()

    def tell(self) -> None:
        """There may be more; called by the thread that watches files."""
        with self._lock:
            self._reader.unwatch()
            self._watching = False
        self._changed = True
        wake, self._wake = self._wake, None
        if wake is not None:
            wake()

    def close(self) -> None:
        """As `Source.close`."""
        with self._lock:
            self._reader.close()


def _told(source: weakref.ref[FileSource], reader: SegmentReader) -> None:
    there = source()
    if there is not None:
        there.tell()
    else:
        reader.close()


def _info(store: FileStore, entry: RunEntry) -> RunInfo:
    header = entry.header
    told: dict[str, Any] = {"events": entry.frames or 0}
    if entry.state == "live":
        told |= _live(store, entry.run_id)
    elif entry.state == "lost":
        told |= {"status": "lost", "ended": entry.modified, "reason": "writer lost", "error": "WriterLost"}
    elif entry.last is not None:
        finished = decode(entry.last)
        if isinstance(finished, RunFinished):
            told |= finished_fields(finished)
    return RunInfo(
        **{
            "id": entry.run_id,
            "status": "done",
            "created": entry.created,
            "session": header.get("session"),
            "name": header.get("name"),
            "owner": header.get("owner"),
            "size": entry.bytes,
            "writer": header.get("pid"),
            **told,
        }
    )


def _live(store: FileStore, run_id: str) -> dict[str, Any]:
    """The status of a live run and how much it has said, which has to be read."""
    number, marks = 0, []
    reader = store.read(run_id)
    try:
        while records := reader.take():
            number += len(records)
            marks += [record for record in records if record.startswith(MARKS)]
    finally:
        reader.close()
    return {"status": status_of(map(decode, marks)), "events": number}


MARKS = b'{"kind":"run_started"', b'{"kind":"status_changed"', b'{"kind":"run_finished"'


def _cancel(run: weakref.ref[Run], reason: str) -> None:
    there = run()
    if there is not None:
        there.cancel(reason)
