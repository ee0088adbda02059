"""The rows of a timeline: which step stands where, and what of it is drawn, before anybody decides how.

Each path has a row, under that of the path around it. The turns of a Loop and the items of a Warp stand in the row of
what they are of; few that have steps inside get rows of their own, many are drawn over each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ...streaming.events import Path
from ...streaming.usage import TokenUsage
from ..drawing.diagrams import ANY, clean
from .pulses import Pulses
from .stories import Bout, Story, Track

__all__ = ["Row", "State", "rows_of"]

FEW = 6
"""Turns or items that may have rows of their own."""

MOST = 60
"""Rows that are drawn; further ones are counted."""

State = Literal["running", "done", "failed", "stopped", "unknown"]

Kind = Literal["step", "line", "wait"]
"""`line` is the time before the run began, `wait` when it waited for somebody."""

Named = dict[str, list[Track]]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a timeline.

    `many` is how many turns, items or calls it stands for, `group` whether rows inside of it follow. `start` and `end`
    are seconds since the epoch; `start` is None where it is not known, `end` where it goes on.
    """

    name: str
    path: Path
    depth: int
    bouts: tuple[Bout, ...]
    pulses: Pulses | None
    usage: TokenUsage
    tools: tuple[tuple[float, str], ...]
    many: int
    group: bool
    start: float | None
    end: float | None
    kind: Kind = "step"

    @property
    def state(self) -> State:
        if any(bout.error is not None for bout in self.bouts):
            return "failed"
        if any(bout.ended is None for bout in self.bouts):
            return "running"
        if any(bout.stopped for bout in self.bouts):
            return "stopped"
        return "done" if self.bouts else "unknown"

    @property
    def errors(self) -> str:
        """The types of the errors, each with how often it was there."""
        count: dict[str, int] = {}
        for bout in self.bouts:
            if bout.error is not None:
                count[bout.error] = count.get(bout.error, 0) + 1
        return clean(", ".join(f"{name} ×{many}" if many > 1 else name for name, many in count.items()))

    @property
    def first(self) -> float | None:
        """Seconds from its start to its first piece, of the first bout that has given one."""
        for bout in self.bouts:
            if bout.first is not None and bout.began is not None:
                return bout.first - bout.began
        return None


@dataclass(slots=True)
class Strand:
    """What becomes a row: the paths whose work is drawn in it, those around them, and what is inside."""

    name: str
    drawn: list[Track]
    around: list[Track]
    inner: list[Strand]
    many: int

    def began(self) -> float:
        return min(_starts(self), default=float("inf"))


def rows_of(story: Story) -> tuple[list[Row], int]:
    """The rows of a run, and how many more there would be."""
    rows = [*_waiting(story), *_whole(story)]
    for strand in _inside(*_split([story.root])):
        rows += _rows(strand, 0)
    return rows[:MOST], max(0, len(rows) - MOST)


def _waiting(story: Story) -> Iterator[Row]:
    """Rows for the times in which nothing was at work."""
    if story.asked is not None:
        in_line = Bout(story.asked)
        in_line.ended = story.ended if story.began is None else story.began
        yield _plain("in line", [in_line], "line")
    if story.waits:
        waits = []
        for start, end in story.waits:
            waits.append(Bout(start))
            waits[-1].ended = end
        yield _plain("waiting", waits, "wait")


def _whole(story: Story) -> Iterator[Row]:
    """A row for what the run says that is no step in a flow: a model, or a function alone."""
    root = story.root
    if root.pulses is None and not root.tools:
        return
    bout = Bout(story.began)
    bout.ended, bout.first = story.ended, story.first
    bout.stopped = story.over and story.status not in ("done", "error")
    bout.error = None if bout.stopped else story.error
    yield replace(
        _plain("answer", [bout], "step"), pulses=root.pulses, usage=root.usage, tools=tuple(root.tools)
    )


def _plain(name: str, bouts: list[Bout], kind: Kind) -> Row:
    many = len(bouts) if len(bouts) > 1 else 0
    start, end = bouts[0].began, bouts[-1].ended
    return Row(name, (), 0, tuple(bouts), None, TokenUsage(), (), many, False, start, end, kind)


