"""Canvas: shapes as the characters of a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from .diagrams import cells
from .shapes import Box, Frame, Point, Shape, Wire, Word

__all__ = ["Canvas"]

UP, DOWN, LEFT, RIGHT = 1, 2, 4, 8
LINES = " ╵╷│╴┘┐┤╶└┌├─┴┬┼"
"""By the sum of the directions in which a line leaves the cell."""

ARROWS = {UP: "▲", DOWN: "▼", LEFT: "◀", RIGHT: "▶"}
LIVE = {UP: "⇑", DOWN: "⇓", LEFT: "⇐", RIGHT: "⇒"}
LEGEND = "⇓ piece by piece, as it comes"
WIDE = ""
"""In the cell behind a character that takes two."""


class Canvas:
    """A grid of characters on which shapes are drawn."""

    def __init__(self, width: int, height: int) -> None:
        self.lines = [[0] * width for _ in range(height)]
        self.signs: list[list[str | None]] = [[None] * width for _ in range(height)]
        self.owners: dict[Point, dict[Point, int]] = {}
        """Of the edges of a graph: the directions in a cell, by where the edge comes from."""
        self.is_live = False

    def draw(self, shapes: Sequence[Shape]) -> str:
        """All of the shapes, as text."""
        for shape in shapes:
            if isinstance(shape, Frame) and shape.group.title is not None:
                self._frame(shape)
        for shape in shapes:
            if isinstance(shape, Box):
                self._box(shape)
            elif isinstance(shape, Wire):
                self._wire(shape)
        for shape in shapes:
            if isinstance(shape, Wire) and shape.arrow:
                self._arrow(shape)
            elif isinstance(shape, Word):
                self._write(shape.x - cells(shape.text) // 2, shape.y, shape.text)
            elif isinstance(shape, Frame) and shape.group.title is not None:
                self._write(shape.title, shape.y, f" {shape.group.title} ")
        rows = ["".join(self._row(y)).rstrip() for y in range(len(self.lines))]
        return "\n".join([*rows, *(["", LEGEND] if self.is_live else [])]) + "\n"

    def _row(self, y: int) -> Iterable[str]:
        for x, (bits, sign) in enumerate(zip(self.lines[y], self.signs[y], strict=True)):
            ways = self.owners.get((x, y), {}).values()
            if sign is None and UP | DOWN in ways and LEFT | RIGHT in ways:
                bits = UP | DOWN  # they only cross: one passes under the other
            yield sign if sign is not None else LINES[bits]

    # ------------------------------------------------------------ shapes

    def _write(self, x: int, y: int, text: str) -> None:
        for one in text:
            wide = cells(one)
            if not wide:  # it belongs to the one before
                self.signs[y][x - 1] = f"{self.signs[y][x - 1] or ''}{one}"
                continue
            self.signs[y][x] = one
            if wide == 2:
                self.signs[y][x + 1] = WIDE
            x += wide

    def _box(self, box: Box) -> None:
        right, bottom = box.x + box.width - 1, box.y + box.height - 1
        if box.leaf.kind != "end":
            corners = ((box.x, box.y), (right, box.y), (right, bottom), (box.x, bottom), (box.x, box.y))
            for start, end in pairwise(corners):
                self._line(start, end)
        first = box.y + (box.leaf.kind != "end")
        for i, text in enumerate((box.leaf.title, *box.leaf.details)):
            self._write(box.x + (box.width - cells(text)) // 2, first + i, text)

    def _frame(self, frame: Frame) -> None:
        left, right, top, bottom = frame.x, frame.x + frame.width - 1, frame.y, frame.y + frame.height - 1
        for x in range(left + 1, right):
            self.signs[top][x] = self.signs[bottom][x] = "╌"
        for y in range(top + 1, bottom):
            self.signs[y][left] = self.signs[y][right] = "╎"
        for x, y, corner in ((left, top, "╭"), (right, top, "╮"), (left, bottom, "╰"), (right, bottom, "╯")):
            self.signs[y][x] = corner

    def _wire(self, wire: Wire) -> None:
        owner = wire.points[0] if wire.through else None
        for start, end in pairwise(wire.points):
            self._line(start, end, wire.arrow and end == wire.points[-1], owner)

    def _line(self, start: Point, end: Point, points: bool = False, owner: Point | None = None) -> None:
        (x, y), (to_x, to_y) = start, end
        dx, dy = (to_x > x) - (to_x < x), (to_y > y) - (to_y < y)
        ahead = RIGHT if dx > 0 else LEFT if dx < 0 else DOWN if dy > 0 else UP
        behind = {RIGHT: LEFT, LEFT: RIGHT, DOWN: UP, UP: DOWN}[ahead]
        while (x, y) != (to_x, to_y):
            self._leave(x, y, ahead, owner)
            x, y = x + dx, y + dy
            if points and (x, y) == end:
                return  # what it points at keeps its border
            self._leave(x, y, behind, owner)
            if (x, y) != (to_x, to_y) or self.signs[y][x] in ("╌", "╎"):
                self.signs[y][x] = None  # a wire through a frame
        if self.signs[start[1]][start[0]] in ("╌", "╎"):
            self.signs[start[1]][start[0]] = None

    def _leave(self, x: int, y: int, way: int, owner: Point | None) -> None:
        self.lines[y][x] |= way
        if owner is not None:
            ways = self.owners.setdefault((x, y), {})
            ways[owner] = ways.get(owner, 0) | way

    def _arrow(self, wire: Wire) -> None:
        (x, y), (to_x, to_y) = wire.points[-2:]
        dx, dy = (to_x > x) - (to_x < x), (to_y > y) - (to_y < y)
        ahead = RIGHT if dx > 0 else LEFT if dx < 0 else DOWN if dy > 0 else UP
        self.signs[to_y - dy][to_x - dx] = (LIVE if wire.live else ARROWS)[ahead]
        self.is_live |= wire.live
