"""What a run did, step by step, as its events tell it: taken one by one, and kept in bounded room."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Iterable
from typing import Any

from ...streaming.errors import RemoteError
from ...streaming.events import (
    Data,
    Event,
    Path,
    Progress,
    ReasoningDelta,
    RunFinished,
    RunStarted,
    StatusChanged,
    StepFinished,
    StepStarted,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from ...streaming.usage import TokenUsage
from .pulses import Pulses

__all__ = ["Bout", "Story", "Track"]

MOST_TRACKS = 4000
"""Paths that are followed; what other paths say is counted."""

MOST_BOUTS = 2000
"""Times that one step is seen to be at work."""

PIECES = (TextDelta, ReasoningDelta, Data, ToolCallDelta)

STOPS = ("CancelledError", "GeneratorExit", "RunCancelled")
"""Errors of a step that was stopped, and has not failed."""


class Bout:
    """One time that a step was at work. `began` is None where its start is not kept, `ended` where it goes on.

    `first` is when it gave its first piece. `error` is the type of what it failed with; `stopped`: it was cut off.
    """

    __slots__ = ("began", "ended", "error", "first", "stopped")

    def __init__(self, began: float | None) -> None:
        self.began = began
        self.ended: float | None = None
        self.first: float | None = None
        self.error: str | None = None
        self.stopped = False


class Track:
    """What is known of one path: when it was at work, when it spoke, and what is inside."""

    __slots__ = ("bouts", "children", "going", "path", "progress", "pulses", "tools", "usage")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.children: dict[str | int, Track] = {}
        self.bouts: list[Bout] = []
        self.going: list[Bout] = []
        """Those of its bouts that have not ended, the oldest first."""
        self.pulses: Pulses | None = None
        self.tools: list[tuple[float, str]] = []
        self.usage = TokenUsage()
        self.progress: tuple[float, str] | None = None

    def begin(self, time: float) -> None:
        bout = Bout(time)
        self.going.append(bout)
        if len(self.bouts) < MOST_BOUTS:
            self.bouts.append(bout)

    def end(self, time: float, error: BaseException | None) -> None:
        if not self.going:  # its start is not kept
            self.begin(time)
            self.going[0].began = None
        bout = self.going.pop(0)
        bout.ended = time
        if error is not None:
            name = type_of(error)
            bout.stopped = isinstance(error, CancelledError | GeneratorExit) or name in STOPS
            bout.error = None if bout.stopped else name

    def speak(self, time: float) -> None:
        if self.pulses is None:
            self.pulses = Pulses()
        self.pulses.add(time)
        if self.going and self.going[-1].first is None:
            self.going[-1].first = time


class Story:
    """The events of one run, summed up as they come by `take`.

    `asked` is when the run was asked for, where that is known: until `began` it stood in line. `missing` is how many
    events are not there, `skipped` how many of a stopped run nobody was given, and `left_out` how many were of too many
    paths to be followed.
    """

    def __init__(self, asked: float | None = None) -> None:
        self.asked = asked
        self.began: float | None = None
        self.ended: float | None = None
        self.status = "queued"
        self.reason: str | None = None
        self.error: str | None = None
        self.usage = TokenUsage()
        self.first: float | None = None
        self.waits: list[list[float | None]] = []
        self.root = Track(())
        self.events = self.missing = self.skipped = self.left_out = 0
        self.start: float | None = None
        self.last: float | None = None
        self.changes = 0
        """Grows with whatever changes the state of a step or of the run."""
        self._tracks: dict[Path, Track] = {(): self.root}
        self._seq = 0
        self._stepped = False

    @classmethod
    def of(cls, events: Iterable[Event], asked: float | None = None) -> Story:
        made = cls(asked)
        for event in events:
            made.take(event)
        return made

    @property
    def over(self) -> bool:
        return self.ended is not None

    @property
    def size(self) -> int:
        """How many paths are followed."""
        return len(self._tracks)

    @property
    def tracks(self) -> Iterable[Track]:
        return self._tracks.values()

    def take(self, event: Event) -> None:
        """The next event of the run; one that was taken before is passed over."""
        time = event.time
        seq = getattr(event, "seq", None)
        if seq is not None:
            if seq <= self._seq:
                return
            if isinstance(event, RunFinished) and event.status in ("cancelled", "timeout"):
                self.skipped = seq - self._seq - 1  # whoever listened was taken straight to the end
            else:
                self.missing += seq - self._seq - 1
            self._seq = seq
        self.events += 1
        if self.start is None:
            self.start = time
        if self.last is None or time > self.last:
            self.last = time
        if isinstance(event, PIECES):
            if (
                self.first is None
                and not isinstance(event, ReasoningDelta)
                and getattr(event, "output", True)
            ):
                self.first = time
            track = self._track(event.path)
            if track is not None:
                silent = track.pulses is None
                track.speak(time)
                self.changes += silent
            return
        take = _TAKING.get(type(event))
        if take is not None:
            take(self, event, time)

    def _track(self, path: Path) -> Track | None:
        track = self._tracks.get(path)
        if track is None:
            if len(self._tracks) >= MOST_TRACKS:
                self.left_out += 1
                return None
            parent = self._track(path[:-1])
            if parent is None:
                return None
            track = self._tracks[path] = parent.children[path[-1]] = Track(path)
        return track

    # ------------------------------------------------------------ by kind of event

    def _run_started(self, event: RunStarted, time: float) -> None:
        self.began, self.status = time, "running"
        self.changes += 1

    def _step_started(self, event: StepStarted, time: float) -> None:
        track = self._track(event.path)
        self.changes += 1
        if track is not None:
            track.begin(time)

    def _step_finished(self, event: StepFinished, time: float) -> None:
        track = self._track(event.path)
        self.changes += 1
        if track is not None:
            track.end(time, event.error)

    def _usage(self, event: Usage, time: float) -> None:
        spent = TokenUsage(event.prompt_tokens, event.completion_tokens)
        self.usage = self.usage + spent
        track = self._track(event.path)
        if track is not None:
            track.usage = track.usage + spent

    def _tool_call(self, event: ToolCall, time: float) -> None:
        track = self._track(event.path)
        if track is not None and len(track.tools) < MOST_BOUTS:
            track.tools.append((time, event.name))

    def _progress(self, event: Progress, time: float) -> None:
        track = self._track(event.path)
        if track is not None:
            track.progress = (event.fraction, event.message)

    def _status_changed(self, event: StatusChanged, time: float) -> None:
        self.changes += 1
        if event.status == "waiting":
            self.waits.append([time, None])
        elif self.waits and self.waits[-1][1] is None:
            self.waits[-1][1] = time
        self.status = "waiting" if event.status == "waiting" else "running"

    def _run_finished(self, event: RunFinished, time: float) -> None:
        self.usage = event.usage
        self.end(time, event.status, event.reason, None if event.error is None else type_of(event.error))

    def end(self, time: float, status: str, reason: str | None = None, error: str | None = None) -> None:
        """The run is over, and with it all that was at work; called for one that does not say so itself."""
        self.changes += 1
        self.ended, self.status, self.reason, self.error = time, status, reason, error
        for track in self._tracks.values():
            for bout in track.going:
                bout.ended, bout.stopped = time, True
            track.going.clear()
        for wait in self.waits:
            wait[1] = time if wait[1] is None else wait[1]


_TAKING: dict[type[Event], Any] = {
    RunStarted: Story._run_started,
    StepStarted: Story._step_started,
    StepFinished: Story._step_finished,
    Usage: Story._usage,
    ToolCall: Story._tool_call,
    Progress: Story._progress,
    StatusChanged: Story._status_changed,
    RunFinished: Story._run_finished,
}


def type_of(error: BaseException) -> str:
    """The name of an error's type; of one that was told in words, that of the original."""
    known = error.kind if isinstance(error, RemoteError) else None
    return known or type(error).__name__
