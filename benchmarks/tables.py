"""Rows of measurements as an aligned table, as JSON and as a bar chart."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from math import log10
from typing import Any

__all__ = ["Row", "chart", "table"]

HEAD = ("", "value", "floor", "ratio", "goal", "")
BAR, LINE, LEFT, WIDTH = 14, 26, 330, 940


@dataclass(frozen=True)
class Row:
    """One measured figure.

    `floor` is what the same work costs without millrace, measured in the same run; `ratio` compares the two.
    `goal` says in words what is aimed at, and `ok` whether it was reached; None where there is no goal.
    """

    name: str
    value: float
    unit: str
    floor: float | None = None
    ratio: float | None = None
    goal: str | None = None
    ok: bool | None = None

    @classmethod
    def of(cls, entry: dict[str, Any]) -> Row:
        """Raises: TypeError, when the entry lacks a key or has one too many."""
        return cls(**entry)

    @property
    def goal_share(self) -> float | None:
        """How much of the goal is used up (below 1 is good) or, where more is better, how far it is exceeded.

        Read from the goal's own words, such as `< 150 ms`. A goal in another unit than the row's, `> 60 %` or
        `ratio < 1.2`, is one of the ratio.
        """
        match = re.fullmatch(r"(?:ratio )?[<>]=? ?([\d.]+) ?(.*)", self.goal or "")
        if match is None:
            return None
        limit, unit = float(match[1]), match[2]
        measured = self.value if unit == self.unit else self.ratio
        if unit == "%":
            limit /= 100
        return None if measured is None or not limit else measured / limit


def table(entries: Iterable[Row | dict[str, Any] | str]) -> str:
    """Rows under one head, numbers aligned to the right; a string stands as a line of its own, such as a title."""
    lines: list[tuple[str, ...]] = [HEAD]
    for entry in entries:
        if isinstance(entry, str):
            lines.append((entry,))
        else:
            lines.append(_cells(entry if isinstance(entry, Row) else Row.of(entry)))
    widths = [max(len(line[column]) for line in lines if len(line) > 1) for column in range(len(HEAD))]
    return "\n".join(_aligned(line, widths) for line in lines)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        f"  {row.name}",
        f"{number(row.value)} {row.unit}".rstrip(),
        "" if row.floor is None else number(row.floor),
        "" if row.ratio is None else f"{number(row.ratio)}x",
        row.goal or "",
        {True: "ok", False: "MISSED", None: ""}[row.ok],
    )


def _aligned(line: tuple[str, ...], widths: list[int]) -> str:
    first, *rest = line
    cells = [first.ljust(widths[0])] if rest else [first]
    cells += [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=False)]
    return "   ".join(cells).rstrip()


def number(value: float) -> str:
    """Three significant figures, without an exponent."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.6f}"


def chart(rows: Sequence[Row], title: str) -> str:
    """An SVG with a bar for each row that has a goal: how far it goes, against a line that is the goal.

    The scale is logarithmic, a tenth to ten times the goal. Bars of reached goals are green, missed ones red.
    """
    shown = [(row, row.goal_share) for row in rows]
    drawn = [(row, share) for row, share in shown if share is not None]
    height = 70 + LINE * len(drawn)
    at = [_place(mark) for mark in (0.1, 1, 10)]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" '
        'font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="12" y="22" font-size="15">{escape(title)}</text>',
    ]
    for place, label in zip(at, ("a tenth", "the goal", "ten times"), strict=True):
        parts.append(f'<line x1="{place:.0f}" x2="{place:.0f}" y1="46" y2="{height - 12}" stroke="#bbb"/>')
        parts.append(f'<text x="{place:.0f}" y="40" text-anchor="middle" fill="#666">{label}</text>')
    for index, (row, share) in enumerate(drawn):
        parts += _bar(row, share, 54 + LINE * index)
    return "\n".join([*parts, "</svg>\n"])


def _place(share: float) -> float:
    """Where a share of the goal stands: 0.1 at the left of the scale, 1 in its middle, 10 at its right."""
    span = WIDTH - 150 - LEFT
    return LEFT + span * (min(1.0, max(-1.0, log10(max(share, 1e-9)))) + 1) / 2


def _bar(row: Row, share: float, top: int) -> list[str]:
    colour = "#c33" if row.ok is False else "#2a7"
    width = max(2.0, _place(share) - LEFT)
    middle = top + BAR - 3
    said = f"{number(row.value)} {row.unit} (goal {row.goal})"
    return [
        f'<text x="{LEFT - 8}" y="{middle}" text-anchor="end">{escape(row.name)}</text>',
        f'<rect x="{LEFT}" y="{top}" width="{width:.0f}" height="{BAR}" fill="{colour}"/>',
        f'<text x="{LEFT + width + 6:.0f}" y="{middle}" fill="#444">{escape(said)}</text>',
    ]
