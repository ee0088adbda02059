"""The chat's page in a real browser: asking anew, the list at the side, reload and restart, several tabs."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from millrace import Limits, Message, Service, step
from millrace.streaming import TextDelta, attach
from tests.support.browser import visiting
from tests.support.chat_pages import ChatPage, Scripted, Work
from tests.support.leaks import eventually
from tests.support.servers import Served, millrace_process, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.browser, pytest.mark.slow]

LEAVE = 3.0

FOCUSED = (
    "(e => e.getAttribute('aria-label') || e.closest('label')?.innerText || e.innerText)"
    "(document.activeElement)"
)
"""What a screen reader calls that which has the focus."""


def say(chat: ChatPage, scripted: Scripted, question: str, answer: str) -> Work:
    """A whole turn."""
    work = chat.begin(question, scripted)
    work.say(answer)
    work.finish()
    chat.wait_ready()
    return work


class TestAskingAnew:
    def test_retry_while_answering_stops_and_asks_again(self, chat: ChatPage, scripted: Scripted) -> None:
        from playwright.sync_api import expect

        work = chat.begin("count", scripted)
        expect(chat.answers).to_contain_text("20 ")
        chat.button("Retry").click()
        chat.until(work.over.is_set, LEAVE)
        assert work.after_cut <= 2
        second = chat.next(scripted)
        assert (second.question, second.history) == ("count", ())
        expect(chat.questions).to_have_count(1)
        chat.stop()
        chat.until(second.over.is_set, LEAVE)
        chat.wait_ready()
        expect(chat.notes).to_contain_text("stopped")

    def test_an_edited_question_is_asked_in_place_of_the_old_one(
        self, chat: ChatPage, scripted: Scripted
    ) -> None:
        from playwright.sync_api import expect

        say(chat, scripted, "zero", "nothing")
        say(chat, scripted, "is 1 < 2 & <b>?", "yes")
        say(chat, scripted, "more", "no")
        chat.questions.nth(1).hover()
        chat.page.get_by_role("button", name="Edit").nth(1).click()
        area = chat.page.locator("#mr-chat textarea")
        area.focus()
        expect(area).to_have_value("is 1 < 2 & <b>?")
        area.fill("is 2 < 1 & <i>?")
        chat.page.get_by_role("button", name="Submit").click()
        work = chat.next(scripted)
        assert work.question == "is 2 < 1 & <i>?"
        assert [message.content for message in work.history] == ["zero", "nothing"]
        work.say("certainly not")
        work.finish()
        chat.wait_ready()
        expect(chat.questions).to_have_text(["zero", "is 2 < 1 & <i>?"])
        expect(chat.answers.last).to_have_text("certainly not")

    def test_undo_puts_the_question_back_into_the_box(self, chat: ChatPage, scripted: Scripted) -> None:
        from playwright.sync_api import expect

        say(chat, scripted, "first", "one")
        work = chat.begin("wait", scripted)
        chat.button("Undo").click()
        chat.until(work.over.is_set, LEAVE)
        expect(chat.questions).to_have_text(["first"])
        expect(chat.box).to_have_value("wait")
        chat.wait_ready()
        chat.button("Undo").click()
        expect(chat.questions).to_have_count(0)
        expect(chat.button("Undo")).to_be_hidden()


class TestList:
    def test_conversations_are_titled_opened_renamed_found_and_deleted(
        self, chat: ChatPage, scripted: Scripted
    ) -> None:
        from playwright.sync_api import expect

        say(chat, scripted, "What is a river?", "Flowing water.")
        chat.button("New chat").click()
        expect(chat.questions).to_have_count(0)
        say(chat, scripted, "What is a mill?", "A wheel in it.")
        expect(chat.listed).to_have_text(["What is a mill?", "What is a river?"])
        chat.listed.nth(1).click()
        expect(chat.answers).to_have_text("Flowing water.")
        expect(chat.page.locator("#mr-list [aria-current]")).to_have_text("What is a river?")
        chat.menu("What is a river?", "Rename")
        title = chat.page.get_by_label("Title")
        title.fill("<b>Rivers</b> ${1+1} {{x}}")
        title.press("Enter")
        expect(chat.listed).to_have_text(["What is a mill?", "<b>Rivers</b> ${1+1} {{x}}"])
        chat.page.get_by_label("Search conversations").fill("wheel")
        expect(chat.listed).to_have_text(["What is a mill?"])
        chat.page.get_by_label("Search conversations").fill("")
        expect(chat.listed).to_have_count(2)
        chat.menu("<b>Rivers</b>", "Delete")
        chat.page.get_by_role("menuitem", name="Delete for good?").click()
        expect(chat.listed).to_have_text(["What is a mill?"])
        expect(chat.questions).to_have_count(0)

    def test_they_can_be_downloaded_by_their_user_alone(
        self, chat: ChatPage, scripted: Scripted, browser: Browser
    ) -> None:
        say(chat, scripted, "What is a river?", "Flowing **water**.")
        texts = {}
        for form in ("Markdown", "JSON"):
            with chat.page.expect_download() as download:
                chat.menu("What is a river?", f"Download as {form}")
            texts[download.value.suggested_filename] = Path(download.value.path()).read_text(encoding="utf-8")
            url = download.value.url
        assert texts["What is a river.md"] == (
            "# What is a river?\n\n## You\n\nWhat is a river?\n\n## scripted\n\nFlowing **water**.\n"
        )
        assert json.loads(texts["What is a river.json"])["messages"][1]["content"] == "Flowing **water**."
        assert chat.page.request.get(url).status == 200
        with visiting(browser) as other:
            ChatPage(other.page, chat.url)
            assert other.page.request.get(url).status == 404

    def test_the_keyboard_reaches_the_list_and_its_menu(self, chat: ChatPage, scripted: Scripted) -> None:
        from playwright.sync_api import expect

        say(chat, scripted, "What is a river?", "Flowing water.")
        page = chat.page
        page.locator("#mr-toggle").focus()
        reached = []
        while len(reached) < 12 and not (reached and reached[-1].startswith("More about")):
            page.keyboard.press("Tab")
            reached.append(page.evaluate(FOCUSED).strip())
        wanted = [
            "Chat",
            "New chat",
            "Search conversations",
            "What is a river?",
            "More about What is a river?",
        ]
        assert [name for name in reached if name in wanted] == wanted
        page.keyboard.press("Enter")
        expect(page.get_by_role("menuitem", name="Rename")).to_be_focused()
        page.keyboard.press("ArrowUp")
        expect(page.get_by_role("menuitem", name="Delete")).to_be_focused()
        page.keyboard.press("Escape")
        expect(page.locator("#mr-menu")).to_be_hidden()
        expect(page.get_by_label("More about What is a river?")).to_be_focused()

    def test_a_question_right_behind_new_chat_is_asked_there_and_stays(
        self, chat: ChatPage, scripted: Scripted
    ) -> None:
        """However long the server had no time for either of the two."""
        from playwright.sync_api import expect

        loop = say(chat, scripted, "0", "zero").loop
        for number in map(str, range(1, 9)):
            loop.call_soon_threadsafe(time.sleep, 0.3)
            chat.button("New chat").click()
            chat.ask(number)
            work = chat.next(scripted)
            assert (work.question, work.history) == (number, ())
            work.say("yes")
            work.finish()
            chat.wait_ready()
            expect(chat.questions).to_have_text([number])
            expect(chat.answers).to_have_text(["yes"])

    def test_on_a_phone_it_lies_over_the_chat_and_closes(
        self, browser: Browser, served: Served, scripted: Scripted
    ) -> None:
        from playwright.sync_api import expect

        with visiting(browser, 390, 700) as visit:
            chat = ChatPage(visit.page, served.url)
            expect(chat.page.locator("#mr-side")).to_be_hidden()
            say(chat, scripted, "What is a river?", "Flowing water.")
            chat.page.locator("#mr-toggle").click()
            expect(chat.listed).to_be_visible()
            chat.listed.click()
            expect(chat.page.locator("#mr-side")).to_be_hidden()
            chat.page.locator("#mr-toggle").click()
            chat.page.keyboard.press("Escape")
            expect(chat.page.locator("#mr-side")).to_be_hidden()
            visit.check()


class TestPanels:
    def test_the_flow_and_the_runs_stand_beside_the_chat(
        self, chat: ChatPage, scripted: Scripted, browser: Browser, served: Served
    ) -> None:
        from playwright.sync_api import expect

        say(chat, scripted, "What is a river?", "Flowing water.")
        chat.page.get_by_role("tab", name="Flow").click()
        expect(chat.page.locator("#mr-flow-view svg")).to_contain_text("scripted")
        chat.page.get_by_role("tab", name="Runs").click()
        expect(chat.page.locator("[data-run]").first).to_contain_text("What is a river?")
        with visiting(browser) as other:
            theirs = ChatPage(other.page, served.url)
            theirs.page.get_by_role("tab", name="Runs").click()
            expect(theirs.page.locator("#mr-runs-view")).to_be_visible()
            assert theirs.page.locator("[data-run]").count() == 0


class TestSeveralTabs:
    def test_they_show_one_list_and_one_answer(
        self, chat: ChatPage, scripted: Scripted, served: Served
    ) -> None:
        from playwright.sync_api import expect

        other = ChatPage(chat.page.context.new_page(), served.url)
        work = chat.begin("What is a river?", scripted)
        expect(other.listed).to_have_text("What is a river?")
        expect(other.page.get_by_role("img", name="answering")).to_be_visible()
        other.listed.click()
        work.say("Flowing ")
        expect(other.answers).to_have_text("Flowing")
        expect(other.page.locator("button.stop-button")).to_be_visible()
        work.say("water.")
        work.finish()
        for page in (chat, other):
            page.wait_ready()
            expect(page.answers).to_have_text("Flowing water.")
        expect(other.page.get_by_role("img", name="answering")).to_have_count(0)

    def test_those_that_wait_for_nothing_hold_no_connection(
        self, chat: ChatPage, scripted: Scripted, served: Served
    ) -> None:
        from playwright.sync_api import expect

        chats = [chat, *(ChatPage(chat.page.context.new_page(), served.url) for _ in range(7))]
        for one in (chats[0], chats[6], chats[7]):  # a browser has six connections to one server
            say(one, scripted, "question", "answer")
            expect(one.answers).to_have_text("answer")

    def test_twenty_of_one_user_do_not_keep_another_waiting(self, browser: Browser) -> None:
        from playwright.sync_api import expect

        scripted = Scripted()
        service = Service(step(scripted), chat=True, limits=Limits(running=2, waiting=30))
        admission = service.admission
        with serving(service.app) as served, ExitStack() as stack:
            contexts = [stack.enter_context(browser.new_context()) for _ in range(5)]
            mine = ChatPage(contexts[0].new_page(), served.url)
            mine.ask("mine")
            for number, context in enumerate(contexts[:4]):  # six connections each
                context.add_cookies(contexts[0].cookies())  # type: ignore[arg-type]
                page = context.new_page()
                page.goto(f"{served.url}/health/live")
                page.evaluate(ASK, 5 if number else 4)
            mine.until(lambda: (admission.running, admission.waiting) == (2, 18))
            works = [mine.next(scripted), mine.next(scripted)]
            theirs = ChatPage(contexts[4].new_page(), served.url)
            theirs.ask("yours")
            expect(theirs.status).to_contain_text("1st in line")
            works[0].finish()
            work = theirs.next(scripted)
            assert work.question == "yours"
            work.say("at once")
            expect(theirs.answers).to_have_text("at once")
            assert admission.waiting == 18
        eventually(lambda: (admission.running, admission.waiting) == (0, 0))


class TestReload:
    def test_an_answer_is_stopped_by_it_and_kept(self, chat: ChatPage, scripted: Scripted) -> None:
        from playwright.sync_api import expect

        work = chat.begin("count", scripted)
        expect(chat.answers).to_contain_text("20 ")
        chat.page.reload()
        chat.until(work.over.is_set, LEAVE)
        expect(chat.answers).to_contain_text("20 ")
        expect(chat.notes).to_contain_text("stopped")
        second = chat.begin("and now?", scripted)
        assert second.history[1].marks == {"status": "stopped"}
        assert second.history[1].content.split() == chat.answers.first.inner_text().split()
        second.finish()
        chat.wait_ready()

    def test_where_runs_go_on_the_same_answer_is_picked_up_from_its_queue(
        self, browser: Browser, tmp_path: Path
    ) -> None:
        from playwright.sync_api import expect

        scripted, queue = Scripted(), f"file://{tmp_path}"
        service = Service(step(scripted), chat=True, on_disconnect="continue", queue=queue)
        with serving(service.app) as served, visiting(browser) as visit:
            chat = ChatPage(visit.page, served.url)
            work = chat.begin("go on", scripted)
            work.say(*(f"{number} " for number in range(300)), "before ")
            expect(chat.answers).to_contain_text("299 before")
            chat.page.reload()
            expect(chat.answers).to_contain_text("299 before")
            with attach(work.run_id, queue) as run:
                said = [event.text for event in iter(run.take, None) if type(event) is TextDelta]
            assert chat.answers.inner_text() == "".join(said).strip()
            work.say("and ", "after")
            expect(chat.answers).to_have_text("".join(said) + "and after")
            work.finish()
            chat.wait_ready()
            expect(chat.answers).to_have_text("".join(said) + "and after")
            assert scripted.works.empty()
            visit.check()


ASK = """
async many => {
  const config = await (await fetch("/config")).json();
  const asking = config.dependencies.find(one => one.targets.some(target => target[1] === "submit"));
  const root = config.root + config.api_prefix;
  window.answers = [];
  for (let tab = 0; tab < many; tab++) {
    const session_hash = Math.random().toString(36).slice(2);
    const body = JSON.stringify({ data: ["mine"], fn_index: asking.id, session_hash });
    await fetch(`${root}/queue/join`, { method: "POST", headers: { "Content-Type": "application/json" }, body });
    window.answers.push(await fetch(`${root}/queue/data?session_hash=${session_hash}`));
  }
}
"""
"""What so many tabs do in which something is asked, without drawing them."""

WAITING = """
import asyncio

