"""A drawing as PNG, painted by Pillow, with whatever monospaced font the machine has."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from math import hypot
from typing import Any

from ...streaming.errors import require
from .diagrams import cells
from .shapes import Block, Box, Frame, Wire, Word
from .strokes import MARGIN, Spot, at, bare_cells, plate_of, size_of, strokes_of

__all__ = ["raster_of"]

SCALE = 2
"""Pixels of the file for one of the drawing."""

SMOOTH = 2
"""How much larger it is painted than kept, so that edges are smooth."""

MOST = 32_000_000
"""Pixels to paint at most; larger drawings are painted smaller."""

FONTS = (
    "DejaVuSansMono.ttf",
    "Menlo.ttc",
    "consola.ttf",
    "LiberationMono-Regular.ttf",
    "NotoSansMono-Regular.ttf",
    "UbuntuMono-R.ttf",
)
GROUND, INK, DIM, LINE, BOX, EDGE = "#ffffff", "#1f2430", "#6b7280", "#8b93a1", "#f6f7f9", "#b8bfca"
EDGES = {"stream": "#0b7285", "module": "#5f3dc4", "decision": "#b35c00"}
HEADING = 26


def raster_of(block: Block, heading: str) -> bytes:
    """The shapes of a drawing as a PNG file.

    Raises:
        MissingExtra: Pillow is not installed.
    """
    require("PIL", "draw")
    painter = Painter(block, heading)
    painter.paint(block)
    return painter.png()


class Painter:
    """Paints shapes on a picture that is larger than the one to keep."""

    def __init__(self, block: Block, heading: str) -> None:
        from PIL import Image, ImageDraw

        self.above = HEADING if heading else 0
        self.bare = bare_cells(block.shapes)
        width, height = size_of(block, self.above)
        if heading:
            width = max(width, 2 * MARGIN + 9 * cells(heading))
        self.scale = float(SCALE * SMOOTH)
        self.scale = min(self.scale, (MOST / (width * height)) ** 0.5)
        self.size = (round(width * self.scale), round(height * self.scale))
        self.image = Image.new("RGB", self.size, GROUND)
        self.pen = ImageDraw.Draw(self.image)
        if heading:
            self.text((MARGIN, MARGIN + 5), heading, INK, 14, "lm")

    def png(self) -> bytes:
        kept = max(1, round(self.size[0] / SMOOTH)), max(1, round(self.size[1] / SMOOTH))
        file = io.BytesIO()
        self.image.resize(kept).save(file, "PNG")
        return file.getvalue()

    def paint(self, block: Block) -> None:
        for kind in (Frame, Wire, Box, Word):
            for shape in block.shapes:
                if isinstance(shape, kind):
                    match shape:
                        case Frame():
                            self.frame(shape)
                        case Wire():
                            self.wire(shape)
                        case Box():
                            self.box(shape)
                        case Word():
                            self.word(at(shape.x, shape.y, self.above), shape.text.strip())

    # ------------------------------------------------------------ shapes

    def corners(self, shape: Box | Frame, shift: float = 0) -> list[Spot]:
        (x, y), (u, v) = (
            at(shape.x, shape.y, self.above),
            at(shape.x + shape.width - 1, shape.y + shape.height - 1, self.above),
        )
        return [self.spot((x + shift, y + shift)), self.spot((u + shift, v + shift))]

    def spot(self, spot: Spot) -> Spot:
        return spot[0] * self.scale, spot[1] * self.scale

    def frame(self, frame: Frame) -> None:
        if frame.group.title is None:
            return
        for shift in (4, 0) if frame.group.each else (0,):
            self.pen.rounded_rectangle(
                self.corners(frame, shift), 12 * self.scale, GROUND, EDGE, max(1, round(1.1 * self.scale))
            )
        self.word(at(frame.title + 0.5, frame.y, self.above), frame.group.title, left=True)

    def box(self, box: Box) -> None:
        leaf = box.leaf
        bare = leaf.kind in ("end", "more")
        if not bare:
            self.pen.rounded_rectangle(
                self.corners(box),
                (17 if leaf.kind == "decision" else 7) * self.scale,
                BOX,
                EDGES.get(leaf.kind, EDGE),
                max(1, round((1.8 if leaf.kind == "module" else 1.3) * self.scale)),
            )
        first = box.y + (leaf.kind != "end")
        for i, text in enumerate((leaf.title, *leaf.details)):
            spot = at(box.x + (box.width - 1) / 2, first + i, self.above)
            self.text(spot, text, DIM if i or bare else INK, 11.5 if i or bare else 13)

    def word(self, spot: Spot, text: str, left: bool = False) -> None:
        x, y, width, height = plate_of(spot, text, left)
        self.pen.rectangle([self.spot((x, y)), self.spot((x + width, y + height))], GROUND)
        self.text(spot, text, DIM, 11.5, "lm" if left else "mm")

    def text(self, spot: Spot, text: str, color: str, size: float, anchor: str = "mm") -> None:
        self.pen.text(self.spot(spot), text, color, _font(round(size * self.scale)), anchor)

    def wire(self, wire: Wire) -> None:
        start, strokes = strokes_of(wire, self.above, self.bare)
        points = [start]
        for stroke in strokes:
            points += stroke.flat(points[-1])
        color = EDGES["stream"] if wire.live else LINE
        width = max(1, round((2.2 if wire.live else 1.4) * self.scale))
        on, off = (5.0, 3.0) if wire.live else (2.0, 4.0) if wire.back else (0.0, 0.0)
        for line in _dashes(points, on, off) if on else [points]:
            self.pen.line([self.spot(one) for one in line], color, width, "curve")
        if wire.arrow:
            self.tip(points)

    def tip(self, points: Sequence[Spot]) -> None:
        (x, y), end = next(one for one in reversed(list(pairwise(points))) if one[0] != one[1])
        u, v = end
        length = hypot(u - x, v - y)
        dx, dy = (u - x) / length * 8, (v - y) / length * 8
        corners = [end, (u - dx - dy * 0.42, v - dy + dx * 0.42), (u - dx + dy * 0.42, v - dy - dx * 0.42)]
        self.pen.polygon([self.spot(corner) for corner in corners], LINE)


def _dashes(points: Sequence[Spot], on: float, off: float) -> Iterator[list[Spot]]:
    """Pieces of a line, `on` long, `off` apart."""
    left, drawing, dash = on, True, [points[0]]
    for start, end in pairwise(points):
        (x, y), (u, v) = start, end
        length, done = hypot(u - x, v - y), 0.0
        while length - done > left:
            done += left
            spot = (x + (u - x) * done / length, y + (v - y) * done / length)
            if drawing:
                yield [*dash, spot]
            drawing, left, dash = not drawing, off if drawing else on, [spot]
        left -= length - done
        dash.append(end)
    if drawing:
        yield dash


@lru_cache(16)
def _font(size: int) -> Any:
    from PIL import ImageFont

    for name in FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)
