"""What a drawing shows: a flow as nodes, chains, forks and groups, before anybody decides where on the page they stand.

Places are the paths of the events of a run. A part of a path that changes from turn to turn of a Loop, or from item to
item of a Warp, is `*`.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "ANY",
    "Branch",
    "Chain",
    "Fork",
    "Group",
    "Leaf",
    "Link",
    "Net",
    "Part",
    "Place",
    "cells",
    "clean",
    "shorten",
]

Place = tuple[str, ...] | None
"""Where the events of a step stand; None for what says nothing of its own."""

ANY = "*"
"""In a Place: the number of a turn or of an item."""

Kind = Literal["step", "stream", "module", "decision", "end", "more"]


@dataclass(frozen=True, slots=True)
class Leaf:
    """One box. A `stream` gives its value piece by piece, a `module` is an object with a resource; `decision` is where
    a Switch decides, `end` the flow's input or output, `more` what is too deep inside to be drawn."""

    title: str
    details: tuple[str, ...] = ()
    kind: Kind = "step"
    place: Place = None
    about: str = ""
    """For whoever points at it."""


@dataclass(frozen=True, slots=True)
class Chain:
    """Parts one after another; without any, what comes in passes."""

    parts: tuple[Part, ...]
    live: tuple[bool, ...]
    """For each part, whether what comes to it comes piece by piece."""


@dataclass(frozen=True, slots=True)
class Branch:
    """One way of a fork."""

    label: str | None
    part: Part
    live: bool = False


@dataclass(frozen=True, slots=True)
class Fork:
    """Ways beside each other, which come together again; `joined` says how."""

    branches: tuple[Branch, ...]
    joined: str | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """A part in a frame of its own; without a title the frame is not seen, and still there to be pointed at.

    `turns`: from its end a way leads back to its start.
    """

    title: str | None
    inner: Part
    place: Place = None
    turns: bool = False
    each: bool = False
    """Whether it stands for many, one for each item."""


@dataclass(frozen=True, slots=True)
class Link:
    """An edge of a Net, from node to node by index; -1 is the input, and the number of nodes is the output."""

    source: int
    target: int
    live: bool = False


@dataclass(frozen=True, slots=True)
class Net:
    """Nodes joined by edges, in an order in which each stands after those that lead to it."""

    nodes: tuple[Part, ...]
    links: tuple[Link, ...]


Part = Leaf | Chain | Fork | Group | Net


# ---------------------------------------------------------------- words in a drawing


def clean(text: str) -> str:
    """One line, of characters that can be seen."""
    words = " ".join(text.split())
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in words)


def cells(text: str) -> int:
    """How many columns of a terminal the text takes."""
    return sum(_cells_of(one) for one in text)


def _cells_of(one: str) -> int:
    if unicodedata.category(one) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(one) in ("W", "F") else 1


def shorten(text: str, most: int) -> str:
    """The text, cut to `most` columns."""
    if cells(text) <= most:
        return text
    taken, kept = 1, ""
    for one in text:
        taken += _cells_of(one)
        if taken > most:
            break
        kept += one
    return kept + "\N{HORIZONTAL ELLIPSIS}"