# ---------------------------------------------------------------- strands


def _split(tracks: Iterable[Track]) -> tuple[Named, list[Track]]:
    """What is inside of the tracks: by name, and turns and items."""
    named: Named = {}
    numbered: list[Track] = []
    for track in tracks:
        for part, child in track.children.items():
            if isinstance(part, int):
                numbered.append(child)
            else:
                named.setdefault(str(part), []).append(child)
    return named, numbered


def _inside(named: Named, numbered: list[Track]) -> list[Strand]:
    found = [_strand(name, tracks) for name, tracks in named.items()]
    if numbered:  # of a flow that has no name here
        first, last = numbered[0].path[-1], numbered[-1].path[-1]
        found.append(_series(f"[{first}]" if first == last else f"[{first}…{last}]", [], numbered))
    return sorted(found, key=Strand.began)


def _strand(name: str, tracks: list[Track]) -> Strand:
    named, numbered = _split(tracks)
    if numbered and not named:
        return _series(name, tracks, numbered)
    return Strand(
        name, tracks, [], _inside(named, numbered), max(len(tracks), *(len(t.bouts) for t in tracks))
    )


def _series(name: str, around: list[Track], numbered: list[Track]) -> Strand:
    """Turns or items, in one row."""
    inner: list[Strand] = []
    if any(track.children for track in numbered):
        if len(around) <= 1 and len(numbered) <= FEW:
            inner = [_strand(f"[{track.path[-1]}]", [track]) for track in numbered]
        else:
            inner = _inside(*_split(numbered))
    return Strand(name, numbered, around, inner, len(numbered))


def _starts(strand: Strand) -> Iterator[float]:
    for track in (*strand.drawn, *strand.around):
        for bout in track.bouts:
            if bout.began is not None:
                yield bout.began
        if track.pulses is not None and not track.bouts:
            yield track.pulses.extent()[0]
    for inner in strand.inner:
        yield from _starts(inner)


# ---------------------------------------------------------------- rows


def _rows(strand: Strand, depth: int) -> Iterator[Row]:
    yield _row(strand, depth)
    for inner in strand.inner:
        yield from _rows(inner, depth + 1)


def _row(strand: Strand, depth: int) -> Row:
    drawn = [*strand.drawn, *strand.around]
    bouts = [bout for track in strand.drawn for bout in track.bouts]
    bouts = bouts or [bout for track in strand.around for bout in track.bouts]
    bouts.sort(key=_when)
    known = [bout for track in drawn for bout in track.bouts]
    inner = [row for one in strand.inner for row in _rows(one, 0)] if not known else []
    usage, pulses, tools = _sums(drawn)
    starts = [bout.began for bout in known] or [row.start for row in inner]
    ends = [bout.ended for bout in known] or [row.end for row in inner]
    return Row(
        clean(strand.name) or "?",
        drawn[0].path if len(drawn) == 1 else tuple(ANY if isinstance(p, int) else p for p in drawn[0].path),
        depth,
        tuple(bouts),
        pulses,
        usage,
        tools,
        strand.many if strand.many > 1 else 0,
        bool(strand.inner),
        _least(starts),
        _most(ends),
    )


def _sums(tracks: Sequence[Track]) -> tuple[TokenUsage, Pulses | None, tuple[tuple[float, str], ...]]:
    usage = TokenUsage()
    for track in tracks:
        usage = usage + track.usage
    pulses = [track.pulses for track in tracks if track.pulses is not None]
    tools = tuple(sorted(tool for track in tracks for tool in track.tools))
    return usage, (pulses[0] if len(pulses) == 1 else Pulses.joined(pulses)) if pulses else None, tools


def _when(bout: Bout) -> float:
    return float("-inf") if bout.began is None else bout.began


def _least(times: Sequence[float | None]) -> float | None:
    return None if not times or None in times else min(time for time in times if time is not None)


def _most(times: Sequence[float | None]) -> float | None:
    return None if not times or None in times else max(time for time in times if time is not None)
