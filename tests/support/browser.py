"""Debian's Chromium, driven by Playwright, with a record of what a page complains about and asks for.

Playwright's synchronous interface keeps an event loop running in the test's thread, so a test with a page
cannot call `asyncio.run`; what it looks at runs elsewhere: `serving(app)` or `millrace_process(...)`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # No name but this machine's is found. A handler of Playwright's could block requests too, but then all of a page's
    # would wait for the test's thread, stops as well.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
]
LOCAL = ("127.0.0.1", "localhost")


@dataclass
class Visit:
    """One page in a fresh profile. Requests to other hosts are blocked and recorded."""

    page: Page
    console_errors: list[str] = field(default_factory=list)
    foreign_requests: list[str] = field(default_factory=list)

    @property
    def context(self) -> BrowserContext:
        return self.page.context

    def screenshot(self, path: str | Path) -> None:
        """Writes what the window shows to a PNG file."""
        self.page.screenshot(path=path)

    def check(self) -> None:
        """Fails when the page logged an error or asked another host for anything."""
        assert self.foreign_requests == []
        assert self.console_errors == []


@contextmanager
def visiting(browser: Browser, width: int = 1280, height: int = 800, **profile: Any) -> Iterator[Visit]:
    """A page in a profile of its own, such as `locale="zh-CN"`; several at once share nothing but the browser."""
    context = browser.new_context(viewport={"width": width, "height": height}, **profile)
    try:
        yield _recorded(context.new_page())
    finally:
        context.close()


def _recorded(page: Page) -> Visit:
    visit = Visit(page)

    def on_console(message: ConsoleMessage) -> None:
        if message.type == "error":
            visit.console_errors.append(f"{message.text} ({message.location.get('url', '')})")

    def on_request(request: Request) -> None:
        if is_foreign(request.url):
            visit.foreign_requests.append(request.url)

    page.on("console", on_console)
    page.on("pageerror", lambda error: visit.console_errors.append(str(error)))
    page.on("request", on_request)
    page.on(
        "websocket",
        lambda socket: visit.foreign_requests.append(socket.url) if is_foreign(socket.url) else None,
    )
    return visit


def is_foreign(url: str) -> bool:
    """Whether a URL points to another machine; data: and blob: URLs name no host."""
    host = urlsplit(url).hostname
    return host is not None and host not in LOCAL


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium without a window. Of the module, since its loop must not outlive the tests that use it."""
    from playwright.sync_api import sync_playwright

    executable = shutil.which("chromium")
    if executable is None:
        pytest.fail("chromium is not installed; scripts/chromium.sh installs it")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """A fresh page with its record: `visit.page`, `visit.console_errors`, `visit.foreign_requests`."""
    with visiting(browser) as one:
        yield one


@pytest.fixture
def page(visit: Visit) -> Page:
    """The page of `visit`, for tests that need no record."""
    return visit.page
