"""Leaving in the browser: Stop, a closed tab, a reloaded one, over every kind of step; and a browser that is killed."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.launchers.support import running
from tests.leaving.kinds import KINDS
from tests.leaving.subjects import Subject
from tests.support.browser import FLAGS, visiting
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


@pytest.mark.parametrize("kind", ["awaiting", "model in prefill", "model decoding"])
def test_a_browser_that_is_killed(kind: str, browser: Browser) -> None:
    subject: Subject = KINDS[kind]()
    subject.pace = 0.002
    mark = f"--millrace-test={os.urandom(8).hex()}"
    executable = shutil.which("chromium")
    other = browser.browser_type.launch(executable_path=executable, args=[*FLAGS, mark])
    with ThreadPoolExecutor(1) as aside:
        try:
            with running(subject.flow, chat=True) as server:
                chat = ChatPage(other.new_page(), server.url)
                chat.ask("x")
                chat.page.locator("button.stop-button").wait_for()
                aside.submit(subject.reach).result(30)
                kill(mark)
                aside.submit(subject.stopped).result(30)
                eventually(server.idle)
        finally:
            subject.close()
            with suppress(Exception):  # it is gone, and its driver says so
                other.close()


def kill(mark: str) -> None:
    """Ends the browser that was started with this mark, and all of its processes, as the kernel does."""
    (first,) = (
        process
        for process in psutil.process_iter(["cmdline"])
        if mark in (line := process.info["cmdline"] or ())
        and not any(part.startswith("--type=") for part in line)
    )
    for process in [first, *first.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            process.kill()
