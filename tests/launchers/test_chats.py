"""The web chat in a real browser, on a real service."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from millrace import Limits, Message, Service, step
from millrace.launchers.web.tabs import GRACE
from millrace.streaming import Overloaded, Progress, ReasoningDelta, Usage
from tests.support.browser import Visit, visiting
from tests.support.chat_pages import ChatPage, Scripted
from tests.support.servers import Served, millrace_process, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.browser, pytest.mark.slow]

LEAVE = 3.0
"""Seconds in which a run must have ended whose page has gone; gradio is told within a tenth of that."""


class TestAnswers:
    def test_they_stream(self, chat: ChatPage, scripted: Scripted) -> None:
        from playwright.sync_api import expect

        work = chat.begin("hello", scripted)
        seen = []
        for i in range(5):
            work.say(f"piece{i} ")
            expect(chat.answers).to_contain_text(f"piece{i}")
            seen.append(chat.answers.inner_text())
        assert not work.over.is_set()
        assert sorted(set(seen), key=len) == seen
        work.finish()
        chat.wait_ready()
        expect(chat.questions).to_have_text("hello")
        expect(chat.answers).to_have_text("piece0 piece1 piece2 piece3 piece4")

    def test_markdown_code_and_formulas_are_drawn(self, chat: ChatPage, scripted: Scripted) -> None:
        work = chat.begin("draw", scripted)
        work.say("**bold**\n\n```python\nx = 1\n```\n\n$$a^2 < b$$ and \\(c\\) for $5 or $6")
        work.finish()
        chat.wait_ready()
        assert chat.answers.locator("strong").inner_text() == "bold"
        assert "x = 1" in chat.answers.locator("pre code.language-python").inner_text()
        assert chat.answers.locator(".katex").count() == 2
        assert "$5 or $6" in chat.answers.inner_text()

    def test_parts_stand_above_in_order_and_the_note_below(self, chat: ChatPage, scripted: Scripted) -> None:
        from playwright.sync_api import expect

        work = chat.begin("think", scripted)
        work.say(Progress(0.4, "loading the model"))
        expect(chat.status).to_have_text("loading the model 40%")
        work.say(ReasoningDelta("I should "), ReasoningDelta("be brief."))
        expect(chat.parts).to_contain_text("I should be brief.")
        work.say("Short.", Usage(7, 3))
        work.finish()
        chat.wait_ready()
        expect(chat.parts.locator(".title")).to_contain_text("Reasoning")
        expect(chat.notes).to_contain_text("3 tokens · first after ")
        rows = chat.page.locator("#mr-chat .message-row").all_inner_texts()
        assert [
            next(i for i, row in enumerate(rows) if word in row) for word in ("think", "Reas", "Sho", "tok")
        ] == [
            0,
            1,
            2,
            3,
        ]

    def test_the_next_turn_sees_the_earlier_ones(self, chat: ChatPage, scripted: Scripted) -> None:
        work = chat.begin("one", scripted)
        work.say("answer")
        work.finish()
        chat.wait_ready()
        second = chat.begin("two", scripted)
        second.finish()
        chat.wait_ready()
        assert second.history == (Message.user("one"), Message.assistant("answer"))
        assert second.session == work.session

    def test_typing_ahead_is_left_alone_and_not_sent(self, chat: ChatPage, scripted: Scripted) -> None:
        from playwright.sync_api import expect

        work = chat.begin("one", scripted)
        chat.box.fill("my next question")
        with chat.page.expect_response("**/queue/join*"):
            chat.box.press("Enter")
        work.say("answer")
        expect(chat.answers).to_have_text("answer")
        work.finish()
        chat.wait_ready()
        assert chat.box.input_value().strip() == "my next question"
        expect(chat.questions).to_have_count(1)

    def test_clear_begins_anew(self, chat: ChatPage, scripted: Scripted) -> None:
        from playwright.sync_api import expect

        work = chat.begin("one", scripted)
        work.say("answer")
        chat.page.get_by_label("Clear").click()
        chat.until(work.over.is_set, LEAVE)
        expect(chat.questions).to_have_count(0)
        chat.wait_ready()
        second = chat.begin("two", scripted)
        second.finish()
        chat.wait_ready()
        assert (second.history, second.session == work.session) == ((), False)


class TestStops:
    def test_stop_ends_the_flow_and_keeps_what_there_was(self, chat: ChatPage, scripted: Scripted) -> None:
        from playwright.sync_api import expect

        work = chat.begin("count", scripted)
        expect(chat.answers).to_contain_text("20 ")
        chat.stop()
        chat.until(work.over.is_set, LEAVE)
        assert work.after_cut <= 2
        chat.wait_ready()
        expect(chat.notes).to_contain_text("stopped")
        kept = chat.answers.inner_text().split()
        assert kept == [str(i + 1) for i in range(len(kept))]
        second = chat.begin("and now?", scripted)
        second.finish()
        chat.wait_ready()
        question, partial = second.history
        assert question == Message.user("count")
        assert partial.content.split() == kept
        assert partial.marks == {"status": "stopped"}

    def test_stop_ends_a_flow_that_only_waits(self, chat: ChatPage, scripted: Scripted) -> None:
        from playwright.sync_api import expect

        work = chat.begin("wait", scripted)
        chat.stop()
        chat.until(work.over.is_set, LEAVE)
        chat.wait_ready()
        expect(chat.notes).to_have_text("stopped")

    @pytest.mark.parametrize("question", ["count", "wait"])
    @pytest.mark.parametrize("leave", ["close", "reload", "navigate"])
    def test_a_page_that_goes_ends_the_flow(
        self, question: str, leave: str, browser: Browser, served: Served, scripted: Scripted
    ) -> None:
        with visiting(browser) as visit:
            chat = ChatPage(visit.page, served.url)
            work = chat.begin(question, scripted)
            if question == "count":
                chat.until(lambda: work.made > 10)
            if leave == "close":
                visit.page.close()
            elif leave == "reload":
                visit.page.reload()
            else:
                visit.page.goto("about:blank")
            assert work.over.wait(LEAVE)
            assert work.after_cut <= 2


class TestTwoBrowsers:
    def test_they_run_side_by_side_and_see_nothing_of_each_other(
        self, browser: Browser, served: Served, scripted: Scripted
    ) -> None:
        from playwright.sync_api import expect

        with visiting(browser) as one, visiting(browser) as other:
            first, second = ChatPage(one.page, served.url), ChatPage(other.page, served.url)
            mine = first.begin("mine", scripted)
            mine.say("my answer")
            expect(first.answers).to_have_text("my answer")
            yours = second.begin("yours", scripted)
            yours.say("your answer")
            expect(second.answers).to_have_text("your answer")
            assert not mine.over.is_set()
            assert mine.session != yours.session
            mine.finish()
            first.wait_ready()
            yours.finish()
            second.wait_ready()
            assert "your" not in first.page.inner_text("body")
            assert "my" not in second.page.inner_text("body")
            again = first.begin("again", scripted)
            again.finish()
            assert [message.content for message in again.history] == ["mine", "my answer"]
            one.check()
            other.check()

    def test_stop_in_one_leaves_the_other_alone(
        self, browser: Browser, served: Served, scripted: Scripted
    ) -> None:
        with visiting(browser) as one, visiting(browser) as other:
            first, second = ChatPage(one.page, served.url), ChatPage(other.page, served.url)
            mine = first.begin("wait", scripted)
            yours = second.begin("wait", scripted)
            first.stop()
            first.until(mine.over.is_set, LEAVE)
            assert not yours.over.is_set()
            yours.finish()
            second.wait_ready()


HOSTILE = (
    '<script>window.pwned = 1</script> <img src="x" onerror="window.pwned = 2"> '
    "<iframe srcdoc='<script>parent.pwned = 3</script>'></iframe> [click](javascript:window.pwned=4) "
    "![picture](http://example.com/track.png) <a href='http://example.com'>x</a>"
)


class TestHostileText:
    def test_it_is_shown_and_never_run(self, chat: ChatPage, scripted: Scripted) -> None:
        from playwright.sync_api import expect

        work = chat.begin(HOSTILE, scripted)
        work.say(ReasoningDelta(HOSTILE), HOSTILE)
        work.finish()
        chat.wait_ready()
        expect(chat.answers).to_contain_text("<script>window.pwned = 1</script>")
        for shown in (chat.questions, chat.answers):
            assert "<script>window.pwned = 1</script>" in shown.inner_text()
            assert 'onerror="window.pwned = 2"' in shown.inner_text()
            assert shown.locator("img, iframe, script").count() == 0
        assert chat.page.locator("#mr-chat a[href^='javascript']").count() == 0
        assert chat.page.evaluate("window.pwned") is None

    def test_the_page_may_load_nothing_from_elsewhere(self, visit: Visit, served: Served) -> None:
        chat = ChatPage(visit.page, served.url)
        chat.page.evaluate("new Image().src = 'http://example.com/track.png'")
        chat.page.evaluate("fetch('http://example.com/').catch(() => 0)")
        chat.until(lambda: len(visit.console_errors) >= 2)
        assert all("Content Security Policy" in error for error in visit.console_errors)

    def test_a_program_without_a_page_is_not_served_for_long(
        self, chat: ChatPage, scripted: Scripted
    ) -> None:
        direct = chat.page.request.post(f"{chat.url}/gradio_api/call/answer", data={"data": ["wait"]})
        assert direct.status == 404
        question = {"data": ["wait"], "fn_index": 0, "session_hash": "nobody"}
        joined = chat.page.request.post(f"{chat.url}/gradio_api/queue/join", data=question)
        assert joined.status == 200
        work = chat.next(scripted)
        chat.until(work.over.is_set, GRACE + LEAVE)

    def test_uploads_are_closed(self, chat: ChatPage) -> None:
        file = {"name": "x.txt", "mimeType": "text/plain", "buffer": b"x"}
        response = chat.page.request.post(f"{chat.url}/gradio_api/upload", multipart={"files": file})
        assert response.status == 404


class TestFailures:
    def test_they_say_what_to_do_and_show_no_traceback(self, chat: ChatPage, scripted: Scripted) -> None:
        from playwright.sync_api import expect

        work = chat.begin("fail", scripted)
        work.say("half an ", ValueError("password"))
        chat.wait_ready()
        expect(chat.failures).to_have_text("The flow failed with ValueError. The server's log says more.")
        expect(chat.answers).to_have_text("half an")
        assert "password" not in chat.page.inner_text("body")

    def test_a_busy_model_is_told_as_such(self, chat: ChatPage, scripted: Scripted) -> None:
        from playwright.sync_api import expect

        chat.begin("busy", scripted).say(Overloaded("16 run and 64 wait", 3))
        chat.wait_ready()
        expect(chat.failures).to_have_text("Busy right now. Try again in 3 seconds.")

    def test_a_busy_service_says_so_and_lets_nobody_wait_for_it(self, browser: Browser) -> None:
        from playwright.sync_api import expect

        scripted = Scripted()
        service = Service(step(scripted), chat=True, limits=Limits(running=1, waiting=1))
        pages = visiting(browser), visiting(browser), visiting(browser)
        with serving(service.app) as served, pages[0] as one, pages[1] as two, pages[2] as three:
            first, second = ChatPage(one.page, served.url), ChatPage(two.page, served.url)
            third = ChatPage(three.page, served.url)
            work = first.begin("one", scripted)
            second.ask("two")
            expect(second.status).to_have_text("waiting for a free place, 1st in line")
            third.ask("three")
            expect(third.failures).to_contain_text("Busy right now. Try again in ")
            work.finish()
            last = second.next(scripted)
            assert last.question == "two"
            last.say("your turn")
            expect(second.answers).to_have_text("your turn")
            last.finish()
            second.wait_ready()


class TestLook:
    @pytest.mark.parametrize(("width", "height"), [(360, 640), (1280, 800)])
    def test_it_fits(
        self, width: int, height: int, browser: Browser, served: Served, scripted: Scripted
    ) -> None:
        with visiting(browser, width, height) as visit:
            chat = ChatPage(visit.page, served.url)
            work = chat.begin("wide " * 30, scripted)
            work.say("`" + "x" * 300 + "`\n\n" + "| a " * 30 + "|\n" + "|---" * 30 + "|\n" + "line\n\n" * 40)
            work.finish()
            chat.wait_ready()
            sizes = "[document.scrollingElement.scrollWidth, document.scrollingElement.scrollHeight]"
            assert chat.page.evaluate(sizes) == [width, height]
            place = chat.box.bounding_box()
            assert place is not None
            assert place["y"] + place["height"] <= height
            assert chat.page.title() == "scripted"
            assert chat.page.locator("footer:visible").count() == 0


WAITING = """
import asyncio
import pathlib

async def flow(question):
    yield "begun "
    while not pathlib.Path("go").exists():
        await asyncio.sleep(0.01)
    yield "and ended"
"""


class TestShutdown:
    def test_an_open_page_holds_nobody_up_and_an_answer_is_finished(
        self, browser: Browser, tmp_path: Path
    ) -> None:
        from playwright.sync_api import expect

        (tmp_path / "app.py").write_text(WAITING, encoding="utf-8")
        with millrace_process("chat", "app:flow", cwd=tmp_path) as launched:
            with visiting(browser) as one, visiting(browser) as two:
                ChatPage(one.page, launched.url)
                busy = ChatPage(two.page, launched.url)
                busy.ask("x")
                expect(busy.answers).to_have_text("begun")
                launched.process.terminate()
                (tmp_path / "go").touch()
                expect(busy.answers).to_have_text("begun and ended")
                busy.until(lambda: launched.process.poll() is not None, 5)
            assert "Traceback" not in launched.output()
