from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest
from hypothesis import given

from millrace import Loop, Pipeline, Step, Warp, step
from millrace.flow.drawing.diagrams import cells
from millrace.streaming import FlowBuildError, StepStarted
from tests.flow.drawing.examples import EXAMPLES, FLOWS, clean

SVG = "{http://www.w3.org/2000/svg}"


def paths_in(flow: Step[Any, Any]) -> list[str]:
    """The paths in the SVG, in its order."""
    root = ET.fromstring(flow.draw("svg"))
    assert root.tag == f"{SVG}svg"
    return [found for one in root.iter() if (found := one.get("data-path")) is not None]


def paths_of_events(flow: Step[Any, Any], x: Any) -> set[str]:
    """The paths of all steps that a run starts; whatever counts turns and items is `*`."""
    counting = set(counted(flow))
    found = set()
    for event in flow.stream(x):
        if isinstance(event, StepStarted):
            path: tuple[str, ...] = ()
            for part in event.path:
                path = (*path, "*" if path in counting else str(part))
            found.add("/".join(path))
    return found


def counted(flow: Step[Any, Any], where: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Where the parts of a path are numbers of turns or items: read from the drawing itself, by its stars."""
    return [
        tuple(path.split("/"))[:i]
        for path in paths_in(flow)
        for i, part in enumerate(path.split("/"))
        if part == "*"
    ]


@given(FLOWS)
def test_every_step_is_in_the_picture_once_at_the_path_of_its_events(flow: Step[Any, Any]) -> None:
    paths = paths_in(flow)
    assert len(paths) == len(set(paths))
    assert paths_of_events(flow, "x") <= set(paths)


@given(FLOWS)
def test_every_form_can_be_had_of_every_flow(flow: Step[Any, Any]) -> None:
    text, mermaid = flow.draw("text"), flow.draw()
    for name in set(re.findall(r"\bs\d+\b", " ".join(paths_in(flow)))):
        assert re.search(rf"\b{name}\b", text)
        assert re.search(rf"\b{name}\b", mermaid)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_fit_a_hundred_columns(name: str) -> None:
    text = EXAMPLES[name].draw("text")
    assert max(map(cells, text.splitlines())) <= 100
    assert text.endswith("\n")


def test_an_unknown_form() -> None:
    with pytest.raises(FlowBuildError, match=r"draw\('gif'\): use 'mermaid', 'text', 'svg', 'png'"):
        Pipeline(clean).draw("gif")  # type: ignore[call-overload]


def test_inside_of_its_block() -> None:
    with pytest.raises(FlowBuildError, match="cannot be drawn inside of the block"), Pipeline() as p:
        p.a = clean
        p.draw()


def test_turns_and_items_are_stars() -> None:
    assert paths_in(Loop(clean, count=2)) == ["*"]
    assert paths_in(Warp(clean)) == ["clean/*"]
    flow = Pipeline(Loop(Pipeline(clean, step(clean, name="b")), count=2, name="loop"), name="p")
    assert paths_in(flow) == ["loop", "loop/*", "loop/*/clean", "loop/*/b"]


def test_a_notebook_shows_the_picture() -> None:
    flow = Pipeline(clean)
    assert flow._repr_svg_() == flow.draw("svg")


def test_three_hundred_flows_in_each_other() -> None:
    flow: Pipeline[Any, Any] = Pipeline(clean, clean, name="p")
    for _ in range(299):
        flow = Pipeline(flow, clean, name="p")
    assert "more inside" in flow.draw("text")
    assert "more inside" in flow.draw()
    assert len(flow.draw("svg")) < 100_000
