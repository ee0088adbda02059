"""The diagram of a flow, lit up by the events of a run."""

from __future__ import annotations

import re
import time
import xml.etree.ElementTree as ET
from typing import Any

import pytest
from hypothesis import given, settings

from millrace import LocalModel, Loop, Parallel, Pipeline, Warp, step
from millrace.flow.functions import as_step
from millrace.launchers.web.flow_tabs import INVITATION, FlowView
from millrace.launchers.web.run_records import Record
from millrace.streaming import StepFinished, StepStarted
from tests.flow.drawing.examples import FLOWS, clean, rag, shout
from tests.flow.timelines.told import START, Told

FLOW = Pipeline(
    clean,
    Parallel(bm25=clean, dense=clean, name="notes"),
    Loop(clean, count=3, name="sharper"),
    step(shout, name="llm"),
    name="desk",
)


def record(told: Told) -> Record:
    made = Record("x", None, START)
    for event in told.events:
        made.take(event)
    return made


def states(flow: Any, told: Told) -> dict[str, str]:
    """How each place of the diagram stands."""
    html = FlowView(flow).html(record(told))
    ET.fromstring(html.replace(" data-live", ' data-live=""').replace(" data-alone", ' data-alone=""'))
    found = re.findall(r'data-path="([^"]*)" data-state="(\w+)"', html)
    return dict(found)


def line(flow: Any, told: Told | None = None) -> str:
    html = FlowView(flow).html(None if told is None else record(told))
    found = re.search(r'<p class="mr-line" role="status">.*?</span>(.*?)</p>', html)
    assert found is not None
    return found[1]


def test_without_a_run_nothing_is_lit() -> None:
    html = FlowView(FLOW).html()
    assert 'data-path="notes/bm25">' in html
    assert "data-live" not in html
    assert line(FLOW) == INVITATION


def test_steps_light_up_as_they_run() -> None:
    told = Told()
    assert set(states(FLOW, told).values()) == {"idle"}
    told.step(0, 1, "clean").say(1, StepStarted(), "notes").step(1, 2, "notes", "bm25")
    told.say(1, StepStarted(), "notes", "dense")
    assert states(FLOW, told) == {
        "clean": "done",
        "notes": "running",
        "notes/bm25": "done",
        "notes/dense": "running",
        "sharper": "idle",
        "sharper/*": "idle",
        "llm": "idle",
    }
    assert line(FLOW, told) == "At work: notes › dense"


def test_turns_count_for_their_loop() -> None:
    told = Told().say(0, StepStarted(), "sharper").step(0, 1, "sharper", 0).step(1, None, "sharper", 1)
    assert states(FLOW, told)["sharper/*"] == "running"
    html = FlowView(FLOW).html(record(told))
    assert "×2</text>" in html
    assert line(FLOW, told) == "At work: sharper"
    assert line(FLOW, told.step(1, None, "sharper", 2)) == "At work: sharper ×2"
    told.say(2, StepFinished(), "sharper", 1).say(2, StepFinished(), "sharper", 2)
    assert states(FLOW, told)["sharper/*"] == "done"


def test_a_failure_and_a_stop() -> None:
    told = Told().step(0, 1, "clean", error=ValueError("secret")).end(1, "error", error=ValueError("secret"))
    html = FlowView(FLOW).html(record(told))
    assert states(FLOW, told)["clean"] == "failed"
    assert "ValueError" in html
    assert "secret" not in html
    assert line(FLOW, told) == "Failed: ValueError · 1.00 s"
    stopped = Told().step(0, None, "llm").end(2, "cancelled", "stopped in the chat")
    assert states(FLOW, stopped)["llm"] == "stopped"
    assert line(FLOW, stopped) == "Stopped: stopped in the chat · 2.00 s"


def test_a_live_turn_is_asked_for_again_and_one_that_is_over_is_not() -> None:
    told = Told().step(0, None, "clean")
    assert " data-live" in FlowView(FLOW).html(record(told))
    assert " data-live" not in FlowView(FLOW).html(record(told.end(1)))


def test_a_branch_that_is_a_number_and_an_item_are_told_apart() -> None:
    flow = Parallel(Pipeline(clean, clean), Pipeline(Warp(clean, name="w")))
    view = FlowView(flow)
    assert view.resolve((0,)) == "0"
    assert view.resolve((1, "w", "clean", 7)) == "1/w/clean/*"
    assert view.resolve(("elsewhere",)) is None


def test_a_flow_of_one_step_is_lit_as_a_whole() -> None:
    view = FlowView(as_step(shout))
    html = view.html(record(Told().pieces(0, 1, 3)))
    assert 'data-state="running" data-alone>' in html


def test_waiting_for_a_place() -> None:
    view = FlowView(FLOW)
    assert "Waiting for a free place" in view.html(Record("x"))


def test_it_is_drawn_without_loading_a_model() -> None:
    assert 'data-path="llm"' in FlowView(Pipeline(clean, step(LocalModel("org/name"), name="llm"))).html()
    assert FlowView(rag()).html()


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "{{value}}", "${1 + 1}", "a\"b'c"])
def test_names_are_shown_and_never_run(name: str) -> None:
    flow = Pipeline(step(clean, name=name), shout)
    told = Told().step(0, 1, name).step(1, None, "shout")
    html = FlowView(flow).html(record(told))
    assert "<script" not in html
    assert "{{" not in html
    assert "${" not in html
    assert len(re.findall('data-state="done"', html)) == 1
    error = type(name, (Exception,), {})()
    html = FlowView(flow).html(record(Told().step(0, 1, name, error=error).end(1, "cancelled", name)))
    assert "<script" not in html
    assert "{{" not in html


@settings(deadline=None)
@given(FLOWS)
def test_every_step_of_a_run_is_found_in_the_diagram(flow: Any) -> None:
    run = flow.start("x")
    try:
        run.result(10)
    except Exception:
        pass
    view = FlowView(flow)
    started = [event.path for event in run.events() if isinstance(event, StepStarted)]
    assert all(view.resolve(path) is not None for path in started)


def test_drawing_a_state_takes_little_time() -> None:
    flow = Pipeline(*[step(clean, name=f"step_{i}") for i in range(60)])
    told = Told()
    for i in range(59):
        told.step(i, i + 1, f"step_{i}")
    view, made = FlowView(flow), record(told)
    best = 9.9
    for _ in range(5):
        start = time.thread_time()
        view.html(made)
        best = min(best, time.thread_time() - start)
    assert best < 0.02
