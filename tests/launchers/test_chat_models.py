"""Models behind the web chat in a real browser: the demo, and an engine whose tokens come one by one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from millrace import Limits, LocalModel, Pipeline, Service
from millrace.launchers.demo import flow as demo
from millrace.modules.demo.topics import knowledge
from tests.support.browser import Visit, visiting
from tests.support.chat_pages import ChatPage
from tests.support.gated import Forwards, Gate, gated_engine
from tests.support.leaks import eventually
from tests.support.servers import serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def demo_url() -> Iterator[str]:
    with serving(Service(demo, chat=True).app) as served:
        yield served.url


class TestDemo:
    def test_it_gives_the_trained_answer_and_declines_the_rest(self, visit: Visit, demo_url: str) -> None:
        from playwright.sync_api import expect

        chat = ChatPage(visit.page, demo_url)
        warp = next(topic for topic in knowledge().topics if topic.name == "Warp")
        chat.ask("What is a Warp?")
        expect(chat.answers).to_have_text(warp.answer, timeout=60_000)
        expect(chat.notes).to_contain_text("tokens · first after")
        chat.ask("What is the capital of France?")
        expect(chat.answers.last).to_contain_text(knowledge().decline.partition("{")[0].strip())
        chat.wait_ready()
        visit.check()

    def test_it_greets_in_chinese_too(self, browser: Browser, demo_url: str) -> None:
        from playwright.sync_api import expect

        with visiting(browser, locale="zh-CN") as visit:
            chat = ChatPage(visit.page, demo_url)
            expect(chat.page.locator(".mr-welcome p")).to_contain_text("微型语言模型")
            visit.check()

    def test_a_click_on_an_example_sends_it(self, visit: Visit, demo_url: str) -> None:
        from playwright.sync_api import expect

        chat = ChatPage(visit.page, demo_url)
        expect(chat.page.locator("#mr-chat .example")).to_have_count(4)
        chat.page.get_by_text("What is a Session?").click()
        expect(chat.questions).to_have_text("What is a Session?")
        chat.wait_ready(60)
        session = next(topic for topic in knowledge().topics if topic.name == "Session")
        expect(chat.answers).to_have_text(session.answer)
        visit.check()


class TestEngine:
    """The engine behind the chat, its tokens one by one."""

    @pytest.mark.parametrize("leave", ["stop", "close", "reload"])
    def test_it_makes_at_most_one_token_after_the_stop(self, leave: str, browser: Browser) -> None:
        from playwright.sync_api import expect

        gate = Gate()
        engine = gated_engine(gate, limits=Limits(running=2))
        engine.wait_ready(60)
        app = Service(Pipeline(LocalModel(engine)), chat=True).app
        with serving(app) as served, visiting(browser) as visit:
            chat = ChatPage(visit.page, served.url)
            chat.ask("Tell me about the river")
            for i in range(5):
                chat.until(lambda i=i: gate.forwards.entered > i)
                if i < 4:
                    gate.open(1)
            expect(chat.answers).not_to_have_text("")
            if leave == "stop":
                chat.stop()
                expect(chat.status).to_have_text("stopping")
            elif leave == "close":
                visit.page.close()
            else:
                visit.page.reload()
            eventually(lambda: app.state.chat.live[0].state == "stopping")
            assert gate.forwards.entered == 5
            gate.open_all()
            eventually(lambda: app.state.chat.live == [])
            eventually(lambda: engine.status().running == engine.status().waiting == 0)
            assert engine.status().blocks_used == 0
            assert gate.forwards == Forwards(5, 5)
