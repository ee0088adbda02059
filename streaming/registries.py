"""The memory queue: the runs of this process by their ids, and what is left of those that are over, for a while."""

from __future__ import annotations

import os
import threading
import time
import weakref
from asyncio import AbstractEventLoop
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from .errors import EventsExpired, RunUnknown
from .events import Event, RunFinished, RunStarted, StepFinished, StepStarted
from .forks import after_fork
from .kept import KeptLog, laid_up
from .logs import Log, LogSource, Source
from .memory import MemoryLog
from .pieces import Piece, as_event, seq_of
from .queues import Queue, RunInfo

if TYPE_CHECKING:
    from .runs import Run

__all__ = ["MEMORY", "MemoryQueue", "shown"]

Facts = tuple[Any, ...]

MINUTE = 60.0
AT_ONCE = 32
"""Runs that said little are laid up together: one by one costs twice as much, as the processor's caches are cold."""

STAGES = frozenset((RunStarted, StepStarted, StepFinished, RunFinished))
LITTLE = 16
"""How many events, all of these kinds, are little."""
SHORT = 1000
"""Characters of a result that is short."""
EVENT = 250
"""Bytes of an event that says nothing, roughly."""

REMEMBERED = 10_000
"""Ids of runs that have expired, or are kept in other queues; so many are remembered."""


EVENTS = [field.name for field in fields(RunInfo)].index("events")


@dataclass(slots=True)
class Remains:
    """What is kept of a run that is over: the events that its log had, without the frames of its errors.

    `facts` is what `RunInfo` takes, in its order, but for the size and the writer: most of the runs that are kept are
    never looked at.
    """

    facts: Facts
    queued: list[Event | Piece]
    size: int
    until: float

    @property
    def info(self) -> RunInfo:
        return replace(told(self.facts), size=self.size)

    @property
    def seq(self) -> int:
        seq: int = self.facts[EVENTS]
        return seq

    @property
    def events(self) -> list[Event]:
        return [as_event(event) for event in self.queued]

    @property
    def last(self) -> Event:
        return as_event(self.queued[-1])

    def since(self, after: int) -> list[Event]:
        if not self.queued or after >= seq_of(self.queued[-1]):
            return []
        first = seq_of(self.queued[0])
        if after + 1 < first:
            raise EventsExpired(
                f"the events after {after} are no longer kept: of this run those from {first} on are; "
                "begin the run with flow.start(x), or give it a queue on disk"
            )
        return [as_event(event) for event in self.queued[after + 1 - first :]]

    def wake_at(self, seq: int, wake: Callable[[], object]) -> None:
        wake()


