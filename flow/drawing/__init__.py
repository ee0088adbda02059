"""Drawings of flows: Mermaid text, characters for a terminal, SVG and PNG. Nothing here needs a network.

A flow is described first (`describing` makes a diagram), the diagram is laid out on a grid (`layouts`, `nets`), and the
grid is drawn (`canvases`, `pictures`, `rasters`). Mermaid lays out itself, and is given the diagram.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from ...streaming.errors import FlowBuildError
from ..checks import refuse_open
from ..steps import Step
from .canvases import Canvas
from .describing import diagram_of, heading_of
from .layouts import lay_out
from .mermaid import mermaid_of
from .pictures import picture_of

__all__ = ["Form", "draw"]

Form = Literal["mermaid", "text", "svg", "png"]

ROOM, TALL = 150, 80
"""Columns and rows of a picture, if that can be; a longer chain stands in columns beside each other."""


def draw(flow: Step[Any, Any], form: Form, width: int) -> str | bytes:
    """A drawing of the flow; `width` is how many columns a text may take, if that can be.

    Raises:
        FlowBuildError: there is no such form.
        MissingExtra: a PNG needs the extra `draw`.
    """
    if form not in get_args(Form):
        raise FlowBuildError(f"draw({form!r}): use {', '.join(map(repr, get_args(Form)))}")
    refuse_open(flow, "drawn")
    diagram, heading = diagram_of(flow), heading_of(flow)
    if form == "mermaid":
        return mermaid_of(diagram, heading)
    if form == "text":
        block = lay_out(diagram, width)
        text = Canvas(block.width, block.height).draw(block.shapes)
        return f"{heading}\n\n{text}" if heading else text
    block = lay_out(diagram, ROOM, TALL)
    if form == "svg":
        return picture_of(block, heading)
    from .rasters import raster_of

    return raster_of(block, heading)
