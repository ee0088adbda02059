"""Leaving in the browser: Stop, a closed tab, a reloaded one, over every kind of step."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.launchers.support import running
from tests.leaving.kinds import KINDS
from tests.leaving.subjects import Subject
from tests.support.browser import visiting
from tests.support.chat_pages import ChatPage
from tests.support.leaks import eventually

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.mark.parametrize("way", ["stop", "close", "reload"])
@pytest.mark.parametrize("kind", KINDS)
def test_leaving(kind: str, way: str, browser: Browser) -> None:
    subject: Subject = KINDS[kind]()
    subject.pace = 0.002
    # Playwright keeps a loop in this thread, so what runs loops of its own takes another one.
    with ThreadPoolExecutor(1) as aside:
        try:
            with running(subject.flow, chat=True) as server, visiting(browser) as visit:
                chat = ChatPage(visit.page, server.url)
                chat.ask("x")
                chat.page.locator("button.stop-button").wait_for()
                aside.submit(subject.reach).result(30)
                if way == "stop":
                    chat.stop()
                elif way == "close":
                    visit.page.close()
                else:
                    visit.page.reload()
                aside.submit(subject.stopped).result(30)
                eventually(server.idle)
        finally:
            subject.close()
