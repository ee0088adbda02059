"""From the grid to points on a page: where cells are, and wires with round corners."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from .diagrams import cells
from .shapes import Block, Box, Point, Shape, Wire

__all__ = ["MARGIN", "Spot", "Stroke", "at", "bare_cells", "plate_of", "size_of", "strokes_of"]

COLUMN, ROW = 8, 17
"""Size of a cell, in pixels; a character of a monospaced font of 13 pixels is 7.8 wide."""

MARGIN = 18
"""Pixels around a drawing."""

CORNER = 8
"""Radius of a wire's corners, in pixels."""

SMALL = 6.95
"""Width of a character of 11.5 pixels."""

SHORT = 9
"""Half the height of text without a box, in pixels."""

Spot = tuple[float, float]
"""A point on the page, in pixels."""


class Stroke(NamedTuple):
    """A straight line to `end`, or with `controls` a Bézier curve: quadratic with one of them, cubic with two."""

    end: Spot
    controls: tuple[Spot, ...] = ()

    def flat(self, start: Spot, steps: int = 12) -> Iterator[Spot]:
        """Points on it, close enough for straight lines between them."""
        if not self.controls:
            yield self.end
            return
        for i in range(1, steps + 1):
            points: Sequence[Spot] = (start, *self.controls, self.end)
            t = i / steps
            while len(points) > 1:  # de Casteljau
                points = [(x + (u - x) * t, y + (v - y) * t) for (x, y), (u, v) in pairwise(points)]
            yield points[0]


def at(column: float, row: float, above: int = 0) -> Spot:
    """The middle of a cell, `above` pixels below the top."""
    return MARGIN + (column + 0.5) * COLUMN, MARGIN + above + (row + 0.5) * ROW


def bare_cells(shapes: Iterable[Shape]) -> frozenset[Point]:
    """The cells of all text without a box."""
    boxes = [shape for shape in shapes if isinstance(shape, Box) and shape.leaf.kind == "end"]
    return frozenset((x, box.y + row) for box in boxes for row in range(box.height) for x in _columns(box))


def _columns(box: Box) -> range:
    return range(box.x, box.x + box.width)


def size_of(block: Block, above: int = 0) -> tuple[int, int]:
    """Width and height of a drawing, in pixels."""
    return block.width * COLUMN + 2 * MARGIN, block.height * ROW + 2 * MARGIN + above


def plate_of(middle: Spot, text: str, left: bool = False) -> tuple[float, float, float, float]:
    """A rectangle behind a small text, which stands around `middle` or begins there: x, y, width, height."""
    width = cells(text) * SMALL + 8
    return middle[0] - (4 if left else width / 2), middle[1] - 8, width, 16


def strokes_of(wire: Wire, above: int, bare: Collection[Point]) -> tuple[Spot, list[Stroke]]:
    """Where a wire begins, and its strokes; in the cells of `bare`, where text without a box stands, it stops short."""
    points = wire.through or _corners(wire.points)
    spots = [at(*point, above) for point in points]
    if points[0] in bare:
        spots[0] = (spots[0][0], spots[0][1] + SHORT)
    if points[-1] in bare:
        spots[-1] = (spots[-1][0], spots[-1][1] - SHORT)
    if wire.through:
        return spots[0], [_swing(one, other) for one, other in pairwise(spots)]
    strokes: list[Stroke] = []
    for before, corner, after in zip(spots, spots[1:], spots[2:], strict=False):
        strokes += [Stroke(_towards(corner, before)), Stroke(_towards(corner, after), (corner,))]
    return spots[0], [*strokes, Stroke(spots[-1])]


def _corners(points: Sequence[Point]) -> list[Point]:
    """The points without those on a straight line between their neighbours."""
    kept = [points[0]]
    for point, after in pairwise(points[1:]):
        before = kept[-1]
        if not (before[0] == point[0] == after[0] or before[1] == point[1] == after[1]):
            kept.append(point)
    return [*kept, points[-1]]


def _towards(corner: Spot, other: Spot) -> Spot:
    """The point on the way from a corner to another one at which its rounding ends."""
    (x, y), (u, v) = corner, other
    length = abs(u - x) + abs(v - y)
    part = min(CORNER, length / 2) / length
    return x + (u - x) * part, y + (v - y) * part


def _swing(start: Spot, end: Spot) -> Stroke:
    """From one column to another, leaving and arriving straight down."""
    (x, y), (u, v) = start, end
    if x == u:
        return Stroke(end)
    return Stroke(end, ((x, (y + v) / 2), (u, (y + v) / 2)))
