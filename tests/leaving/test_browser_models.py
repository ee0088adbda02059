"""Leaving a real model in the browser by everything that a page has, while it reads a long prompt, writes, or waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from fastapi import FastAPI

from millrace import Limits, LocalModel, Message, Pipeline, Sampling
from millrace.launchers.admission import Admission
from millrace.launchers.web.pages import build, mount
from millrace.launchers.web.tabs import Tabs
from millrace.launchers.web.welcomes import Welcome
from millrace.modules.local import Engine
from millrace.streaming import current_run
from millrace.streaming.runs import LIVE, Run
from tests.support.chat_pages import ChatPage
from tests.support.gated import Gate, gated_engine
from tests.support.leaks import eventually
from tests.support.servers import serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Route

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SHORT = "the mill"
LONG = "snow covers every road " * 600
WAIT = "wait for ever"
MOST = 300
"""Tokens of a whole answer."""


@dataclass
class Scene:
    """A chat on a model whose forwards wait at the gate; `context` is one browser, and lasts over all tests."""

    gate: Gate
    engine: Engine
    context: BrowserContext = field(init=False)
    url: str = field(init=False)
    histories: list[tuple[Message, ...]] = field(default_factory=list)
    chat: ChatPage | None = None

    async def prepare(self, question: str) -> str:
        run = current_run()
        assert run is not None
        self.histories.append(run.history)
        if question == WAIT:
            await asyncio.Event().wait()
        return question

    def page(self) -> ChatPage:
        """An open page with an empty chat, on an engine that is at rest behind a closed gate."""
        if self.held() != (0, 0, 0) and self.chat is not None:  # a test before this one has failed
            self.chat.page.close()
            self.gate.open_all()
            eventually(lambda: self.held() == (0, 0, 0) and not LIVE)
        self.gate.close()
        assert self.held() == (0, 0, 0)
        self.histories.clear()
        if self.chat is None or self.chat.page.is_closed() or not self.chat.page.url.startswith(self.url):
            self.chat = ChatPage(self.context.new_page(), self.url)
        elif self.chat.questions.count():
            self.chat.button("New chat").click()
            self.chat.until(lambda: self.chat is None or not self.chat.questions.count())
        return self.chat

    def held(self) -> tuple[int, int, int]:
        """Requests that run and that wait, and blocks that are not free."""
        now = self.engine.status()
        return now.running, now.waiting, now.blocks_used

    def run(self) -> Run:
        """The one that goes on."""
        (run,) = (run for run in list(LIVE) if run.parent is None)
        return run

    def let_go(self, chat: ChatPage) -> None:
        """Opens the gate: now all must come to rest, with all blocks free."""
        self.gate.open_all()
        chat.until(lambda: self.held() == (0, 0, 0) and not LIVE)


@pytest.fixture(scope="module")
def scene(browser: Browser) -> Iterator[Scene]:
    gate = Gate()
    engine = gated_engine(gate, limits=Limits(running=2, waiting=4), context=4096)
    engine.wait_ready(60)
    scene = Scene(gate, engine)
    model = LocalModel(engine, sampling=Sampling(temperature=0.0, max_tokens=MOST))
    tabs = Tabs(Pipeline(scene.prepare, model), Admission(Limits(running=2, waiting=4)))
    welcome = Welcome("the mill", examples=(SHORT, WAIT))
    app = FastAPI()
    mount(app, build(tabs, welcome), tabs, "/", welcome.title)
    with serving(app) as served, browser.new_context() as context:
        scene.url, scene.context = served.url, context
        yield scene
    engine.close()


# ---------------------------------------------------------------- where the work stands


def step(scene: Scene, chat: ChatPage, many: int = 1) -> None:
    """Lets so many forwards through, until the next one stands at the gate."""
    chat.until(scene.gate.is_reached)
    left = scene.gate.forwards.left
    scene.gate.open(many)
    chat.until(lambda: scene.gate.forwards.left == left + many and scene.gate.is_reached())


def decoding(scene: Scene, chat: ChatPage) -> None:
    """It has said three words, which the page shows, and the forward of the fourth stands at the gate."""
    before = scene.engine.status().tokens_produced
    chat.ask(SHORT)
    while scene.engine.status().tokens_produced < before + 3:
        step(scene, chat)
    chat.until(lambda: chat.answers.count() == 1 and chat.answers.inner_text().count(" ") >= 1)


def reading(scene: Scene, chat: ChatPage) -> None:
    """Two parts of its prompt have been read, and the third one stands at the gate, with more to come."""
    before = scene.engine.status().tokens_read
    chat.ask(LONG)
    step(scene, chat, 2)
    assert 0 < scene.engine.status().tokens_read - before < 1500


def waiting(scene: Scene, chat: ChatPage) -> None:
    """A step before the model waits, for ever."""
    chat.ask(WAIT)
    chat.until(lambda: scene.histories)


# ---------------------------------------------------------------- ways


def retry(chat: ChatPage) -> None:
    chat.button("Retry").click()


def edit(chat: ChatPage) -> None:
    chat.questions.first.hover()
    chat.page.get_by_role("button", name="Edit").first.click()
    chat.page.locator("#mr-chat textarea").fill(WAIT)
    chat.page.get_by_role("button", name="Submit").click()


def clear(chat: ChatPage) -> None:
    chat.page.get_by_label("Clear").click()


def away(chat: ChatPage) -> None:
    chat.page.goto("about:blank")


def stop(chat: ChatPage) -> None:
    chat.stop()


def reload(chat: ChatPage) -> None:
    chat.page.reload()


def close(chat: ChatPage) -> None:
    chat.page.close()


KINDS: tuple[Callable[[Scene, ChatPage], None], ...] = (decoding, reading, waiting)
WAYS: tuple[Callable[[ChatPage], None], ...] = (retry, edit, clear)
LEAVING: tuple[Callable[[ChatPage], None], ...] = (stop, reload, close, away)
"""Ways that test_browser.py has over every kind of step, models included, but for one that reads a later part."""


@pytest.mark.parametrize(
    ("kind", "way"),
    [*((kind, way) for kind in KINDS for way in WAYS), *((reading, way) for way in LEAVING)],
)
def test_the_model_stops_and_its_blocks_return(
    kind: Callable[[Scene, ChatPage], None], way: Callable[[ChatPage], None], scene: Scene
) -> None:
    chat = scene.page()
    kind(scene, chat)
    run, at_work = scene.run(), kind is not waiting
    assert (scene.held()[2] > 0) == at_work
    way(chat)
    if way in (away, close):
        chat = scene.chat = ChatPage(scene.context.new_page(), scene.url)
    chat.until(lambda: run.cut is not None)
    before = scene.engine.status()
    if at_work:
        scene.gate.open(1)  # the forward that is there; whatever comes next stands at the gate
    chat.until(lambda: run.over)
    if way in (retry, edit):
        chat.until(lambda: len(scene.histories) == 2)
        assert scene.histories == [(), ()]
        if way is retry and at_work:
            chat.until(scene.gate.is_reached)
        after = scene.run()
        chat.stop()
        chat.until(lambda: after.cut is not None)
    now = scene.engine.status()
    assert now.tokens_produced - before.tokens_produced <= 2
    assert now.tokens_read - before.tokens_read <= 512
    assert run.usage.completion_tokens < MOST / 2
    scene.let_go(chat)


@pytest.mark.parametrize("way", [stop, away])
def test_what_it_had_said_stays_marked_and_is_in_the_next_history(
    way: Callable[[ChatPage], None], scene: Scene
) -> None:
    from playwright.sync_api import expect

    chat = scene.page()
    decoding(scene, chat)
    run = scene.run()
    way(chat)
    chat.until(lambda: run.cut is not None)
    before = scene.engine.status().tokens_produced
    scene.let_go(chat)
    assert scene.engine.status().tokens_produced - before <= 2
    if way is away:
        chat.page.go_back()
    expect(chat.notes).to_contain_text("stopped")
    chat.wait_ready()
    chat.ask(WAIT)
    chat.until(lambda: len(scene.histories) == 2)
    question, partial = scene.histories[1]
    assert (question, partial.marks) == (Message.user(SHORT), {"status": "stopped"})
    assert partial.content.strip() == chat.answers.inner_text()
    assert 1 <= len(partial.content.split()) <= 5
    chat.stop()
    scene.let_go(chat)


def test_an_example_that_is_clicked_meanwhile_is_asked_instead(scene: Scene) -> None:
    from playwright.sync_api import expect

    chat, held = scene.page(), list["Route"]()
    # The page does not hear of the answer, and goes on showing its examples.
    chat.page.route("**/queue/data*", lambda route: held.append(route))
    reading(scene, chat)
    run, before = scene.run(), scene.engine.status()
    chat.page.get_by_label(f"Select example 2: {WAIT}").click()
    chat.until(lambda: run.cut is not None)
    for route in held:
        route.continue_()
    chat.page.unroute("**/queue/data*")
    scene.gate.open(1)
    chat.until(lambda: len(scene.histories) == 2 and scene.held() == (0, 0, 0))
    now = scene.engine.status()
    assert now.tokens_produced == before.tokens_produced
    assert now.tokens_read - before.tokens_read <= 512
    expect(chat.questions).to_have_count(2)
    expect(chat.questions.last).to_have_text(WAIT)
    expect(chat.notes).to_have_text("stopped")
    chat.stop()
    scene.let_go(chat)
