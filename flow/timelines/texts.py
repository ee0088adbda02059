"""Timelines as the characters of a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..drawing.diagrams import cells, shorten
from .axes import grid_of, span
from .crowds import at_once, most_at_once
from .pulses import Pulses
from .rows import Row
from .stories import Bout

if TYPE_CHECKING:
    from .timelines import Timeline

__all__ = ["text_of"]

NARROWEST, LONGEST_NAME, APART = 40, 28, 12
"""Columns: of a whole drawing at least, of a step's name at most, between two marks of the axis."""

BARE = 80
"""Columns below which only the whole time of a step is told beside its bar."""


HEADS = ("took", "first", "tokens", "")
"""Over what is told beside the bars: of each step how long it took, and its first piece after what time."""

ALIGNED = (">", ">", ">", "<")


class Signs(NamedTuple):
    """What is drawn with."""

    busy: str
    again: str
    before: str
    levels: str
    first: str
    around: str
    starts: str
    ends: str
    waits: str
    failed: str
    stopped: str
    running: str
    unknown: str
    mark: str
    axis: str
    many: str


SIGNS = Signs("━", "┝", "░", "▁▂▃▄▅▆▇█", "◆", "─", "╶", "╴", "·", "✗", "■", "▶", "┄", "┴", "─", "×")
ASCII = Signs("=", "+", ".", "_:+#", "*", "-", "|", "|", "~", "x", "!", ">", "<", "+", "-", "x")


def text_of(timeline: Timeline, width: int, ascii: bool) -> str:
    """The timeline as lines of at most `width` columns."""
    made = _Text(timeline, max(width, NARROWEST), ASCII if ascii else SIGNS, ascii)
    return "\n".join(line.rstrip() for line in made.lines()) + "\n"