class MemoryQueue:
    """Runs of this process. Those that are over can be read for `ttl` seconds.

    At most `runs` of them are kept, and at most `max_bytes` bytes (roughly) of what they said; the one that ended first
    goes first.
    """

    url = "memory://"

    def __init__(
        self, *, ttl: float = 10 * MINUTE, max_bytes: int = 64 * 1024 * 1024, runs: int = 1000
    ) -> None:
        self._ttl, self._max_bytes, self._most = ttl, max_bytes, runs
        self._lock = threading.RLock()
        self._forget_all()
        QUEUES.add(self)

    def _forget_all(self) -> None:
        self._live = Live()
        self._over: dict[str, Remains] = {}
        self._order: deque[Remains] = deque()
        self._elsewhere: OrderedDict[str, Queue] = OrderedDict()
        self._expired = Recent(REMEMBERED)
        self._fresh: list[tuple[Facts, Sequence[Event | Piece], float, int]] = []
        self._size = 0

    def __len__(self) -> int:
        with self._lock:
            self._lay_up()
            return len(self._live) + len(self._over)

    # ------------------------------------------------------------ the runs' side

    def open_log(self, run: Run, listener: AbstractEventLoop | None) -> Log:
        """As `Queue.open_log`: without a listener everything is kept, up to 16 MiB."""
        run.registry = self
        with self._lock:
            self._live.add(run)
        return MemoryLog(listener) if listener is not None else KeptLog()

    def register(self, run: Run) -> None:
        """Makes a run known by its id."""
        run.registry = self
        with self._lock:
            self._live.add(run)
        if run.settled:
            self.ended(run)

    def ended(self, run: Run) -> None:
        """Keeps what there is to be kept of a run that is over."""
        log, elsewhere = run.log, run.queue
        with self._lock:
            if log is None:
                self._live.discard(run.id)
            elif elsewhere is not None and elsewhere is not self:
                self._live.discard(run.id)
                self._elsewhere[run.id] = elsewhere
                while len(self._elsewhere) > REMEMBERED:
                    self._elsewhere.popitem(last=False)
            else:
                queued = log.queued() if isinstance(log, MemoryLog) else log.kept()
                now, order = time.monotonic(), self._order
                size = _size_of_little(run, queued)
                self._fresh.append((facts_of(run), queued, now + self._ttl, size))
                if not size or len(self._fresh) >= AT_ONCE or (order and order[0].until <= now):
                    self._lay_up()

    def _lay_up(self) -> None:
        """Puts what has ended since the last time where it is kept."""
        fresh, self._fresh = self._fresh, []
        for facts, queued, until, size in fresh:
            run_id = facts[0]
            self._live.discard(run_id)
            if run_id not in self._over:
                kept, size = ([*queued], size) if size else laid_up(queued)
                left = self._over[run_id] = Remains(facts, kept, size, until)
                self._order.append(left)
                self._size += size
        self._sweep()

    # ------------------------------------------------------------ the readers' side

    def read(self, run_id: str, after: int = 0) -> Source:
        """As `Queue.read`."""
        found = self._find(run_id)
        if isinstance(found, Remains):
            return LogSource(found, after)
        assert found.log is not None
        return found.log.source(after)

    def kept(self, run_id: str) -> Sequence[Event]:
        """The events of a run that are there; of a stream, those at most that are kept behind its listener.

        Raises:
            RunUnknown: there is no such run.
            EventsExpired: it was there, and is not kept any more.
        """
        found = self._find(run_id)
        if isinstance(found, Remains):
            return found.events
        return () if found.log is None else found.log.kept()

    def where(self, run_id: str) -> Queue:
        """The queue of a run of this process: another memory queue, the one that the run was given, or this one."""
        with self._lock:
            self._lay_up()
            run = self._live.get(run_id)
            queue = self._elsewhere.get(run_id) if run is None else run.queue
        if queue is None and run is None:
            queue = next((other for other in tuple(QUEUES) if other.has(run_id)), None)
        return self if queue is None else queue

    def has(self, run_id: str) -> bool:
        """Whether there is anything left of a run here."""
        with self._lock:
            self._lay_up()
            return self._live.get(run_id) is not None or run_id in self._over or run_id in self._expired

    def loop_of(self, run_id: str) -> AbstractEventLoop | None:
        """The loop of a run that is going on in this process."""
        for queue in (self, *QUEUES):
            with queue._lock:
                queue._lay_up()
                run = queue._live.get(run_id)
            if run is not None:
                return run.loop
        return None

    def info(self, run_id: str) -> RunInfo:
        """As `Queue.info`."""
        found = self._find(run_id)
        return found.info if isinstance(found, Remains) else info_of(found)

    def runs(self) -> Iterator[RunInfo]:
        """As `Queue.runs`; runs whose ids nobody has asked for are not among them."""
        with self._lock:
            self._lay_up()
            infos = [*map(info_of, self._live.all()), *(left.info for left in self._over.values())]
        yield from sorted(infos, key=lambda info: -info.created)

    def cancel(self, run_id: str, reason: str = "cancelled") -> None:
        """As `Queue.cancel`."""
        found = self._find(run_id)
        if not isinstance(found, Remains):
            found.cancel(reason)

    def sweep(self) -> int:
        """Forgets what has expired; returns how many runs that were."""
        with self._lock:
            before = len(self._order) + len(self._fresh)
            self._lay_up()
            return before - len(self._order)

    def _find(self, run_id: str) -> Run | Remains:
        with self._lock:
            self._lay_up()
            found = self._live.get(run_id) or self._over.get(run_id)
            expired = found is None and run_id in self._expired
        if found is not None:
            return found
        if expired:
            raise EventsExpired(
                f"what the run {shown(run_id)} said is no longer kept; give it a queue on disk"
            )
        raise RunUnknown(
            f"there is no run {shown(run_id)} in this process; one of another process is found through its queue: "
            "attach(run_id, queue='file:///...')"
        )

    def _sweep(self) -> None:
        now, order = time.monotonic(), self._order
        while order and (len(order) > self._most or self._size > self._max_bytes or order[0].until <= now):
            oldest = order.popleft()
            run_id = oldest.facts[0]
            del self._over[run_id]
            self._size -= oldest.size
            self._expired.add(run_id)

    def _forked(self) -> None:
        """In a forked child: its runs are its own."""
        self._lock = threading.RLock()
        self._forget_all()


