"""Shapes on a grid of columns and rows, in which a terminal's characters stand: what all drawings are made from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from .diagrams import Group, Leaf

__all__ = ["Block", "Box", "Frame", "Point", "Shape", "Wire", "Word", "moved"]

Point = tuple[int, int]
"""Column and row."""


@dataclass(frozen=True, slots=True)
class Box:
    """A leaf. Its border stands in its outermost cells; one of the kind `end` has none."""

    x: int
    y: int
    width: int
    height: int
    leaf: Leaf


@dataclass(frozen=True, slots=True)
class Frame:
    """A group; its title stands in its first row, from the column `title`."""

    x: int
    y: int
    width: int
    height: int
    title: int
    group: Group


@dataclass(frozen=True, slots=True)
class Wire:
    """A line from cell to cell, around corners. `arrow`: it points at what stands in its last cell."""

    points: tuple[Point, ...]
    arrow: bool = False
    live: bool = False
    back: bool = False
    through: tuple[Point, ...] = ()
    """Where it may be drawn as a curve, the points that the curve goes through: of several that cross, that is easier
    to follow."""


@dataclass(frozen=True, slots=True)
class Word:
    """Text around the middle column `x`, on a wire."""

    x: int
    y: int
    text: str


Shape = Box | Frame | Wire | Word


@dataclass(frozen=True, slots=True)
class Block:
    """Shapes that are moved together. What comes in arrives in the first row of the column `axis`, what goes out leaves
    by its last row."""

    width: int
    height: int
    axis: int
    shapes: tuple[Shape, ...]
    gap: int = 1
    """Rows that it wants free above."""
    open: bool = False
    """Whether the wire that comes in goes on inside, so that it has no arrow."""


def moved(shapes: Iterable[Shape], dx: int, dy: int) -> list[Shape]:
    """The shapes, so much further right and down."""
    found: list[Shape] = []
    for shape in shapes:
        if isinstance(shape, Wire):
            points, through = (
                tuple((x + dx, y + dy) for x, y in way) for way in (shape.points, shape.through)
            )
            found.append(replace(shape, points=points, through=through))
        elif isinstance(shape, Frame):
            found.append(replace(shape, x=shape.x + dx, y=shape.y + dy, title=shape.title + dx))
        else:
            found.append(replace(shape, x=shape.x + dx, y=shape.y + dy))
    return found
