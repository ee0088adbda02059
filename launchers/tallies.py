"""Tallies: what became of the requests for runs, each counted once when it comes and once when it is over."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, deque
from time import monotonic, time
from types import TracebackType
from typing import Any, Self

from ..streaming.errors import AdmissionError, ContextLengthExceeded, Overloaded, RunCancelled, RunTimeout
from ..streaming.events import Event
from ..streaming.runs import Run
from ..streaming.usage import TokenUsage
from .histograms import Histogram
from .run_records import OUTCOMES, Outcome, RunRecord, write_down

__all__ = ["LATELY", "OUTCOMES", "Counted", "Outcome", "Tally"]

NO_TOKENS = TokenUsage()

SLICE = 30.0
SLICES = 10
LATELY = SLICE * SLICES
"""Seconds that `lately` looks back, at most; it forgets a slice of it at a time."""


AT_ONCE = 64
"""Records that are added up together: one by one costs three times as much, as the processor's caches are cold."""


class Tally:
    """How many runs were asked for, how they ended and what they took; `started` is the sum of the outcomes while
    none goes on.

    It belongs to one event loop; `times` and `lately` may be asked from other threads.
    """

    def __init__(self) -> None:
        self.started = 0
        self._sums = Sums()
        self._fresh: deque[tuple[RunRecord, float | None, float]] = deque()
        self._lock = threading.RLock()

    def begin(self, key: str | None = None, endpoint: str = "") -> Counted:
        """A run is asked for; to be used as the `with` block around all that is done about it.

        Args:
            key: the name of whose run it is.
            endpoint: what it was asked of.
        """
        self.started += 1
        return Counted(self, key, endpoint)

    def reject(self, key: str | None = None, endpoint: str = "", reason: str = "overloaded") -> None:
        """A run was asked for, and there was no place for it."""
        self.started += 1
        self.take(RunRecord(None, key, endpoint, "rejected", reason), None, monotonic())

    def take(self, record: RunRecord, gaps: float | None, now: float) -> None:
        """A run is over; `gaps` is the seconds from its first piece to its last, None where it never had a place."""
        self._fresh.append((record, gaps, now))
        write_down(record)
        if len(self._fresh) >= AT_ONCE:
            self._add_up()

    def _add_up(self) -> None:
        with self._lock:
            fresh, take = self._fresh, self._sums.take
            while fresh:
                take(*fresh.popleft())

    # ------------------------------------------------------------ as figures

    @property
    def sums(self) -> Sums:
        """What all records add up to."""
        self._add_up()
        return self._sums

    @property
    def ended(self) -> Counter[Outcome]:
        """How many ended how."""
        return self.sums.ended

    @property
    def keys(self) -> dict[str, KeyTally]:
        """What became of the runs of each key, by its name."""
        return self.sums.keys

    def times(self) -> dict[str, Any]:
        """How long runs took: the histograms by name, that of their whole time by outcome."""
        with self._lock:
            sums = self.sums
            return {
                "in_line": sums.in_line.figures(),
                "first_output": sums.first_output.figures(),
                "between": sums.between.figures(),
                "took": {outcome: histogram.figures() for outcome, histogram in sums.took.items()},
            }

    def lately(self) -> dict[str, Any]:
        """How the runs of the last `LATELY` seconds ended, and the histogram of their times to the first output."""
        oldest = int(monotonic() / SLICE) - SLICES + 1
        ended: Counter[Outcome] = Counter()
        first = Histogram()
        with self._lock:
            for part in self.sums.slices:
                if part.number >= oldest:
                    ended += part.ended
                    first.merge(part.first_output)
        return {"ended": {name: ended[name] for name in OUTCOMES}, "first_output": first.figures()}


class Sums:
    """What records add up to, all of them and those of each key and of each slice of time."""

    __slots__ = ("between", "ended", "first_output", "in_line", "keys", "slices", "took")

    def __init__(self) -> None:
        self.ended: Counter[Outcome] = Counter()
        self.keys: dict[str, KeyTally] = {}
        self.in_line, self.first_output, self.between = Histogram(), Histogram(), Histogram()
        self.took = {outcome: Histogram() for outcome in OUTCOMES if outcome != "rejected"}
        self.slices: deque[Slice] = deque(maxlen=SLICES)

    def take(self, record: RunRecord, gaps: float | None, now: float) -> None:
        """As `Tally.take`; `now` is when it ended."""
        if gaps is not None:
            self.in_line.add(record.in_line)
            if record.first_output is not None:
                self.first_output.add(record.first_output)
            if record.pieces > 1:
                self.between.add(gaps / (record.pieces - 1), record.pieces - 1)
            if record.outcome != "rejected":
                self.took[record.outcome].add(record.took)
        self.ended[record.outcome] += 1
        if record.key is not None:
            self.keys.setdefault(record.key, KeyTally()).take(record)
        number = int(now / SLICE)
        if not self.slices or self.slices[-1].number != number:
            self.slices.append(Slice(number))
        self.slices[-1].take(record)


