"""What the runs of a chat have said, in bounded room: for the pictures of them, and for who wants to read it all."""

from __future__ import annotations

import os
import reprlib
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...flow.timelines import Story, Timeline
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
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    Usage,
)
from ..owners import Owner

__all__ = ["Line", "Record", "Shelves"]

LINES = 400
"""Lines that are kept of one run; further ones are counted."""

LONGEST = 2000
"""Characters of one line."""

AT_ONCE = 0.05
"""Seconds between a question and the start of its run that are no time in line."""

ROOM = 60_000
"""Characters of all lines of one run."""

RUNS = 24
"""Runs that are kept for each owner; the oldest go first."""

MOST_BYTES = 64 * 1024 * 1024
"""What all of them may take, roughly; those of whoever has been away longest go first."""

OPEN = 64
"""Lines of different steps to which pieces may still be added."""


PIECES = (TextDelta, ReasoningDelta, ToolCallDelta)
PIECE_KINDS = tuple(kind.kind for kind in PIECES)


@dataclass(slots=True)
class Line:
    """One event, or pieces of one step that came after each other: those from `seq` to `until`."""

    seq: int
    until: int
    time: float
    path: Path
    kind: str
    text: str
    size: int
    many: int = 1

    @property
    def cut(self) -> int:
        """Characters that are not kept."""
        return self.size - len(self.text)

    def add(self, text: str, seq: int, room: int) -> None:
        self.text += text[: max(0, min(room, LONGEST - len(self.text)))]
        self.size += len(text)
        self.many += 1
        self.until = seq


class Record:
    """One run, from the question on. `asked` is seconds since the epoch; `key` is what a page calls it."""

    def __init__(self, title: str, name: str | None = None, asked: float | None = None) -> None:
        self.key = os.urandom(8).hex()
        self.title = title[:LONGEST]
        self.name = name
        self.asked = time.time() if asked is None else asked
        self.run_id: str | None = None
        self.story = Story(self.asked)
        self.lines: list[Line] = []
        self.more = 0
        """Events that no line is kept of."""
        self._room = ROOM
        self._open: OrderedDict[tuple[Path, str], Line] = OrderedDict()

    @property
    def weight(self) -> int:
        """Bytes that it takes, roughly."""
        return 1000 + ROOM - self._room + 200 * len(self.lines) + 700 * self.story.size

    @property
    def over(self) -> bool:
        return self.story.over

    @property
    def mark(self) -> str:
        """Another one whenever there is something new to see in a picture of it."""
        return f"{self.key}.{self.story.changes}.{self.story.status}"

    def timeline(self) -> Timeline:
        """The picture of it, as of now."""
        return Timeline(self.story, self.name, time.time())

    def take(self, event: Event) -> None:
        """The next event of the run."""
        if isinstance(event, RunStarted) and event.time - self.asked < AT_ONCE:
            self.story.asked = None
        self.story.take(event)
        self._note(event)

    def end(
        self, status: str, reason: str | None = None, error: str | None = None, ended: float | None = None
    ) -> None:
        """It is over, and its run has not said so: it never began, or was left."""
        if not self.over:
            self.story.end(time.time() if ended is None else ended, status, reason, error)

    def _note(self, event: Event) -> None:
        kind, text, seq = event.kind, words_of(event), getattr(event, "seq", 0)
        place = (event.path, kind)
        if isinstance(event, PIECES):
            line = self._open.get(place)
            if line is not None:
                before = len(line.text)
                line.add(text, seq, self._room)
                self._room -= len(line.text) - before
                return
        else:
            for open_kind in PIECE_KINDS:
                self._open.pop((event.path, open_kind), None)
        if len(self.lines) >= LINES and not isinstance(event, RunFinished):
            self.more += 1
            return
        kept = text[: max(0, min(self._room, LONGEST))]
        self._room -= len(kept)
        line = Line(seq, seq, event.time, event.path, kind, kept, len(text))
        self.lines.append(line)
        if isinstance(event, PIECES):
            self._open[place] = line
            if len(self._open) > OPEN:
                self._open.popitem(last=False)


class Shelves:
    """The latest runs of everybody, each shelf its owner's: nobody is shown another one's."""

    def __init__(self) -> None:
        self._shelves: OrderedDict[str | None, deque[Record]] = OrderedDict()

    def begin(self, owner: Owner, title: str, name: str | None = None) -> Record:
        """The record of a run that has just been asked for; `name` is the flow's."""
        record = Record(title, name)
        shelf = self._shelves.setdefault(owner.name, deque(maxlen=RUNS))
        self._shelves.move_to_end(owner.name)
        shelf.appendleft(record)
        self._make_room()
        return record

    def _make_room(self) -> None:
        weight = sum(record.weight for shelf in self._shelves.values() for record in shelf)
        while weight > MOST_BYTES:
            name, shelf = next(iter(self._shelves.items()))
            if len(self._shelves) == len(shelf) == 1:
                return
            weight -= shelf.pop().weight
            if not shelf:
                del self._shelves[name]

    def of(self, owner: Owner) -> Sequence[Record]:
        """The owner's runs, the latest first."""
        return tuple(self._shelves.get(owner.name, ()))

    def find(self, owner: Owner, key: str) -> Record | None:
        """One of the owner's runs."""
        return next((record for record in self.of(owner) if record.key == key), None)


def words_of(event: Event) -> str:
    """What an event says, in words; of an error its type alone."""
    match event:
        case TextDelta() | ReasoningDelta():
            return event.text
        case ToolCallDelta():
            return event.arguments
        case Data():
            return _shown(event.value)
        case ToolCall():
            return f"{event.name}({event.arguments})"
        case ToolResult():
            error = event.as_dict()["error"] if event.error is not None else None
            return str(error or _shown(event.result))
        case Progress():
            return f"{event.fraction:.0%} {event.message}".rstrip()
        case Usage():
            return f"{event.prompt_tokens} + {event.completion_tokens} tokens"
        case StatusChanged():
            return event.status
        case StepFinished():
            return "" if event.error is None else str(event.as_dict()["error"])
        case RunFinished():
            said = event.as_dict()
            return ", ".join(str(said[name]) for name in ("status", "reason", "error") if said[name])
    return ""


def _shown(value: Any) -> str:
    """Some value in words, as many as there is room for: it may be large, and its own `repr` may fail."""
    return value if isinstance(value, str) else SHORT.repr(value)


SHORT = reprlib.Repr()
SHORT.maxlevel = 4
SHORT.maxdict = SHORT.maxlist = SHORT.maxtuple = 40
SHORT.maxstring = SHORT.maxother = LONGEST // 2