class _Text:
    def __init__(self, timeline: Timeline, width: int, signs: Signs, ascii: bool) -> None:
        self.timeline = timeline
        self.signs = signs
        self.ascii = ascii
        self.width = width
        self.longest = min(LONGEST_NAME, width // 3)
        names = [self._name(row) for row in timeline.rows]
        self.left = max(map(cells, names), default=0)
        self.right = [
            max(map(cells, column)) if any(column) else 0
            for column in zip(*map(self._facts, timeline.rows), strict=True)
        ]
        self.right = [
            max(size, cells(head)) if size else 0 for size, head in zip(self.right, HEADS, strict=False)
        ]
        self.plot = max(8, width - self.left - sum(one + 2 for one in self.right if one) - 2)

    def lines(self) -> Iterator[str]:
        timeline = self.timeline
        yield self._said("  ".join(filter(None, (timeline.name, timeline.outcome, *timeline.facts))))
        if timeline.rows:
            yield ""
            yield from self._axis()
        for row in timeline.rows:
            yield f"{_padded(self._name(row), self.left)}  {self._bar(row)}{self._aside(self._facts(row))}"
        notes = timeline.notes
        if notes:
            yield ""
            yield from map(self._said, notes)

    def _aside(self, facts: Sequence[str]) -> str:
        *numbers, words = (
            f"  {one:{way}{size}}" if size else ""
            for one, size, way in zip(facts, self.right, ALIGNED, strict=False)
        )
        return "".join((*numbers, words))

    def _said(self, words: str) -> str:
        if not self.ascii:
            return words
        words = words.replace("…", "~").replace("×", self.signs.many)
        return words.encode("ascii", "backslashreplace").decode()

    # ------------------------------------------------------------ beside the bars

    def _name(self, row: Row) -> str:
        many = f" {self.signs.many}{row.many}" if row.many else ""
        before = "  " * row.depth
        if len(before) > self.longest // 2:
            before = " " * (self.longest // 2)
        return before + self._short(row.name, self.longest - cells(before) - cells(many)) + many

    def _short(self, text: str, most: int) -> str:
        return self._said(shorten(self._said(text), max(most, 1)))

    def _facts(self, row: Row) -> tuple[str, ...]:
        """How long, after what time the first piece, tokens or what went wrong."""
        took = ""
        if row.start is not None:
            took = span((self.timeline.end if row.end is None else row.end) - row.start)
        if self.width < BARE:
            return (took,)
        tokens = row.usage.completion_tokens
        crowd = most_at_once(row.bouts)
        words = row.errors or (f"{crowd} at once" if row.many and crowd > 1 else "")
        words = self._short(words, min(24, self.width // 5))
        first = "" if row.first is None else span(row.first)
        return took, first, f"{tokens:,}" if tokens else "", words

    # ------------------------------------------------------------ bars

    def _column(self, time: float | None) -> int:
        """In which column a moment is; the ends of a time that goes on are at the ends of the axis."""
        timeline = self.timeline
        if time is None or timeline.took <= 0:
            return 0
        return min(self.plot - 1, max(0, int((time - timeline.begin) / timeline.took * self.plot)))

    def _axis(self) -> Iterator[str]:
        timeline = self.timeline
        words, line = [" "] * self.plot, [self.signs.axis] * self.plot
        free = 0
        for seconds, mark in grid_of(timeline.took, max(1, self.plot // APART)):
            at = self._column(timeline.begin + seconds)
            line[at] = self.signs.mark
            start = min(at, self.plot - len(mark))
            if start >= free:
                words[start : start + len(mark)] = mark
                free = start + len(mark) + 2
        blank = " " * (self.left + 2)
        yield blank + "".join(words) + self._aside(HEADS)
        yield blank + "".join(line)

    def _bar(self, row: Row) -> str:
        drawn = [" "] * self.plot
        if row.kind != "step":
            for bout in row.bouts:
                self._fill(drawn, bout, self.signs.waits)
        elif row.group and row.pulses is None:
            self._around(drawn, row)
        elif len(row.bouts) > 1 and most_at_once(row.bouts) > 1:
            self._crowd(drawn, row)
        else:
            for bout in row.bouts:
                self._work(drawn, bout, row.many > 1)
            self._pulses(drawn, row)
        self._ends(drawn, row)
        return "".join(drawn)

    def _fill(self, drawn: list[str], bout: Bout, sign: str) -> tuple[int, int]:
        start = self._column(bout.began)
        end = self._column(self.timeline.end if bout.ended is None else bout.ended)
        drawn[start : end + 1] = sign * (end + 1 - start)
        return start, end

    def _around(self, drawn: list[str], row: Row) -> None:
        bout = Bout(row.start)
        bout.ended = row.end
        start, end = self._fill(drawn, bout, self.signs.around)
        if end > start:
            drawn[start], drawn[end] = self.signs.starts, self.signs.ends

    def _work(self, drawn: list[str], bout: Bout, several: bool) -> None:
        if bout.began is None:
            self._fill(drawn, bout, self.signs.unknown)
        elif bout.first is None:
            start, _ = self._fill(drawn, bout, self.signs.busy)
            if several:
                drawn[start] = self.signs.again
        else:
            self._fill(drawn, bout, self.signs.levels[0])
            first = self._column(bout.first)
            before = range(self._column(bout.began), first)
            for at in before:
                drawn[at] = self.signs.before

    def _pulses(self, drawn: list[str], row: Row) -> None:
        if row.pulses is None:
            return
        found = self._steady(row.pulses)
        most = max(found)
        levels = self.signs.levels
        for at, count in enumerate(found):
            if count and drawn[at] == levels[0]:
                drawn[at] = levels[max(1, round(count / most * (len(levels) - 1)))]
        for bout in row.bouts:
            if bout.first is not None:
                drawn[self._column(bout.first)] = self.signs.first

    def _steady(self, pulses: Pulses) -> list[int]:
        """Pieces in each column; where few of them come steadily, in so many columns together that it shows."""
        first, last = pulses.extent()
        wide = self._column(last) - self._column(first) + 1
        several = min(4, max(1, round(2 * wide / pulses.total)))
        found = pulses.columns(self.timeline.begin, self.timeline.end, -(-self.plot // several))
        return [count for count in found for _ in range(several)][: self.plot]

    def _crowd(self, drawn: list[str], row: Row) -> None:
        """How many are at work at once."""
        found = at_once(row.bouts, self.timeline.begin, self.timeline.end, self.plot)
        most = max(found)
        levels = self.signs.levels
        for at, count in enumerate(found):
            if count:
                drawn[at] = levels[max(0, round(count / most * (len(levels) - 1)))]

    def _ends(self, drawn: list[str], row: Row) -> None:
        for bout in row.bouts:
            if bout.ended is None:
                drawn[-1] = self.signs.running
            elif bout.error is not None:
                drawn[self._column(bout.ended)] = self.signs.failed
            elif bout.stopped:
                drawn[self._column(bout.ended)] = self.signs.stopped


def _padded(text: str, width: int) -> str:
    return text + " " * (width - cells(text))