class Live:
    """Runs by their ids, as long as somebody else holds them.

    As a WeakValueDictionary, for runs that are taken out at their end, with less done for each: those that never came
    to one are looked for now and then.
    """

    LOOK = 1024
    """How many there are at least, before the lost ones are looked for."""

    def __init__(self) -> None:
        self._runs: dict[str, weakref.ref[Run]] = {}
        self._look = self.LOOK

    def add(self, run: Run) -> None:
        self._runs[run.id] = weakref.ref(run)
        if len(self._runs) > self._look:
            self._runs = {run_id: known for run_id, known in self._runs.items() if known() is not None}
            self._look = max(self.LOOK, 2 * len(self._runs))

    def discard(self, run_id: str) -> None:
        self._runs.pop(run_id, None)

    def get(self, run_id: str) -> Run | None:
        known = self._runs.get(run_id)
        return None if known is None else known()

    def all(self) -> list[Run]:
        return [run for known in list(self._runs.values()) if (run := known()) is not None]

    def __len__(self) -> int:
        return len(self.all())


class Recent:
    """About the last so many ids, in sets that are made and forgotten as a whole.

    To put each into one large set and to take it out would cost more than all else that is done about it.
    """

    PART = 256

    def __init__(self, most: int) -> None:
        self._new: list[str] = []
        self._old: deque[frozenset[str]] = deque(maxlen=most // self.PART)

    def add(self, run_id: str) -> None:
        self._new.append(run_id)
        if len(self._new) == self.PART:
            self._old.append(frozenset(self._new))
            self._new = []

    def __contains__(self, run_id: object) -> bool:
        return run_id in self._new or any(run_id in part for part in self._old)


QUEUES: weakref.WeakSet[MemoryQueue] = weakref.WeakSet()
"""All memory queues of this process."""

MEMORY = MemoryQueue()
"""The one for runs that were given none, and for those of queues on disk while they go on: by their ids."""

after_fork(MEMORY._forked)


def info_of(run: Run) -> RunInfo:
    """How a run of this process is."""
    return told(facts_of(run))


def told(facts: Facts) -> RunInfo:
    """The facts about a run of this process."""
    return RunInfo(*(*facts, os.getpid()))


def _size_of_little(run: Run, queued: Sequence[Event | Piece]) -> int:
    """Bytes, roughly, of a run that began and ended, as its steps did, with a short text at most: a few such may wait
    until there are more. 0: it has said more than that.
    """
    if len(queued) > LITTLE:
        return 0
    for event in queued:
        if type(event) not in STAGES or getattr(event, "error", None) is not None:
            return 0
    value = run.value
    if value is None:
        return EVENT * len(queued)
    return EVENT * len(queued) + len(value) if type(value) is str and len(value) <= SHORT else 0


def facts_of(run: Run) -> Facts:
    """What `RunInfo` takes, of a run of this process."""
    log, now, error = run.log, time.time(), run.error
    last = log.last if log is not None else None
    return (
        run.id,
        "lost" if not run.over and run.has_lost_its_loop() else run.status,
        now - (time.perf_counter() - run.born) if run.born else now,
        session_of(run),
        run.name,
        log.seq if log is not None else 0,
        None,
        last.time if last is not None else None,
        run.reason,
        type(error).__name__ if error is not None else None,
        run.usage,
        run.owner,
    )


def session_of(run: Run) -> str | None:
    """The id of a run's session, where there is one yet: given, or asked for."""
    known = run._session or run._new_session
    return session_of(run.parent) if known is None and run.parent is not None else known


def shown(run_id: object) -> str:
    """An id as messages name it."""
    text = repr(run_id)
    return text if len(text) <= 60 else text[:57] + "..."
