"""A diagram as SVG: one self-contained element, light or dark as the page around it is.

Nodes and groups that say events carry their path: `<g class="node" data-path="notes/bm25">`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from xml.sax.saxutils import escape, quoteattr
from zlib import crc32

from .diagrams import Place, cells, clean
from .shapes import Block, Box, Frame, Point, Wire, Word
from .strokes import MARGIN, Spot, at, bare_cells, plate_of, size_of, strokes_of

__all__ = ["picture_of"]

HEADING = 26
"""Pixels for the heading."""

STYLE = """
.millrace-flow { --ground: #ffffff; --ink: #1f2430; --dim: #6b7280; --line: #8b93a1; --box: #f6f7f9; --edge: #b8bfca;
  --stream: #0b7285; --module: #5f3dc4; --choice: #b35c00; --lit: #2f9e44;
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", "Liberation Mono", monospace; }
@media (prefers-color-scheme: dark) { .millrace-flow { --ground: #16181d; --ink: #e6e8ee; --dim: #9aa3b2;
  --line: #717a8a; --box: #20242c; --edge: #434b59; --stream: #3bc9db; --module: #b197fc; --choice: #ffa94d;
  --lit: #69db7c; } }
.millrace-flow .ground { fill: var(--ground); }
.millrace-flow text { fill: var(--ink); font-size: 13px; text-anchor: middle; }
.millrace-flow .detail, .millrace-flow .end text { fill: var(--dim); font-size: 11.5px; }
.millrace-flow .heading { font-weight: 600; text-anchor: start; }
.millrace-flow .node rect { fill: var(--box); stroke: var(--edge); stroke-width: 1.2; }
.millrace-flow .stream rect { stroke: var(--stream); }
.millrace-flow .module rect { stroke: var(--module); stroke-width: 1.8; }
.millrace-flow .decision rect { stroke: var(--choice); }
.millrace-flow .end rect, .millrace-flow .more rect { fill: none; stroke: none; }
.millrace-flow .group rect { fill: none; stroke: var(--edge); stroke-dasharray: 4 4; }
.millrace-flow .area rect { fill: none; stroke: none; }
.millrace-flow .group text { text-anchor: start; }
.millrace-flow .plate { fill: var(--ground); }
.millrace-flow .wire { fill: none; stroke: var(--line); stroke-width: 1.4; }
.millrace-flow .live { stroke: var(--stream); stroke-width: 2.2; stroke-dasharray: 5 3; }
.millrace-flow .back { stroke-dasharray: 2 4; }
.millrace-flow .tip { fill: var(--line); }
.millrace-flow .word { fill: var(--dim); font-size: 11.5px; }
.millrace-flow .lit rect { stroke: var(--lit); stroke-width: 2.4; }
"""


def picture_of(block: Block, heading: str) -> str:
    """The shapes of a drawing as an SVG element."""
    above = HEADING if heading else 0
    width, height = size_of(block, above)
    if heading:
        width = max(width, 2 * MARGIN + 9 * cells(heading))
    parts = list(_shapes(block, above))
    tip = f"millrace-{crc32(''.join(parts).encode('utf-8', 'replace')):08x}"
    title = escape(heading or "flow")
    return "".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="millrace-flow" role="img" width="{width}" '
            f'height="{height}" viewBox="0 0 {width} {height}">\n<title>{title}</title>\n<style>{STYLE}</style>\n',
            f'<defs><marker id="{tip}" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="8" markerHeight="8" '
            'markerUnits="userSpaceOnUse" orient="auto"><path class="tip" d="M0 0.6 L8 4 L0 7.4 Z"/></marker></defs>\n',
            f'<rect class="ground" width="{width}" height="{height}" rx="10"/>\n',
            f'<text class="heading" x="{MARGIN}" y="{MARGIN + 10}">{title}</text>\n' if heading else "",
            *(part.replace("marker-end=''", f'marker-end="url(#{tip})"') for part in parts),
            "</svg>\n",
        )
    )


def _shapes(block: Block, above: int) -> Iterator[str]:
    """Frames lie under wires, wires under boxes, words over all."""
    bare = bare_cells(block.shapes)
    for kind in (Frame, Wire, Box, Word):
        for shape in block.shapes:
            if not isinstance(shape, kind):
                continue
            match shape:
                case Frame():
                    yield _frame(shape, above)
                case Wire():
                    yield _wire(shape, above, bare)
                case Box():
                    yield _box(shape, above)
                case Word():
                    yield _word(at(shape.x, shape.y, above), shape.text.strip())


def _path(place: Place) -> str:
    if place is None:
        return ""
    path = "/".join(place)
    return f" data-path={quoteattr(re.sub(ILLEGAL, REPLACED, path))}"


ILLEGAL = "[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
"""What XML 1.0 cannot say, in section 2.2."""

REPLACED = "\N{REPLACEMENT CHARACTER}"


def _rect(shape: Box | Frame, above: int, radius: int, shift: int = 0) -> str:
    (x, y), (right, bottom) = (
        at(shape.x, shape.y, above),
        at(shape.x + shape.width - 1, shape.y + shape.height - 1, above),
    )
    return f'<rect x="{x + shift:g}" y="{y + shift:g}" width="{right - x:g}" height="{bottom - y:g}" rx="{radius}"/>'


def _frame(frame: Frame, above: int) -> str:
    group = frame.group
    if group.title is None:
        return f'<g class="area"{_path(group.place)}>{_rect(frame, above, 8)}</g>\n'
    many = _rect(frame, above, 12, shift=4) if group.each else ""
    words = escape(group.title)
    return (
        f'<g class="group"{_path(group.place)}><title>{words}</title>{many}{_rect(frame, above, 12)}'
        f"{_word(at(frame.title + 0.5, frame.y, above), group.title, left=True).rstrip()}</g>\n"
    )


def _box(box: Box, above: int) -> str:
    leaf = box.leaf
    first = box.y + (leaf.kind != "end")
    lines = []
    for i, text in enumerate((leaf.title, *leaf.details)):
        x, y = at(box.x + (box.width - 1) / 2, first + i, above)
        kind = ' class="detail"' if i else ""
        lines.append(f'<text{kind} x="{x:g}" y="{y + 4:g}">{escape(text)}</text>')
    about = f"<title>{escape(clean(leaf.about))}</title>" if leaf.about else ""
    return (
        f'<g class="node {leaf.kind}"{_path(leaf.place)}>{about}'
        f"{_rect(box, above, 17 if leaf.kind == 'decision' else 7)}{''.join(lines)}</g>\n"
    )


def _word(spot: Spot, text: str, left: bool = False) -> str:
    """Small text, on a plate that hides the line under it."""
    x, y, width, height = plate_of(spot, text, left)
    return (
        f'<path class="plate" d="M{x:g} {y:g}h{width:g}v{height:g}h{-width:g}z"/>'
        f'<text class="word" x="{spot[0]:g}" y="{spot[1] + 4:g}">{escape(text)}</text>\n'
    )


def _wire(wire: Wire, above: int, bare: Collection[Point]) -> str:
    start, strokes = strokes_of(wire, above, bare)
    path = f"M{_numbers([start])}" + "".join(
        f"{'LQC'[len(stroke.controls)]}{_numbers([*stroke.controls, stroke.end])}" for stroke in strokes
    )
    kinds = "wire" + " live" * wire.live + " back" * wire.back
    return f'<path class="{kinds}" d="{path}"{" marker-end=" + repr("") if wire.arrow else ""}/>\n'


def _numbers(spots: Iterable[Spot]) -> str:
    return " ".join(f"{x:g} {y:g}" for x, y in spots)
