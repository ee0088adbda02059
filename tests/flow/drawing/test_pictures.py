from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from millrace import If, Loop, Parallel, Pipeline, Warp, step
from scripts.drawings import main as write_drawings
from tests.flow.drawing.examples import EXAMPLES, clean, dotted, is_short, rag, shout

SVG = "{http://www.w3.org/2000/svg}"


def nodes(svg: str) -> dict[str, ET.Element]:
    """By path, the groups that have one."""
    return {one.attrib["data-path"]: one for one in ET.fromstring(svg).iter() if "data-path" in one.attrib}


def test_nodes_carry_their_paths_names_and_types() -> None:
    found = nodes(rag().draw("svg"))
    assert list(found) == ["notes", "clean", "notes/bm25", "notes/dense", "prompt", "llm"]
    assert found["llm"].get("class") == "node module"
    assert found["notes"].get("class") == "group"
    assert [text.text for text in found["notes/bm25"].iter(f"{SVG}text")] == ["bm25", "keyword_search"]
    about = found["notes/bm25"].find(f"{SVG}title")
    assert about is not None
    assert about.text == "keyword_search: (str) -> list[str]"


def test_a_group_without_a_name_is_there_and_not_seen() -> None:
    found = nodes(Parallel(Pipeline(clean, clean), If(is_short, clean)).draw("svg"))
    assert {path: one.get("class") for path, one in found.items() if one.get("class") == "area"} == {
        "0": "area",
        "1": "area",
    }
    assert set(found) == {"0", "0/clean", "0/clean-2", "1", "1/is_short", "1/default"}


def test_wires() -> None:
    svg = Loop(Pipeline(shout, dotted), count=2).draw("svg")
    assert svg.count('class="wire live"') == 1
    assert svg.count('class="wire back"') == 1
    marker = re.search(r'marker id="([\w-]+)"', svg)
    assert marker is not None
    assert svg.count(f"url(#{marker[1]})") == 4
    assert len(set(re.findall(r"url\(#([\w-]+)\)", svg + Warp(clean).draw("svg")))) == 2


def test_names_are_escaped() -> None:
    name = "<script>alert('\"&')</script>"
    svg = Pipeline(step(clean, name=name), step(clean, name="bell\x07/\ud800")).draw("svg")
    assert "<script" not in svg
    assert name in nodes(svg)
    assert "bell\N{REPLACEMENT CHARACTER}/\N{REPLACEMENT CHARACTER}" in nodes(svg)


@pytest.mark.parametrize("name", EXAMPLES)
def test_nothing_stands_outside_of_the_picture_or_on_another_box(name: str) -> None:
    root = ET.fromstring(EXAMPLES[name].draw("svg"))
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    boxes = []
    for group in root.iter(f"{SVG}g"):
        rect = group.find(f"{SVG}rect")
        assert rect is not None
        x, y, w, h = (float(rect.attrib[key]) for key in ("x", "y", "width", "height"))
        assert 0 <= x <= x + w <= width
        assert 0 <= y <= y + h <= height
        if "node" in group.attrib["class"]:
            boxes.append((x, y, x + w, y + h))
    for i, (left, top, right, bottom) in enumerate(boxes):
        for other in boxes[:i]:
            assert right < other[0] or left > other[2] or bottom < other[1] or top > other[3]


def test_it_asks_for_nothing() -> None:
    svg = rag().draw("svg").replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|href|@import|<script|<foreignObject", svg)


def test_a_long_pipeline_stands_in_columns() -> None:
    root = ET.fromstring(EXAMPLES["forty steps"].draw("svg"))
    assert float(root.attrib["height"]) < 1500
    columns = {text.attrib["x"] for text in root.iter(f"{SVG}text") if (text.text or "").startswith("step_")}
    assert len(columns) == 3
    assert EXAMPLES["forty steps"].draw("text").count("\n") > 150


def test_the_picture_in_the_docs_is_what_is_drawn_today(tmp_path: Path) -> None:
    write_drawings(tmp_path)
    kept = Path(__file__).parents[3] / "docs" / "images" / "flow.svg"
    assert kept.read_text(encoding="utf-8") == (tmp_path / "flow.svg").read_text(encoding="utf-8"), (
        "python -m scripts.drawings writes it anew"
    )