async def flow(question):
    yield f"about {question}"
    if question == "wait":
        await asyncio.Event().wait()
"""


class TestRestart:
    def test_the_conversations_are_there_again(self, browser: Browser, tmp_path: Path) -> None:
        from playwright.sync_api import expect

        (tmp_path / "app.py").write_text(WAITING, encoding="utf-8")
        arguments = ("chat", "app:flow", "--conversations", str(tmp_path / "kept"))
        with visiting(browser) as visit:
            with millrace_process(*arguments, cwd=tmp_path) as launched:
                chat = ChatPage(visit.page, launched.url)
                chat.ask("rivers")
                expect(chat.notes).to_have_count(1)
                chat.wait_ready()
                chat.ask("wait")
                expect(chat.answers).to_have_text(["about rivers", "about wait"])
                launched.process.kill()
                launched.process.wait()
            with millrace_process(*arguments, cwd=tmp_path) as launched:
                chat = ChatPage(visit.page, launched.url)
                expect(chat.listed).to_have_text(["rivers"])
                chat.listed.click()
                expect(chat.questions).to_have_text(["rivers", "wait"])
                expect(chat.answers.first).to_have_text("about rivers")
                expect(chat.notes.last).to_contain_text("stopped")
                chat.menu("rivers", "Delete")
                chat.page.get_by_role("menuitem", name="Delete for good?").click()
                expect(chat.listed).to_have_count(0)
                assert [path.name for path in (tmp_path / "kept").iterdir()] == ["secret"]


def test_the_history_after_a_stop_is_what_the_page_shows(chat: ChatPage, scripted: Scripted) -> None:
    work = chat.begin("wait", scripted)
    work.say("half")
    chat.until(lambda: chat.answers.count() == 1)
    chat.stop()
    chat.wait_ready()
    second = chat.begin("next", scripted)
    assert second.history == (Message.user("wait"), Message.assistant("half", status="stopped"))
    second.finish()
    chat.wait_ready()
