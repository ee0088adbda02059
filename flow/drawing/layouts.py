"""Where everything stands: a diagram is laid out on a grid, from the inside out.

Ways beside each other stand side by side where there is room, and else one below the other, between a rail on the left
from which they begin and one on the right in which they end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from .diagrams import Branch, Chain, Fork, Group, Leaf, Net, Part, cells
from .nets import lay_out_net
from .shapes import Block, Box, Frame, Point, Shape, Wire, Word, moved

__all__ = ["lay_out"]

APART = 2
"""Columns between ways that stand side by side."""

PADDING = 2
"""Columns between a frame and what is in it."""

RAIL = 3
"""Columns between a stacked way and the rails."""

NEAR = 2
"""A way this many columns from the middle of its fork is taken for the middle."""


def lay_out(part: Part, room: int, tall: int | None = None) -> Block:
    """The part on a grid, in `room` columns if that can be; a chain of more than `tall` rows stands in several columns
    beside each other."""
    layout = _Layout()
    block = layout.of(part, room)
    if tall is None or block.height <= tall or not isinstance(part, Chain):
        return block
    return _beside_each_other([layout.of(one, room) for one in part.parts], part.live, room, tall)


class _Layout:
    """One drawing. What has been laid out for a room is not laid out again."""

    def __init__(self) -> None:
        self.known: dict[tuple[int, int], Block] = {}

    def of(self, part: Part, room: int) -> Block:
        found = self.known.get((id(part), room))
        if found is None:
            found = self.known[id(part), room] = self._made(part, room)
        return found

    def _made(self, part: Part, room: int) -> Block:
        match part:
            case Leaf():
                return _leaf(part)
            case Chain():
                return self._chain(part, room)
            case Fork():
                return self._fork(part, room)
            case Group():
                return self._group(part, room)
            case Net():
                return lay_out_net(part, [self.of(node, room) for node in part.nodes])

    def _chain(self, chain: Chain, room: int) -> Block:
        block = stacked([self.of(one, room) for one in chain.parts], chain.live)
        too_wide = block.width - room
        if too_wide > 0 and len(chain.parts) > 1:  # the axes of its parts are far from each other
            return stacked([self.of(one, room - too_wide) for one in chain.parts], chain.live)
        return block

    def _fork(self, fork: Fork, room: int) -> Block:
        rows = _rows(fork.branches, [self.of(branch.part, room) for branch in fork.branches], room)
        if len(rows) > 1:
            room -= 2 * RAIL
            rows = _rows(fork.branches, [self.of(branch.part, room) for branch in fork.branches], room)
        return _joined(fork, _side_by_side(rows[0]) if len(rows) == 1 else _in_rows(rows))

    def _group(self, group: Group, room: int) -> Block:
        if group.title is None:
            block = self.of(group.inner, room)
            return replace(block, shapes=(Frame(0, 0, block.width, block.height, 0, group), *block.shapes))
        block = self.of(group.inner, room - 2 * PADDING - 2 - (RAIL if group.turns else 0))
        return _framed(group, _turning(block) if group.turns else block)


def _leaf(leaf: Leaf) -> Block:
    bare = leaf.kind == "end"
    width = max(map(cells, (leaf.title, *leaf.details))) + (0 if bare else 4)
    width += 1 - width % 2  # the wires stand in the middle
    height = 1 + len(leaf.details) + (0 if bare else 2)
    return Block(width, height, width // 2, (Box(0, 0, width, height, leaf),))


def stacked(blocks: Sequence[Block], live: Sequence[bool]) -> Block:
    """Blocks one below the other, with a wire from each to the next."""
    if not blocks:
        return Block(1, 1, 0, (), gap=0, open=True)
    axis = max(block.axis for block in blocks)
    shapes: list[Shape] = []
    y = bottom = 0
    for i, block in enumerate(blocks):
        if i:
            y = bottom + 1 + block.gap
            shapes.append(Wire(((axis, bottom), (axis, y)), not block.open, live[i]))
        shapes += moved(block.shapes, axis - block.axis, y)
        bottom = y + block.height - 1
    width = axis + max(block.width - block.axis for block in blocks)
    return Block(width, bottom + 1, axis, tuple(shapes), blocks[0].gap, blocks[0].open)


def _beside_each_other(blocks: Sequence[Block], live: Sequence[bool], room: int, tall: int) -> Block:
    """A chain in columns, each as tall as the others if that can be."""
    count = -(-sum(block.height + block.gap for block in blocks) // tall)
    count = max(1, min(count, room // (max(block.width for block in blocks) + 2 * APART)))
    wanted = sum(block.height for block in blocks) / count
    columns: list[list[int]] = [[]]
    height = 0
    for i, block in enumerate(blocks):
        if height + block.height / 2 > wanted and columns[-1]:
            columns.append([])
            height = 0
        columns[-1].append(i)
        height += block.height
    shapes: list[Shape] = []
    x, bottom, before = 0, 0, None
    for column in columns:
        block = stacked([blocks[i] for i in column], [live[i] for i in column])
        y = 0 if before is None else 1 + block.gap
        shapes += moved(block.shapes, x, y)
        if before is not None:
            (axis, last), end = before, (x + block.axis, y)
            corners = ((axis, last + 1), (x - APART, last + 1), (x - APART, 0), (end[0], 0))
            shapes.append(Wire(((axis, last), *corners, end), not block.open, live[column[0]]))
        before = (x + block.axis, y + block.height - 1)
        bottom = max(bottom, before[1] + 2)
        x += block.width + 2 * APART
    return Block(x - 2 * APART, bottom, 0, tuple(shapes))


# ---------------------------------------------------------------- forks


class Row(NamedTuple):
    """Ways that stand side by side."""

    branches: Sequence[Branch]
    blocks: Sequence[Block]
    axes: Sequence[int]
    width: int


def _rows(branches: Sequence[Branch], blocks: Sequence[Block], room: int) -> list[Row]:
    """The ways in as few rows as there is room for."""
    rows: list[Row] = []
    start, x, axes = 0, 0, list[int]()
    for i, (branch, block) in enumerate(zip(branches, blocks, strict=True)):
        label = cells(_label(branch))
        left, right = max(block.axis, label // 2), max(block.width - block.axis, label - label // 2)
        if axes and x + left + right > room:
            rows.append(Row(branches[start:i], blocks[start:i], axes, x - APART))
            start, x, axes = i, 0, []
        axes.append(x + left)
        x += left + right + APART
    return [*rows, Row(branches[start:], blocks[start:], axes, x - APART)]


def _label(branch: Branch) -> str:
    return f" {branch.label} " if branch.label else ""


def _placed(row: Row, left: int, y: int, entry: int) -> tuple[list[Shape], int]:
    """The ways of a row, from column `left` on; they come from the column `entry` in the row `y`.

    Also the first row below all of them.
    """
    shapes: list[Shape] = []
    top = y + (3 if any(branch.label for branch in row.branches) else 2)
    for branch, block, axis in zip(row.branches, row.blocks, row.axes, strict=True):
        at = left + axis
        shapes += moved(block.shapes, at - block.axis, top)
        shapes.append(Wire(_around((entry, 0), (entry, y), (at, y), (at, top)), not block.open, branch.live))
        if branch.label:
            shapes.append(Word(at, y + 1, _label(branch)))
    return shapes, top + max(block.height for block in row.blocks)


def _exits(row: Row, left: int, end: int, *onwards: Point) -> list[Shape]:
    """The wires out of a row, in the row `end`, and from there onwards."""
    wires: list[Shape] = []
    top = end - max(block.height for block in row.blocks)
    for block, axis in zip(row.blocks, row.axes, strict=True):
        at = left + axis
        wires.append(Wire(_around((at, top + block.height - 1), (at, end), *onwards)))
    return wires


def _side_by_side(row: Row) -> Block:
    middle = (row.axes[0] + row.axes[-1]) // 2
    nearest = min(row.axes, key=lambda axis: abs(axis - middle))
    axis = nearest if abs(nearest - middle) <= NEAR else middle
    shapes, end = _placed(row, 0, 0, axis)
    shapes += _exits(row, 0, end, (axis, end))
    return Block(row.width, end + 1, axis, tuple(shapes), gap=0, open=True)


def _in_rows(rows: Sequence[Row]) -> Block:
    """Rows one below the other, between a rail on the left and one on the right."""
    right = 2 * RAIL + max(row.width for row in rows) - 1
    shapes: list[Shape] = []
    ends = []
    y = 0
    for row in rows:
        placed, end = _placed(row, RAIL, y, 0)
        shapes += placed
        ends.append(end)
        y = end + 1
    for row, end in zip(rows, ends, strict=True):
        shapes += _exits(row, RAIL, end, (right, end), (right, y), (0, y))
    return Block(right + 1, y + 1, 0, tuple(shapes), gap=1, open=True)


def _around(*points: Point) -> tuple[Point, ...]:
    """The points without those that are there twice."""
    return tuple(dict.fromkeys(points))


def _joined(fork: Fork, block: Block) -> Block:
    """The ways come together; it says how."""
    if fork.joined is None:
        return block
    text = f" {fork.joined} "
    left = max(0, cells(text) // 2 - block.axis)
    axis, last = block.axis + left, block.height
    shapes = moved(block.shapes, left, 0)
    shapes += [Wire(((axis, last - 1), (axis, last))), Word(axis, last, text)]
    width = max(block.width + left, axis + cells(text) - cells(text) // 2)
    return Block(width, last + 1, axis, tuple(shapes), block.gap, block.open)


# ---------------------------------------------------------------- frames


def _framed(group: Group, block: Block) -> Block:
    title = cells(group.title or "") + 2
    axis, width = PADDING + 1 + block.axis, block.width + 2 * PADDING + 2
    if axis < title + 3:
        width = max(width, axis + title + 3)
    at = axis + 2 if width - axis - 3 >= title else 2
    top = 1 + block.gap
    bottom = top + block.height
    shapes: list[Shape] = [Frame(0, 0, width, bottom + 1, at, group)]
    shapes.append(Wire(((axis, 0), (axis, top)), not block.open))
    shapes += moved(block.shapes, PADDING + 1, top)
    shapes.append(Wire(((axis, bottom - 1), (axis, bottom))))
    return Block(width, bottom + 1, axis, tuple(shapes), gap=1, open=True)


def _turning(block: Block) -> Block:
    """With a way back from its end to its start."""
    top = 1 + block.gap
    bottom = top + block.height
    right = block.width + 1
    axis = block.axis
    shapes: list[Shape] = [Wire(((axis, 0), (axis, top)), not block.open)]
    shapes += moved(block.shapes, 0, top)
    shapes.append(Wire(((axis, bottom - 1), (axis, bottom))))
    shapes.append(Wire(((axis, bottom), (right, bottom), (right, 0), (axis, 0)), arrow=True, back=True))
    return Block(right + 1, bottom + 1, axis, tuple(shapes), gap=0, open=True)
