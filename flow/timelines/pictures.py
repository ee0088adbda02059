"""Timelines as SVG: one self-contained element, light or dark as the page around it is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

from ..drawing.diagrams import cells, shorten
from ..drawing.pictures import ILLEGAL, REPLACED
from .axes import grid_of, span
from .crowds import at_once, lanes_of, most_at_once
from .rows import Row
from .stories import Bout
from .styles import STYLE, color_of

if TYPE_CHECKING:
    from .timelines import Timeline

__all__ = ["bars_of", "picture_of"]

NARROWEST = 480
MARGIN, HEAD, AXIS = 18, 52, 24
"""Pixels around the drawing, for the words over it, for the marks of the axis."""

HEIGHT, BAR, LANE = 24, 12, 7
"""Pixels of a row, of a bar in it, and of one of several lanes."""

CHARACTER, SMALL = 7.3, 6.7
"""Width of a character of 12 and of 11 pixels."""

LONGEST_NAME, INDENT = 28, 13
APART = 90
"""Pixels between two marks of the axis, at least."""

LANES = 8
"""Bars that may lie beside each other in a row; more are drawn as how many there are at once."""

SEPARATE = 120
"""Bars that one row may have; more are drawn so too."""

TOOLS = 40
"""Calls of tools that are marked in a row."""


def picture_of(timeline: Timeline, width: int) -> str:
    """The timeline as an SVG element."""
    return _Picture(timeline, max(width, NARROWEST)).svg()


def bars_of(timeline: Timeline, width: int, most: int) -> str:
    """The bars alone, of the outermost `most` rows, for where many timelines stand beside each other."""
    return _Picture(timeline, width, bare=True).bars(most)


class _Picture:
    def __init__(self, timeline: Timeline, width: int, bare: bool = False) -> None:
        self.timeline = timeline
        self.width = width
        if bare:
            self.left, self.plot = 1.0, width - 2.0
            return
        self.names = [_name(row) for row in timeline.rows]
        longest = max(
            (len_of(name, row) for name, row in zip(self.names, timeline.rows, strict=True)), default=0.0
        )
        self.facts = [_facts(row, timeline.end) for row in timeline.rows]
        columns = list(zip(*self.facts, strict=True))
        self.columns = [
            (max(cells(one) for one in (*column, head)) * SMALL + 16 if any(column) else 0.0)
            for column, head in zip(columns, HEADS, strict=False)
        ] or [0.0] * len(HEADS)
        self.left = MARGIN + min(longest, width * 0.32) + 14
        self.plot = max(120.0, width - self.left - MARGIN - sum(self.columns))

    # ------------------------------------------------------------ the whole

    def svg(self) -> str:
        timeline = self.timeline
        tops, bottom = self._tops()
        notes = [
            line for note in timeline.notes for line in _wrapped(note, int((self.width - 2 * MARGIN) / SMALL))
        ]
        height = bottom + (10 + 16 * len(notes) if notes else 0) + MARGIN - 4
        words = ", ".join(filter(None, (timeline.name, timeline.outcome, *timeline.facts)))
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="millrace-run" role="img" width="{self.width}" '
            f'height="{height:g}" viewBox="0 0 {self.width} {height:g}">\n<title>{said(words)}</title>\n'
            f'<style>{STYLE}</style>\n<rect class="ground" width="{self.width}" height="{height:g}" rx="10"/>\n',
            self._heading(),
            *self._axis(bottom),
        ]
        for row, name, facts, (top, size) in zip(timeline.rows, self.names, self.facts, tops, strict=True):
            parts.append(self._row(row, name, facts, top, size))
        parts.append(self._end(bottom))
        parts += (
            f'<text class="dim" x="{MARGIN}" y="{bottom + 20 + 16 * i}">{said(line)}</text>\n'
            for i, line in enumerate(notes)
        )
        return "".join((*parts, "</svg>\n"))

    def bars(self, most: int) -> str:
        timeline, top, drawn = self.timeline, 1.0, []
        rows = timeline.rows
        deepest = max((row.depth for row in rows), default=0)
        while len(rows) > most and deepest:
            deepest -= 1
            rows = [row for row in timeline.rows if row.depth <= deepest]
        for row in rows[:most]:
            inside = deepest > row.depth and row.group
            drawn.append(f"<g>{_title(row, timeline.end)}{self._bar(row, top, 7.0, inside)}</g>")
            top += 9
        height = max(top, 10.0)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="millrace-run bars" aria-hidden="true" '
            f'viewBox="0 0 {self.width} {height:g}">{"".join(drawn)}</svg>'
        )

    def _tops(self) -> tuple[list[tuple[float, float]], float]:
        """For each row where it begins and how high its bars are, and where the last one ends."""
        top, found = float(HEAD + AXIS), []
        for row in self.timeline.rows:
            lanes = lanes_needed(row)
            size = float(BAR) if lanes == 1 else float(LANE * min(lanes, 4)) if lanes <= LANES else 24.0
            found.append((top + (HEIGHT - BAR) / 2, size))
            top += HEIGHT - BAR + size
        return found, top + 4

    def _heading(self) -> str:
        timeline = self.timeline
        name = f"{said(timeline.name)} " if timeline.name else ""
        x, color = MARGIN, color_of(timeline.status)
        return (
            f'<circle class="{color}" cx="{x + 5}" cy="{MARGIN + 5}" r="5"/>'
            f'<text class="heading" x="{x + 18}" y="{MARGIN + 10}">{name}'
            f'<tspan class="{color}">{said(timeline.outcome)}</tspan></text>'
            f'<text class="dim" x="{x + 18}" y="{MARGIN + 28}">{said("  ·  ".join(timeline.facts))}</text>\n'
        )

    def _axis(self, bottom: float) -> Iterator[str]:
        timeline, y = self.timeline, HEAD + AXIS - 8
        lines = []
        for seconds, mark in grid_of(timeline.took, max(1, int(self.plot / APART))):
            x = self._x(timeline.begin + seconds)
            lines.append(f"M{x:g} {y + 4}V{bottom:g}")
            side = "middle" if self.left < x < self.left + self.plot - 24 else "right" if seconds else "left"
            yield f'<text class="dim {side}" x="{x:g}" y="{y}">{mark}</text>'
        yield f'<path class="grid" d="{"".join(lines)}"/>\n'
        x = self.left + self.plot
        for head, size in zip(HEADS, self.columns, strict=True):
            x += size
            if size and head:
                yield f'<text class="dim right" x="{x:g}" y="{y}">{head}</text>'
        yield "\n"

    def _row(self, row: Row, name: str, facts: Sequence[str], top: float, size: float) -> str:
        y = top + size / 2 + 4
        texts = [f'<text x="{MARGIN + row.depth * INDENT}" y="{y:g}">{said(name)}</text>']
        x = self.left + self.plot
        for i, (fact, width) in enumerate(zip(facts, self.columns, strict=True)):
            if fact:
                color = " bad" if i == len(HEADS) - 1 and row.errors else ""
                place = f'x="{x + 16:g}"' if i == len(HEADS) - 1 else f'x="{x + width:g}"'
                kind = f"dim{color}" if i == len(HEADS) - 1 else "dim right"
                texts.append(f'<text class="{kind}" {place} y="{y:g}">{said(fact)}</text>')
            x += width
        path = "/".join(map(str, row.path))
        place = f" data-path={quoteattr(re.sub(ILLEGAL, REPLACED, path))}" if path else ""
        return (
            f'<g class="row {row.state}"{place}>{_title(row, self.timeline.end)}{"".join(texts)}'
            f"{self._bar(row, top, size, row.group)}</g>\n"
        )

    def _end(self, bottom: float) -> str:
        """Where the run was stopped or failed, or how far it is."""
        color = color_of(self.timeline.status)
        if color == "good" or not self.timeline.rows:
            return ""
        x = self._x(self.timeline.end)
        return f'<path class="end {color}" d="M{x:g} {HEAD + AXIS - 4}V{bottom:g}"/>\n'

    # ------------------------------------------------------------ bars

    def _x(self, time: float | None) -> float:
        timeline = self.timeline
        if time is None or timeline.took <= 0:
            return self.left
        part = (time - timeline.begin) / timeline.took
        return round(self.left + min(1.0, max(0.0, part)) * self.plot, 1)

    def _ends(self, bout: Bout) -> tuple[float, float]:
        x = self._x(bout.began)
        return x, max(x + 2.0, self._x(self.timeline.end if bout.ended is None else bout.ended))

    def _bar(self, row: Row, top: float, size: float, around: bool) -> str:
        if row.kind != "step":
            return "".join(self._rect("wait", *self._ends(bout), top, size) for bout in row.bouts)
        if around and row.pulses is None:
            drawn = self._bracket(row, top, size)
        elif lanes_needed(row) > LANES:
            drawn = self._crowd(row, top, size)
        else:
            drawn = self._lanes(row, top, size)
        return drawn + self._tools(row, top, size) + self._signs(row, top, size)

    def _rect(self, kind: str, x: float, right: float, y: float, height: float) -> str:
        return (
            f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{max(right - x, 1.5):.4g}" height="{height:g}" '
            f'rx="{min(2.5, height / 3):.2g}"/>'
        )

    def _bracket(self, row: Row, top: float, size: float) -> str:
        bout = Bout(row.start)
        bout.ended = row.end
        x, right = self._ends(bout)
        y = top + size / 2
        return f'<path class="around" d="M{x:g} {y + 4:g}v-4H{right:g}v4"/>'

    def _lanes(self, row: Row, top: float, size: float) -> str:
        lanes = lanes_of(row.bouts, self.timeline.end)
        height = size / max(1, len(lanes))
        gap = 1.0 if len(lanes) > 1 else 0.0
        drawn = []
        for i, lane in enumerate(lanes):
            y = round(top + i * height, 1)
            for bout in lane:
                x, right = self._ends(bout)
                apart = 1.0 if len(lane) > 1 and right - x > 3 else 0.0
                if bout.began is None:
                    drawn.append(self._rect("soft", x, right, y, height - gap))
                elif bout.first is None:
                    drawn.append(self._rect("busy", x, right - apart, y, height - gap))
                else:
                    first = self._x(bout.first)
                    drawn.append(self._rect("soft", x, first, y + height * 0.25, height * 0.5))
                    drawn.append(
                        self._rect("speaking", first, max(right - apart, first + 2), y, height - gap)
                    )
        drawn.append(self._pieces(row, top, size))
        return "".join(drawn)

    def _pieces(self, row: Row, top: float, size: float) -> str:
        """How densely the pieces came, as one path."""
        if row.pulses is None:
            return ""
        begin, end = row.pulses.extent()
        left, right = self._x(begin), max(self._x(end), self._x(begin) + 2)
        grain = min(12.0, max(3.0, 3 * (right - left) / row.pulses.total))  # so that there are some in each
        count = max(1, int((right - left) / grain))
        drawn = _steps(row.pulses.columns(begin, end, count), left, (right - left) / count, top, size)
        marks = [self._x(bout.first) for bout in row.bouts if bout.first is not None]
        firsts = ""
        if len(marks) == 1:
            x = marks[0]
            firsts = f'<path class="first" d="M{x - 4:g} {top - 5:g}h8l-4 5z"/>'
        return f'<path class="pieces" d="{drawn}"/>{firsts}'

    def _crowd(self, row: Row, top: float, size: float) -> str:
        """How many are at work at once, as one path."""
        count = int(self.plot / 3)
        found = at_once(row.bouts, self.timeline.begin, self.timeline.end, count)
        return f'<path class="busy" d="{_steps(found, self.left, self.plot / count, top, size)}"/>'

    def _tools(self, row: Row, top: float, size: float) -> str:
        y = top + size / 2
        return "".join(
            f'<path class="tool" d="M{self._x(time):g} {y - 5:g}l4 5l-4 5l-4-5z"/>'
            for time, _ in row.tools[:TOOLS]
        )

    def _signs(self, row: Row, top: float, size: float) -> str:
        """Crosses where something failed, squares where it was stopped."""
        drawn, y = [], top + size / 2
        crosses = sorted({self._x(bout.ended) for bout in row.bouts if bout.error is not None})[:TOOLS]
        if crosses:
            d = "".join(f"M{x - 4:g} {y - 4:g}l8 8m0-8l-8 8" for x in crosses)
            drawn.append(f'<path class="sign bad" d="{d}"/>')
        cuts = sorted({self._x(bout.ended) for bout in row.bouts if bout.stopped})[:TOOLS]
        if cuts and not (row.group and row.pulses is None):
            d = "".join(f"M{x - 4:g} {y - 4:g}h8v8h-8z" for x in cuts)
            drawn.append(f'<path class="cut" d="{d}"/>')
        return "".join(drawn)


HEADS = ("took", "first", "tokens", "")


def _facts(row: Row, end: float) -> tuple[str, ...]:
    took = "" if row.start is None else span((end if row.end is None else row.end) - row.start)
    tokens, crowd = row.usage.completion_tokens, most_at_once(row.bouts)
    words = shorten(row.errors, 22) or (f"{crowd} at once" if row.many and crowd > LANES else "")
    return took, "" if row.first is None else span(row.first), f"{tokens:,}" if tokens else "", words


def _name(row: Row) -> str:
    many = f" ×{row.many}" if row.many else ""
    return shorten(row.name, max(6, LONGEST_NAME - len(many) - 2 * row.depth)) + many


def len_of(name: str, row: Row) -> float:
    """Pixels of a name, with what stands before it."""
    return cells(name) * CHARACTER + row.depth * INDENT


def lanes_needed(row: Row) -> int:
    """How many bars of a row lie beside each other; more than LANES where there are too many to be told apart."""
    if row.kind != "step" or (row.group and row.pulses is None):
        return 1
    return LANES + 1 if len(row.bouts) > SEPARATE else max(1, most_at_once(row.bouts))


def _title(row: Row, end: float) -> str:
    """What is told to whoever points at a row, or has it read aloud."""
    took, first, tokens, words = _facts(row, end)
    path = "/".join(map(str, row.path)) or row.name
    pieces = row.pulses.total if row.pulses is not None else 0
    said_of = [
        f"{path}: {row.state}" if row.kind == "step" else row.name,
        took and f"took {took}",
        first and f"first piece after {first}",
        f"{pieces:,} pieces" if pieces else "",
        tokens and f"{tokens} tokens",
        words,
        ", ".join(name for _, name in row.tools[:5]),
    ]
    return f"<title>{said(shorten(', '.join(filter(None, said_of)), 300))}</title>"


def _steps(found: Sequence[int], left: float, width: float, top: float, size: float) -> str:
    """Columns as high as the numbers, equal neighbours as one."""
    most = max(found, default=0) or 1
    drawn, at = [], 0
    while at < len(found):
        start = at
        height = _height(found[start], most, size)
        while at < len(found) and _height(found[at], most, size) == height:
            at += 1
        if found[start]:
            x, wide = left + start * width, (at - start) * width
            drawn.append(f"M{x:.5g} {top + size:g}v{-height}h{wide:.4g}v{height}z")
    return "".join(drawn)


def _height(count: int, most: int, size: float) -> int:
    return max(2, round(count / most * size)) if count else 0


def _wrapped(words: str, width: int) -> Iterator[str]:
    line = ""
    for word in words.split():
        if line and len(line) + 1 + len(word) > width:
            yield line
            line = word
        else:
            line = f"{line} {word}" if line else word
    yield line


def said(text: str) -> str:
    """Text for the inside of an element."""
    return escape(re.sub(ILLEGAL, REPLACED, text))