class KeyTally:
    """What became of the runs of one key, and the tokens that they cost."""

    __slots__ = ("completion_tokens", "ended", "prompt_tokens")

    def __init__(self) -> None:
        self.ended: Counter[Outcome] = Counter()
        self.prompt_tokens = self.completion_tokens = 0

    def take(self, record: RunRecord) -> None:
        self.ended[record.outcome] += 1
        self.prompt_tokens += record.prompt_tokens
        self.completion_tokens += record.completion_tokens

    def figures(self) -> dict[str, Any]:
        return {
            "ended": {name: self.ended[name] for name in OUTCOMES},
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
        }


class Slice:
    """What ended within one slice of time."""

    __slots__ = ("ended", "first_output", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.ended: Counter[Outcome] = Counter()
        self.first_output = Histogram()

    def take(self, record: RunRecord) -> None:
        self.ended[record.outcome] += 1
        if record.first_output is not None:
            self.first_output.add(record.first_output)


class Counted:
    """One run that is asked for.

    How it ended is said by the run that was made for it, else by the error that there was instead, else it was
    cancelled before it began, for the `reason` that somebody has left. `id` is the run's, where others know it.
    """

    __slots__ = (
        "_admitted",
        "_asked",
        "_asked_at",
        "_tally",
        "endpoint",
        "error",
        "first",
        "id",
        "key",
        "last",
        "pieces",
        "reason",
        "run",
    )

    def __init__(self, tally: Tally, key: str | None, endpoint: str) -> None:
        self._tally = tally
        self.key, self.endpoint = key, endpoint
        self._asked, self._asked_at = monotonic(), time()
        self._admitted: float | None = None
        self.first = self.last = 0.0
        self.pieces = 0
        self.run: Run | None = None
        self.id: str | None = None
        self.error: BaseException | None = None
        self.reason: str | None = None

    def admit(self) -> None:
        """It has its permit."""
        self._admitted = monotonic()

    def hear(self, event: Event) -> None:
        """A piece of the answer has come."""
        self.pieces += 1
        self.last = event.time
        if not self.first:
            self.first = event.time

    def conclude(self, event: Event) -> None:
        """The answer is there, `event` being the run's last; where it did not come in pieces, this is the one."""
        if not self.pieces:
            self.hear(event)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(error)

    def end(self, error: BaseException | None = None) -> None:
        """It is over; `error` is why there was no run, where there was none."""
        now, run, usage = monotonic(), self.run, NO_TOKENS
        if run is not None:
            outcome, error, usage = outcome_of_run(run), run.error, run.usage
            reason = run.reason if error is None else reason_of(error)
        else:
            error = self.error or error
            outcome = "cancelled" if error is None else outcome_of(error)
            reason = self.reason if self.reason or error is None else reason_of(error)
        asked, admitted, pieces = self._asked, self._admitted, self.pieces
        record = RunRecord(
            self.id,
            self.key,
            self.endpoint,
            outcome,
            reason,
            usage.prompt_tokens,
            usage.completion_tokens,
            (now if admitted is None else admitted) - asked,
            max(0.0, self.first - self._asked_at) if pieces else None,
            now - asked,
            pieces,
        )
        self._tally.take(record, max(0.0, self.last - self.first), now)


def outcome_of_run(run: Run) -> Outcome:
    """How a run ended."""
    if run.status == "done":
        return "completed"
    if run.status == "timeout":
        return "timed_out"
    return "cancelled" if run.error is None else outcome_of(run.error)


def outcome_of(error: BaseException) -> Outcome:
    """How a run ended that raised this. A prompt that is too long is the run's own failure, and not the service's."""
    if isinstance(error, AdmissionError) and not isinstance(error, ContextLengthExceeded):
        return "rejected"
    if isinstance(error, RunTimeout):
        return "timed_out"
    if isinstance(error, (RunCancelled, asyncio.CancelledError)):
        return "cancelled"
    return "failed"


def reason_of(error: BaseException) -> str:
    """Why a run ended that raised this: never in the error's own words, which may be anybody's."""
    if isinstance(error, Overloaded):
        return "queue_timeout" if error.waited else "overloaded"
    return type(error).__name__
