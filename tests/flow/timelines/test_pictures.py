from __future__ import annotations

import re
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given, settings

from millrace import explain
from millrace.flow.timelines import bars_of
from millrace.streaming import StepFinished, StepStarted, ToolCall
from scripts.drawings import main as write_drawings
from scripts.drawings import run
from tests.flow.drawing.examples import FLOWS
from tests.flow.timelines.told import Told, rag

SVG = "{http://www.w3.org/2000/svg}"


def rows(svg: str) -> dict[str, ET.Element]:
    """By path, the rows of steps."""
    return {one.attrib["data-path"]: one for one in ET.fromstring(svg).iter() if "data-path" in one.attrib}


def rects(row: ET.Element, kind: str) -> list[tuple[float, float]]:
    """Left and right of the row's bars of one kind."""
    found = [one for one in row.iter(f"{SVG}rect") if one.attrib["class"] == kind]
    return [(float(r.attrib["x"]), float(r.attrib["x"]) + float(r.attrib["width"])) for r in found]


def test_a_row_for_each_step_with_its_words() -> None:
    found = rows(explain(rag().events).svg())
    assert list(found)[:4] == ["clean", "notes", "notes/bm25", "notes/dense"]
    llm = found["llm"]
    assert llm.attrib["class"] == "row done"
    title = llm.find(f"{SVG}title")
    assert title is not None
    assert title.text == "llm: done, took 2.40 s, first piece after 800 ms, 60 pieces"
    assert [text.text for text in llm.iter(f"{SVG}text")] == ["llm", "2.40 s", "800 ms"]


def test_bars_beside_each_other_are_in_proportion() -> None:
    found = rows(explain(rag().events).svg())
    ((left, right),) = rects(found["notes/bm25"], "busy")
    ((same, later),) = rects(found["notes/dense"], "busy")
    assert left == same
    assert (later - same) / (right - left) == pytest.approx(0.8 / 0.5, rel=0.02)


def test_pieces_are_one_path() -> None:
    told = Told().step(0, None, "llm").pieces(0.5, 60, 5000, "llm").end(60)
    svg = explain(told.events).svg()
    assert svg.count('class="pieces"') == 1
    assert svg.count('class="first"') == 1
    assert len(svg) < 12_000


def large(events: int = 5000) -> Told:
    """Items with steps inside, and a long answer."""
    told = Told().say(0, StepStarted(), "w")
    for i in range(250):
        told.say(i / 100, StepStarted(), "w", i).step(i / 100, i / 100 + 0.1, "w", i, "rate")
        told.say(i / 100 + 0.2, StepFinished(), "w", i)
    told.say(3, StepFinished(), "w").say(3, StepStarted(), "llm")
    return told.pieces(3.5, 30, events - len(told.events) - 1, "llm").end(30)


def test_five_thousand_events_are_drawn_at_once() -> None:
    events = large().events
    assert len(events) == 5000
    best = {"svg": 9.9, "text": 9.9}
    for _ in range(5):
        for form in best:
            start = time.thread_time()
            timeline = explain(events)
            drawn = timeline.svg() if form == "svg" else timeline.text(100)
            best[form] = min(best[form], time.thread_time() - start)
            assert len(drawn) < 20_000
    assert max(best.values()) < 0.1


def test_a_stop_and_a_failure_are_seen() -> None:
    stopped = explain(Told().step(0, None, "llm").end(2, "cancelled", "enough").events).svg()
    assert 'class="end cut"' in stopped
    assert "stopped: enough" in stopped
    failed = explain(
        Told().step(0, 1, "a", error=ValueError("secret")).end(1, "error", error=ValueError("secret")).events
    ).svg()
    assert 'class="sign bad"' in failed
    assert failed.count("ValueError") >= 2
    assert "secret" not in failed
    assert 'class="end' not in explain(rag().events).svg()


def test_tools_are_marked_and_named() -> None:
    told = Told().step(0, None, "agent").say(1, ToolCall("1", "search", "{}"), "agent").end(2)
    svg = explain(told.events).svg()
    assert svg.count('class="tool"') == 1
    assert "search" in svg


def test_names_are_escaped() -> None:
    name = "<script>alert('\"&')</script>\x07\ud800"
    svg = explain(Told().step(0, 1, name).end(1, "cancelled", "<b>&").events).svg()
    ET.fromstring(svg)
    assert "<script" not in svg
    assert "<b>" not in svg


def test_it_asks_for_nothing() -> None:
    svg = explain(rag().events).svg().replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|href|@import|<script|<foreignObject|url\(", svg)


def test_it_can_be_read_aloud() -> None:
    root = ET.fromstring(explain(rag().events).svg())
    assert root.attrib["role"] == "img"
    title = root.find(f"{SVG}title")
    assert title is not None
    assert title.text == "done, 4.00 s, first piece after 2.40 s, 35 + 60 tokens"


def test_as_wide_as_asked() -> None:
    for width in (480, 860, 1400):
        root = ET.fromstring(explain(rag().events).svg(width))
        assert float(root.attrib["width"]) == width
        height = float(root.attrib["height"])
        for text in root.iter(f"{SVG}text"):
            assert 0 <= float(text.attrib["x"]) <= width
            assert 0 <= float(text.attrib["y"]) <= height
        for rect in root.iter(f"{SVG}rect"):
            assert float(rect.attrib.get("x", 0)) + float(rect.attrib["width"]) <= width + 3


def test_the_bars_alone() -> None:
    svg = bars_of(explain(rag().events), 320, 8)
    root = ET.fromstring(svg)
    assert len(list(root.iter(f"{SVG}g"))) == 6
    assert not list(root.iter(f"{SVG}text"))
    assert len(list(ET.fromstring(bars_of(explain(rag().events), 320, 5)).iter(f"{SVG}g"))) == 4


def test_the_picture_in_the_docs_is_what_is_drawn_today(tmp_path: Path) -> None:
    write_drawings(tmp_path)
    docs = Path(__file__).parents[3] / "docs"
    kept = (docs / "images" / "timeline.svg").read_text(encoding="utf-8")
    assert kept == (tmp_path / "timeline.svg").read_text(encoding="utf-8"), (
        "python -m scripts.drawings writes it anew"
    )
    assert run().text(90) in (docs / "flow" / "timelines.md").read_text(encoding="utf-8")


@settings(deadline=None)
@given(FLOWS)
def test_every_run_is_a_picture(flow) -> None:  # type: ignore[no-untyped-def]
    started = flow.start("x")
    try:
        started.result(10)
    except Exception:
        pass
    timeline = explain(started)
    ET.fromstring(timeline.svg())
    ET.fromstring(bars_of(timeline, 320, 8))
    assert timeline.status in timeline.text(100).splitlines()[0].replace("failed", "error")
