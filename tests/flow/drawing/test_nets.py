from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from millrace.flow.drawing.diagrams import Leaf, Link, Net
from millrace.flow.drawing.layouts import lay_out
from millrace.flow.drawing.shapes import Box, Wire


@st.composite
def nets(draw: Any) -> Net:
    count = draw(st.integers(1, 12))
    links = []
    for target in range(count + 1):
        sources = draw(st.sets(st.integers(-1, target - 1), min_size=1, max_size=3))
        links += [Link(source, target) for source in sorted(sources)]
    return Net(tuple(Leaf(f"node {i}") for i in range(count)), tuple(links))


@given(nets())
def test_each_edge_is_drawn_from_its_source_down_to_its_target(net: Net) -> None:
    block = lay_out(net, 1000)
    boxes = {int(shape.leaf.title[5:]): shape for shape in block.shapes if isinstance(shape, Box)}
    wires = [shape for shape in block.shapes if isinstance(shape, Wire)]
    assert len(boxes) == len(net.nodes)
    assert len(wires) == len(net.links)
    for link, wire in zip(net.links, wires, strict=True):
        assert all(one[1] <= other[1] for one, other in zip(wire.points, wire.points[1:], strict=False))
        assert all(
            one[0] == other[0] or one[1] == other[1]
            for one, other in zip(wire.points, wire.points[1:], strict=False)
        )
        if link.source in boxes:
            box = boxes[link.source]
            assert wire.points[0] == (box.x + box.width // 2, box.y + box.height - 1)
        if link.target in boxes:
            box = boxes[link.target]
            assert wire.points[-1] == (box.x + box.width // 2, box.y)


@given(nets())
def test_boxes_and_wires_keep_apart(net: Net) -> None:
    block = lay_out(net, 1000)
    boxes = [shape for shape in block.shapes if isinstance(shape, Box)]
    taken: set[tuple[int, int]] = set()
    for box in boxes:
        cells = {(x, y) for x in range(box.x, box.x + box.width) for y in range(box.y, box.y + box.height)}
        assert not cells & taken
        taken |= cells
    assert all(0 <= x < block.width and 0 <= y < block.height for x, y in taken)
    for shape in block.shapes:
        if isinstance(shape, Wire):
            inner = set(cells_of(shape)) - {shape.points[0], shape.points[-1]}
            assert not inner & taken


def cells_of(wire: Wire) -> Any:
    for (x, y), (u, v) in zip(wire.points, wire.points[1:], strict=False):
        for column in range(min(x, u), max(x, u) + 1):
            for row in range(min(y, v), max(y, v) + 1):
                yield column, row
