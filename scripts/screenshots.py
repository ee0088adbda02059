"""Writes the pictures in docs/images: the real chat on the bundled demo, in Debian's Chromium.

python -m scripts.screenshots [folder]
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from millrace import Service
from millrace.launchers.demo import flow
from tests.support.browser import FLAGS
from tests.support.chat_pages import ChatPage
from tests.support.leaks import eventually
from tests.support.servers import answers, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
LARGEST = 200_000
"""Bytes of one picture, at most."""

LOADED = 60.0
"""Seconds that the demo model may take to load."""


@dataclass(frozen=True)
class Picture:
    """One file, the questions asked before it is taken, and the browser that shows it.

    `before` are questions of earlier conversations; `panel` is the tab that is opened in the end.
    """

    name: str
    questions: tuple[str, ...]
    width: int
    height: int
    browser: dict[str, Any]
    before: tuple[str, ...] = ()
    panel: str = ""


ASKED = ("What is a Warp?", "How do I stop a run?", "What is the capital of France?")
PICTURES = (
    Picture(
        "chat.png", ASKED, 1120, 700, {"device_scale_factor": 1.5}, ("What is a Graph?", "What is a Session?")
    ),
    Picture("chat-dark.png", ASKED, 1120, 700, {"color_scheme": "dark"}),
    Picture("chat-flow.png", ASKED[:1], 1120, 560, {}, panel="Flow"),
    Picture("chat-runs.png", ASKED, 1120, 560, {}, panel="Runs"),
    Picture(
        "chat-phone.png", (), 390, 700, {"device_scale_factor": 1.5, "is_mobile": True, "has_touch": True}
    ),
)


def main(folder: Path = IMAGES) -> None:
    from playwright.sync_api import sync_playwright

    folder.mkdir(parents=True, exist_ok=True)
    with serving(Service(flow, chat=True).app) as served, sync_playwright() as playwright:
        eventually(lambda: answers(served.port, "/health/ready"), LOADED)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        for picture in PICTURES:
            take(picture, browser, served.url, folder / picture.name)
        browser.close()


def take(picture: Picture, browser: Browser, url: str, file: Path) -> None:
    size = {"width": picture.width, "height": picture.height}
    context = browser.new_context(viewport=size, **picture.browser)  # type: ignore[arg-type]
    chat = ChatPage(context.new_page(), url)
    for question in picture.before:
        chat.ask(question)
        chat.until(lambda: chat.notes.count() > 0)
        chat.wait_ready()
        chat.button("New chat").click()
        chat.questions.wait_for(state="detached")
    for i, question in enumerate(picture.questions):
        chat.ask(question)
        chat.until(lambda i=i: chat.notes.count() > i)  # type: ignore[misc]
        chat.wait_ready()
    if picture.panel:
        chat.page.get_by_role("tab", name=picture.panel).click()
    if picture.panel == "Runs":
        chat.page.locator("[data-run]").first.click()
        chat.page.locator(".mr-events").wait_for()
    chat.page.mouse.move(0, 0)
    chat.page.wait_for_timeout(300)  # the page's own fading
    chat.page.screenshot(path=file)
    context.close()
    assert file.stat().st_size <= LARGEST, f"{file} is larger than {LARGEST} bytes"


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
