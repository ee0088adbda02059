"""The tabs beside the chat in a browser: what lights up, what opens, and that nothing is asked for unseen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from millrace import Parallel, Pipeline, step
from millrace.launchers.owners import Owner
from millrace.launchers.web import views
from millrace.launchers.web.flow_tabs import FlowView
from millrace.launchers.web.run_records import Record, Shelves
from millrace.launchers.web.run_tabs import RunsView
from millrace.streaming import Data, StepFinished
from tests.flow.drawing.examples import clean, shout
from tests.flow.timelines.told import Told, rag
from tests.support.browser import Visit
from tests.support.servers import Served, serving

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

FLOW = Pipeline(clean, Parallel(bm25=clean, dense=clean, name="notes"), step(shout, name="llm"), name="desk")
EVIL = "<img src=x onerror=\"document.title='run'\"> {{value}} ${document.title='run'}"


@dataclass
class Scene:
    """A page with both tabs, what they show, and how often each has asked."""

    served: Served
    shelves: Shelves = field(default_factory=Shelves)
    owner: Owner = field(default_factory=lambda: Owner("alice"))
    record: Record | None = None
    asked: dict[str, int] = field(default_factory=lambda: {"flow": 0, "runs": 0})

    def begin(self, title: str, told: Told) -> Record:
        record = self.shelves.begin(self.owner, title, "desk")
        for event in told.events:
            record.take(event)
        self.record = record
        return record


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Served, dict[str, Scene]]]:
    import gradio
    from fastapi import FastAPI

    scenes: dict[str, Scene] = {}

    def finding(kind: str) -> Callable[[gradio.Request], views.Looker]:
        def find(request: gradio.Request) -> views.Looker:
            scene = scenes["now"]
            scene.asked[kind] += 1
            return views.Looker(scene.owner, scene.record)

        return find

    class Now(RunsView):
        @property
        def shelves(self) -> Shelves:  # type: ignore[override]
            return scenes["now"].shelves

        @shelves.setter
        def shelves(self, value: Shelves) -> None:
            pass

    with gradio.Blocks(analytics_enabled=False) as blocks, gradio.Tabs():
        with gradio.Tab("Flow"):
            views.build_flow(FlowView(FLOW), finding("flow"))
        with gradio.Tab("Runs"):
            views.build_runs(Now(Shelves()), finding("runs"))
    app: Any = FastAPI()
    css = Path(views.__file__).parent / "views.css"
    gradio.mount_gradio_app(app, blocks, "/", css_paths=[css], ssr_mode=False, footer_links=[])
    with serving(app) as server:
        yield server, scenes


@pytest.fixture
def scene(served: tuple[Served, dict[str, Scene]]) -> Scene:
    server, scenes = served
    scenes["now"] = Scene(server)
    return scenes["now"]


def opened(page: Page, scene: Scene, tab: str) -> Page:
    page.goto(f"{scene.served.url}/")
    page.get_by_role("tab", name=tab).click()
    return page


def take(record: Record, made: Told) -> None:
    for event in made.events:
        record.take(event)


def test_steps_light_up_as_they_run(visit: Visit, scene: Scene) -> None:
    page = opened(visit.page, scene, "Flow")
    page.get_by_text("Ask something in the chat").wait_for()
    made = Told().step(0, 1, "clean").step(1, None, "notes").step(1, None, "notes", "dense")
    record = scene.begin("x", made)
    page.locator('[data-path="clean"][data-state="done"]').wait_for(state="attached")
    page.locator('[data-path="notes/dense"][data-state="running"]').wait_for(state="attached")
    page.get_by_text("At work: notes › dense").wait_for()
    take(record, made.say(2, StepFinished(), "notes", "dense").end(3))
    page.locator('[data-path="notes/dense"][data-state="done"]').wait_for(state="attached")
    page.get_by_text("Done · 3.00 s").wait_for()
    visit.check()


def test_a_run_opens_at_a_click_and_by_keyboard(visit: Visit, scene: Scene) -> None:
    scene.begin("What is a Warp?", rag())
    scene.begin(EVIL, Told().step(0, 1, "clean").say(1, Data(EVIL), "clean").end(1, "cancelled", EVIL))
    page = opened(visit.page, scene, "Runs")
    page.get_by_role("button", name="What is a Warp?").click()
    opened_run = page.get_by_role("region", name="The run")
    opened_run.get_by_text("step started").first.wait_for()
    opened_run.locator('[data-path="notes/bm25"]').wait_for()
    page.get_by_role("button", name="<img").focus()
    page.keyboard.press("Enter")
    opened_run.get_by_role("heading", name="<img").wait_for()
    assert EVIL in opened_run.inner_text()
    assert "{{value}}" in page.locator(".mr-runs").inner_text()
    assert page.title() != "run"
    visit.check()


def test_what_goes_on_is_followed_and_the_focus_stays(visit: Visit, scene: Scene) -> None:
    made = Told().step(0, None, "llm").pieces(0, 1, 3, "llm")
    record = scene.begin("goes on", made)
    page = opened(visit.page, scene, "Runs")
    page.get_by_role("button", name="goes on").focus()
    page.keyboard.press("Enter")
    page.get_by_text("5 events").wait_for()
    unseen, asked, start = scene.asked["flow"], scene.asked["runs"], time.perf_counter()
    take(record, made.pieces(1, 2, 3, "llm"))
    page.get_by_text("8 events").wait_for()
    take(record, made.say(3, StepFinished(), "llm").end(3, reason="length"))
    page.get_by_text("done (length)").first.wait_for()
    page.locator('.mr-run [data-state="done"]').wait_for()
    assert page.evaluate("document.activeElement.dataset.run") == record.key
    assert scene.asked["flow"] == unseen, "a tab that nobody looks at asks for nothing"
    most = 2 * (time.perf_counter() - start) / 0.4 + 2  # the list and the run
    assert scene.asked["runs"] - asked <= most
    visit.check()


def test_the_drawings_follow_the_page_and_not_the_system(visit: Visit, scene: Scene) -> None:
    scene.begin("x", rag())
    visit.page.emulate_media(color_scheme="light")
    visit.page.goto(f"{scene.served.url}/?__theme=dark")
    visit.page.get_by_role("tab", name="Runs").click()
    visit.page.locator(".mr-run rect.busy").first.wait_for()
    color = "getComputedStyle(document.querySelector('.mr-run rect.busy')).fill"
    assert visit.page.evaluate(color) == "rgb(125, 135, 151)"
