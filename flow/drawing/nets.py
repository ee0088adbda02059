"""Where the nodes of a graph stand: in layers, each below all that lead to it, as in Sugiyama, Tagawa and Toda (1981).

Edges that pass a layer have a place of their own in it. The order within layers keeps crossings few (barycentres);
between two layers every source has a row of its own for what goes sideways.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from .diagrams import Net
from .shapes import Block, Point, Shape, Wire, moved

__all__ = ["lay_out_net"]

APART = 3
"""Columns between neighbours in a layer."""

NEAR = 2
"""The input and the output stand over each other, and over a node this many columns from the middle."""

SWEEPS = 6
"""How often the layers are gone through, down and up, to find an order and places."""


@dataclass(eq=False, slots=True)
class Spot:
    """Something in a layer: a node with its block, or a place where an edge passes, or the input or output."""

    layer: int
    block: Block | None = None
    above: list[Spot] = field(default_factory=list)
    below: list[Spot] = field(default_factory=list)
    axis: int = 0
    """Its column."""
    top: int = 0
    bottom: int = 0

    left: int = field(init=False, default=0)
    """Columns that it takes on the left of its axis."""
    right: int = field(init=False, default=0)
    height: int = field(init=False, default=1)

    def __post_init__(self) -> None:
        if self.block is not None:
            self.left, self.right = self.block.axis, self.block.width - self.block.axis - 1
            self.height = self.block.height


def lay_out_net(net: Net, blocks: Sequence[Block]) -> Block:
    """The net on a grid; `blocks` are its nodes."""
    layers, ways = _layers(net, blocks)
    _order(layers)
    _place(layers)
    tracks = [_tracks(layer) for layer in layers]
    y = 0
    for layer, rows in zip(layers, tracks, strict=True):
        height = max(spot.height for spot in layer)
        for spot in layer:
            spot.top, spot.bottom = y, y + (spot.height if spot.block is not None else height) - 1
        y += height
        rows.update({spot: y + row for spot, row in rows.items()})
        y = max(rows.values(), default=y - 1) + 1
        y += layer is not layers[-2]  # for the arrows; none points at the output
    spots = [spot for layer in layers for spot in layer]
    left = min(spot.axis - spot.left for spot in spots)
    shapes: list[Shape] = []
    for spot in spots:
        if spot.block is not None:
            shapes += moved(spot.block.shapes, spot.axis - spot.left, spot.top)
    shapes += [_wire(way, live, tracks) for way, live in ways]
    width = max(spot.axis + spot.right for spot in spots) - left + 1
    (start,), (end,) = layers[0], layers[-1]
    return Block(width, end.top + 1, start.axis - left, tuple(moved(shapes, -left, 0)), gap=0, open=True)


# ---------------------------------------------------------------- layers


def _layers(net: Net, blocks: Sequence[Block]) -> tuple[list[list[Spot]], list[tuple[list[Spot], bool]]]:
    """The spots layer by layer, and for each edge the spots that it passes, and whether it is live."""
    spots = {-1: Spot(0)}
    for i, block in enumerate(blocks):
        above = [spots[link.source].layer for link in net.links if link.target == i]
        spots[i] = Spot(1 + max(above, default=0), block)
    last = len(blocks)
    spots[last] = Spot(1 + max(spot.layer for spot in spots.values()))
    layers: list[list[Spot]] = [[] for _ in range(spots[last].layer + 1)]
    for spot in spots.values():
        layers[spot.layer].append(spot)
    ways = []
    for link in net.links:
        source, target = spots[link.source], spots[link.target]
        passed = [Spot(i) for i in range(source.layer + 1, target.layer)]
        for spot in passed:
            layers[spot.layer].append(spot)
        way = [source, *passed, target]
        for one, other in pairwise(way):
            one.below.append(other)
            other.above.append(one)
        ways.append((way, link.live))
    return layers, ways


def _order(layers: list[list[Spot]]) -> None:
    """Puts each layer in an order in which few edges cross."""
    best, fewest = [list(layer) for layer in layers], _crossings(layers)
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        for i in range(1, len(layers)) if down else range(len(layers) - 2, -1, -1):
            near = layers[i - 1 if down else i + 1]
            rank = {spot: j for j, spot in enumerate(near)}
            own = {spot: j for j, spot in enumerate(layers[i])}
            layers[i].sort(
                key=lambda spot: _mean([rank[s] for s in (spot.above if down else spot.below)], own[spot])
            )
        found = _crossings(layers)
        if found < fewest:
            best, fewest = [list(layer) for layer in layers], found
    for layer, kept in zip(layers, best, strict=True):
        layer[:] = kept


def _mean(numbers: Sequence[int], otherwise: float) -> float:
    return sum(numbers) / len(numbers) if numbers else otherwise


def _crossings(layers: Sequence[Sequence[Spot]]) -> int:
    count = 0
    for layer, below in pairwise(layers):
        rank = {spot: i for i, spot in enumerate(below)}
        ends = [rank[other] for spot in layer for other in sorted(spot.below, key=rank.__getitem__)]
        seen: list[int] = []
        for end in ends:  # how many that began further left end further right
            count += len(seen) - bisect_right(seen, end)
            insort(seen, end)
    return count


# ---------------------------------------------------------------- columns


def _place(layers: Sequence[Sequence[Spot]]) -> None:
    """Gives each spot a column, near those that it is joined to."""
    for layer in layers:
        _settle(layer, [0] * len(layer))
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        for layer in layers if down else layers[::-1]:
            wanted = [
                round(_mean([other.axis for other in (spot.above if down else spot.below)], spot.axis))
                for spot in layer
            ]
            _settle(layer, wanted)
    (start,), (end,) = layers[0], layers[-1]
    near = [spot.axis for spot in (*start.below, *end.above)]
    middle = round(_mean(near, 0))
    close = min(near, key=lambda axis: abs(axis - middle), default=middle)
    start.axis = end.axis = close if abs(close - middle) <= NEAR else middle


def _settle(layer: Sequence[Spot], wanted: Sequence[int]) -> None:
    """Puts the spots of a layer where they want to be, as far as there is room: between too far left and right."""
    rights, lefts = list(wanted), list(wanted)
    apart = [one.right + 1 + APART + other.left for one, other in pairwise(layer)]
    for i, least in enumerate(apart):
        rights[i + 1] = max(rights[i + 1], rights[i] + least)
    for i, least in reversed(list(enumerate(apart))):
        lefts[i] = min(lefts[i], lefts[i + 1] - least)
    for spot, left, right in zip(layer, lefts, rights, strict=True):
        spot.axis = (left + right) // 2


def _tracks(layer: Sequence[Spot]) -> dict[Spot, int]:
    """For each spot that has edges to the side, the row below its layer in which they go there."""
    sideways = [spot for spot in layer if any(other.axis != spot.axis for other in spot.below)]
    spans = {
        spot: (min(spot.axis, *(o.axis for o in spot.below)), max(spot.axis, *(o.axis for o in spot.below)))
        for spot in sideways
    }
    # where one goes down in the column in which another arrives, it must have turned before
    after = {
        spot: [
            one
            for one in sideways
            if one is not spot and any(o.axis == one.axis and o not in one.below for o in spot.below)
        ]
        for spot in sideways
    }
    rows: dict[Spot, int] = {}
    waiting = list(sideways)
    while waiting:
        spot = next((one for one in waiting if all(o in rows for o in after[one])), waiting[0])
        waiting.remove(spot)
        row = max((rows[one] + 1 for one in after[spot] if one in rows), default=0)
        left, right = spans[spot]
        while any(rows[o] == row and spans[o][0] <= right + 1 and left <= spans[o][1] + 1 for o in rows):
            row += 1
        rows[spot] = row
    return rows


def _wire(way: Sequence[Spot], live: bool, tracks: Sequence[dict[Spot, int]]) -> Wire:
    first, last = way[0], way[-1]
    points: list[Point] = [(first.axis, first.bottom)]
    through: list[Point] = [(first.axis, first.bottom)]
    for one, other in pairwise(way):
        if one.axis != other.axis:
            row = tracks[one.layer][one]
            points += [(one.axis, row), (other.axis, row)]
        points.append((other.axis, other.top))
        through.append((other.axis, other.top))
        if other is not last:
            points.append((other.axis, other.bottom))
            through.append((other.axis, other.bottom))
    arrow = last.block is not None and not last.block.open
    return Wire(tuple(dict.fromkeys(points)), arrow, live, through=tuple(dict.fromkeys(through)))
