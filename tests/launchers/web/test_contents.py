"""What goes in and out of the chat, in a real browser: files, settings, logging in, languages, keyboards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from millrace import RemoteModel, Service, step
from millrace.streaming import NamedFile, ReasoningDelta
from millrace.streaming.events import ToolResult
from tests.support.accessibility import faults, walk
from tests.support.browser import Visit, visiting
from tests.support.chat_pages import ChatPage, Scripted
from tests.support.leaks import eventually
from tests.support.servers import Served, free_port, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.browser, pytest.mark.slow]

EVIL = "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>"


def grey(question: str, picture: Image.Image | None = None) -> Iterator[object]:
    """Says what it got, and gives a picture and a text back."""
    if picture is None:
        yield f"nothing to see with {question!r}"
        return
    yield f"{picture.width} by {picture.height}"
    yield picture.convert("L")
    yield NamedFile(EVIL + ".txt", b"hello")


@pytest.fixture(scope="module")
def scripted() -> Scripted:
    return Scripted()


@pytest.fixture(scope="module")
def talking(scripted: Scripted) -> Iterator[Served]:
    with serving(Service(step(scripted, name="scripted"), chat=True).app) as served:
        yield served


@pytest.fixture(scope="module")
def seeing() -> Iterator[Served]:
    service = Service(step(grey), chat=True, api_keys=["alice: sk-alice"], max_upload=100_000)
    with serving(service.app) as served:
        yield served


def log_in(visit: Visit, served: Served) -> ChatPage:
    visit.page.goto(f"{served.url}/")
    visit.page.get_by_label("Your key").fill("sk-alice")
    visit.page.keyboard.press("Enter")
    visit.page.locator("#mr-account form").wait_for()
    return ChatPage(visit.page, served.url)


def is_unharmed(visit: Visit) -> None:
    assert visit.page.title() != "run"
    assert (
        visit.page.locator("#mr-chat script, #mr-chat img[src=x], #mr-list script, #mr-list img").count() == 0
    )
    visit.check()


class TestFiles:
    def test_they_go_in_and_out(self, visit: Visit, seeing: Served, tmp_path: Path) -> None:
        from playwright.sync_api import expect

        chat, page = log_in(visit, seeing), visit.page
        picture = tmp_path / "a'b\"c<i>.png"
        Image.new("RGB", (30, 20), (200, 80, 40)).save(picture)
        page.locator("#mr-files input").set_input_files(picture)
        chip = page.locator(".mr-chosen li")
        expect(chip).to_contain_text(picture.name)
        chat.ask("grey, please")
        expect(chat.answers.first).to_have_text("30 by 20")
        expect(chip).to_have_count(0)
        asked, made = page.locator("#mr-chat .mr-picture img").all()
        assert asked.get_attribute("alt") == picture.name
        for image in (asked, made):
            chat.until(lambda image=image: image.evaluate("image => image.naturalWidth") == 30)  # type: ignore[misc]
        link = page.locator("#mr-chat .mr-file")
        assert EVIL.rpartition("/")[2] in link.inner_text()
        with page.expect_download() as download:
            link.click()
        assert Path(download.value.path()).read_bytes() == b"hello"
        page.reload()
        expect(page.locator("#mr-chat .mr-picture img")).to_have_count(2)
        assert faults(page) == []
        is_unharmed(visit)

    def test_what_is_too_large_is_told_at_once(self, visit: Visit, seeing: Served, tmp_path: Path) -> None:
        from playwright.sync_api import expect

        log_in(visit, seeing)
        page = visit.page
        sent = []
        page.on("request", lambda request: sent.append(request.url) if "/files" in request.url else None)
        large, other = tmp_path / f"{EVIL.replace('/', '')}.png", tmp_path / "a.txt"
        with open(large, "wb") as file:
            file.truncate(50 * 2**20)
        other.write_text("hello")
        page.locator("#mr-files input").set_input_files(large)
        expect(page.locator("#mr-sending .mr-failed")).to_contain_text("is too large: 100 kB at most")
        assert sent == []
        page.locator("#mr-files input").set_input_files(other)
        expect(page.locator("#mr-sending .mr-failed").last).to_contain_text(
            "a.txt is not of a kind that is taken"
        )
        visit.console_errors.clear()  # the browser says itself that the second was refused
        is_unharmed(visit)

    def test_where_only_text_is_taken_there_is_no_button(self, visit: Visit, talking: Served) -> None:
        chat = ChatPage(visit.page, talking.url)
        chat.button("Send").wait_for()
        assert visit.page.locator("#mr-files, #mr-settings, #mr-account").count() == 0
        visit.check()


def test_script_is_shown_and_never_run(visit: Visit, talking: Served, scripted: Scripted) -> None:
    from playwright.sync_api import expect

    chat = ChatPage(visit.page, talking.url)
    work = chat.begin(EVIL, scripted)
    work.say(ReasoningDelta(EVIL), ToolResult("1", EVIL), EVIL)
    work.finish()
    chat.wait_ready()
    expect(chat.questions.first).to_contain_text("<script>")
    expect(chat.answers.first).to_contain_text("<script>")
    expect(chat.listed.first).to_contain_text("<img")
    is_unharmed(visit)


def test_settings_hold_for_their_conversation(visit: Visit) -> None:
    from playwright.sync_api import expect

    nowhere = RemoteModel(f"http://127.0.0.1:{free_port()}/v1", "model")
    with serving(Service(nowhere, chat=True).app) as served:
        chat, page = ChatPage(visit.page, served.url), visit.page
        expect(page.get_by_label("Longest answer")).to_be_hidden()
        expect(page.locator("#mr-whose textarea, #mr-whose input")).not_to_have_value("")
        page.get_by_role("button", name="Settings").click()
        page.get_by_label("Longest answer").fill("2")
        with page.expect_response(lambda response: "Be brief." in (response.request.post_data or "")):
            page.get_by_label("Instructions").fill("Be brief.")
            chat.box.focus()
        chat.ask("wheat")
        expect(chat.failures).to_contain_text("failed")
        page.locator("#mr-new").click()
        expect(page.get_by_label("Longest answer")).to_have_value("")
        chat.listed.first.click()
        expect(page.get_by_label("Longest answer")).to_have_value("2")
        expect(page.get_by_label("Instructions")).to_have_value("Be brief.")
        assert faults(page) == []
        visit.check()


def test_logging_in_and_out(visit: Visit, seeing: Served) -> None:
    page = visit.page
    page.goto(f"{seeing.url}/")
    assert faults(page) == []
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    page.get_by_role("alert").wait_for()
    assert faults(page) == []
    page.keyboard.type("sk-alice")
    page.keyboard.press("Enter")
    page.locator("#mr-account", has_text="alice").wait_for()
    page.get_by_role("button", name="Log out").click()
    page.get_by_label("Your key").wait_for()
    visit.check()


def test_in_chinese_and_in_the_dark(browser: Browser, talking: Served, scripted: Scripted) -> None:
    from playwright.sync_api import expect

    with visiting(browser, locale="zh-CN", color_scheme="dark") as visit:
        chat, page = ChatPage(visit.page, talking.url), visit.page
        expect(page.locator("#mr-new")).to_contain_text("新对话")
        expect(chat.box).to_have_attribute("placeholder", "输入消息")
        expect(page.locator("#mr-list")).to_have_text("还没有对话")
        work = chat.begin("hello", scripted)
        expect(chat.button("停止")).to_be_visible()
        work.say(ReasoningDelta("hm"), "hello")
        expect(chat.parts).to_contain_text("思考过程")
        chat.stop()
        expect(chat.notes).to_contain_text("已停止")
        assert faults(page) == []
        page.get_by_role("tab", name="运行记录").click()
        expect(page.locator("#mr-runs-open")).to_contain_text("选择一次运行")
        visit.check()


def test_keyboard_and_screen_readers(visit: Visit, talking: Served, scripted: Scripted) -> None:
    from playwright.sync_api import expect

    chat, page = ChatPage(visit.page, talking.url), visit.page
    chat.button("Send").wait_for()
    assert faults(page) == []
    work = chat.begin("hello", scripted)
    work.say(
        ReasoningDelta("hm"),
        "Look:\n\n```python\nprint('corn', 1)  # bread\n```\n\n[there](http://a.test) $$x^2$$",
    )
    page.locator("#mr-chat pre").wait_for()
    chat.button("Stop").wait_for()
    assert faults(page) == []
    work.say("\n\ncorn" * 80)
    work.finish()
    chat.wait_ready()
    chat.button("Send").wait_for()
    expect(chat.box).to_be_in_viewport()
    assert faults(page) == []
    wanted = [
        "Conversations",
        "New chat",
        "hello",
        "More about hello",
        "Clear",
        "Edit",
        "Reasoning",
        "Copy code",
    ]
    wanted += ["there", "Retry", "Undo", "Message", "Send"]
    # What is drawn anew while one walks takes the focus away: then the walk begins again.
    names = eventually(lambda: names if set(wanted) <= set(names := walk(page)) else None, timeout=20)
    assert "" not in names
    page.get_by_label("More about hello").press("Enter")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "More about hello"
    visit.check()
