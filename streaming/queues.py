"""Queues: where the events of runs go and are read, behind one protocol; named by an object or by a URL.

`memory://` is this process. `file:///var/lib/app/runs` is a directory that outlives it, for readers anywhere on the
machine; behind a `?` stand `ttl=1h` (how long a run that is over is kept), `max_bytes=1g` (how much all of
them may take) and `sync=always` (each event is on the disk before the next one is made).
"""

from __future__ import annotations

import difflib
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakSet

from .endings import RunStatus
from .errors import QueueError
from .events import RunFinished, RunStarted, StatusChanged
from .logs import Log, Source
from .units import bytes_of, seconds_of
from .usage import TokenUsage

if TYPE_CHECKING:
    from .runs import Run

__all__ = ["Queue", "RunInfo", "open_queue"]


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What a queue knows about one of its runs.

    `created` and `ended` are seconds since the epoch; `events` how many it has said, `size` the bytes that they take;
    `error` the name of the error's type. `ended` and `size` are None where they are not known, `session` and `name`
    (that of the flow) where there is none. `writer` is the id of the process that runs it, `owner` whose run it is,
    where a service knows.
    """

    id: str
    status: RunStatus
    created: float
    session: str | None = None
    name: str | None = None
    events: int = 0
    size: int | None = None
    ended: float | None = None
    reason: str | None = None
    error: str | None = None
    usage: TokenUsage = field(default_factory=TokenUsage)
    owner: str | None = None
    writer: int | None = None

    @property
    def over(self) -> bool:
        return self.status not in ("queued", "running", "waiting")

    def as_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        found = {name: getattr(self, name) for name in self.__slots__}
        return {**found, "usage": self.usage.as_dict()}


class Queue(Protocol):
    """Where runs put their events, each into a log of its own, and where anybody reads them by the run's id."""

    @property
    def url(self) -> str:
        """What `open_queue` would take for it."""

    def open_log(self, run: Run, listener: AbstractEventLoop | None) -> Log:
        """The log of a new run; a MemoryLog, where a listener will read it, on or for whose loop the run goes.

        Raises:
            QueueError: it cannot take the run; says why.
        """

    def read(self, run_id: str, after: int = 0) -> Source:
        """The events of a run after a sequence number, those included that are still to come.

        Raises:
            RunUnknown: there is no such run.
            EventsExpired: the events are not kept any more, or the run has not said so much.
        """

    def info(self, run_id: str) -> RunInfo:
        """How a run is, now.

        Raises:
            RunUnknown: there is no such run.
            EventsExpired: it was there, and is not kept any more.
        """

    def runs(self) -> Iterator[RunInfo]:
        """All runs that are there, the latest first."""

    def cancel(self, run_id: str, reason: str = "cancelled") -> None:
        """Stops a run, wherever it goes on; without waiting. For one that is over it does nothing.

        Raises:
            RunUnknown: there is no such run.
        """


def open_queue(queue: Queue | str) -> Queue:
    """The queue that a URL names; a queue stays what it is.

    Raises:
        QueueError: a URL that says nothing known, or something that is no queue; names it and the cure.
    """
    if isinstance(queue, str):
        scheme, colon, rest = queue.partition("://")
        opened = _SCHEMES.get(scheme.lower()) if colon else None
        if opened is None:
            raise QueueError(_unknown(queue))
        return opened(queue, rest)
    if type(queue) in _queue_types:
        return queue
    if hasattr(queue, "__fspath__"):
        raise QueueError(f"queue={queue!r} is a path; write its URL: file:///the/directory")
    lacking = [name for name in ("open_log", "read", "info", "runs", "cancel") if not hasattr(queue, name)]
    if lacking:
        raise QueueError(
            f"queue={queue!r} is no queue: it lacks {', '.join(lacking)}; give a URL such as "
            "'file:///var/lib/app/runs', or an object with the methods of millrace.streaming.Queue"
        )
    _queue_types.add(type(queue))
    return queue


_queue_types: WeakSet[type] = WeakSet()
"""Types whose objects have proved to be queues: a service asks for each of its runs."""


# ---------------------------------------------------------------- URLs


def _unknown(url: str) -> str:
    if url.startswith("redis"):
        return f"{url!r}: queues in Redis are not there yet; use a directory: file:///var/lib/app/runs"
    if url.startswith(("file:", "/", "./", "~", "../")):
        return (
            f"{url!r} names no queue: write file:// and the absolute path, such as file:///var/lib/app/runs"
        )
    return f"{url!r} names no queue: write memory:// or file:///a/directory"


def _memory(url: str, rest: str) -> Queue:
    from .registries import MEMORY

    if rest:
        raise QueueError(f"{url!r}: nothing stands behind memory://; there is one in each process")
    return MEMORY


def _file(url: str, rest: str) -> Queue:
    from urllib.parse import parse_qsl, unquote

    from .file_queues import FileQueue

    path, mark, query = rest.partition("?")
    if not path.startswith("/"):
        raise QueueError(
            f"{url!r}: an absolute path has three slashes, as in file:///var/lib/app/runs; "
            f"{path.partition('/')[0]!r} would be a host"
        )
    if "#" in rest:
        raise QueueError(f"{url!r}: a '#' in a path is written %23")
    pairs = parse_qsl(query, keep_blank_values=True) if mark else []
    return FileQueue(unquote(path), **_settings(url, pairs))


SETTINGS: Mapping[str, Any] = {"ttl": seconds_of, "max_bytes": bytes_of, "sync": str}


def _settings(url: str, pairs: list[tuple[str, str]]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for name, text in pairs:
        if name not in SETTINGS:
            near = difflib.get_close_matches(name, SETTINGS, 1)
            meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(SETTINGS)}"
            raise QueueError(f"{url!r}: unknown setting {name!r}; {meant}")
        if name in settings:
            raise QueueError(f"{url!r}: {name} is there twice")
        try:
            settings[name] = SETTINGS[name](text)
        except ValueError as error:
            raise QueueError(f"{url!r}: {name}: {error}") from None
    return settings


_SCHEMES: Mapping[str, Callable[[str, str], Queue]] = {"memory": _memory, "file": _file}


# ---------------------------------------------------------------- what the last events say


def status_of(events: Any) -> RunStatus:
    """The status of a run that has not ended, by what it has said; nothing yet: it is queued."""
    status: RunStatus = "queued"
    for event in events:
        if isinstance(event, RunStarted):
            status = "running"
        elif isinstance(event, StatusChanged):
            status = "waiting" if event.status == "waiting" else "running"
    return status


def finished_fields(finished: RunFinished) -> dict[str, Any]:
    """What a run's last event tells, as fields of RunInfo."""
    error = finished.as_dict()["error"]
    return {
        "status": finished.status,
        "ended": finished.time,
        "reason": finished.reason,
        "error": error,
        "usage": finished.usage,
    }
