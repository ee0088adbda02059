"""A millrace chat in a browser, as its user sees it; and a flow whose every word is the test's step.

chat = ChatPage(visit.page, served.url)
chat.ask("hello")
work = scripted.next()                       # the run that the question has started
work.say("so ")                              # one piece of the answer
chat.expect_answer("so")
chat.stop()
work.over.wait(5)
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from millrace.streaming import cancelled, current_run
from millrace.streaming.events import Event
from millrace.streaming.messages import Message

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

TIMEOUT = 10.0


class ChatPage:
    """One open chat. `url` is the page's, without a trailing slash."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.open()

    def open(self) -> None:
        self.page.goto(f"{self.url}/")
        self.box.wait_for()

    @property
    def box(self) -> Locator:
        return self.page.locator("#mr-box textarea")

    @property
    def questions(self) -> Locator:
        return self.page.locator("#mr-chat .user.message .message-content")

    @property
    def answers(self) -> Locator:
        """The texts of the answers, without the parts before them and the notes after."""
        return self.page.locator(
            "#mr-chat .bot.message .message-content:not(.thought-group *, :has(.mr-status))"
        )

    @property
    def parts(self) -> Locator:
        return self.page.locator("#mr-chat .thought-group")

    @property
    def notes(self) -> Locator:
        return self.page.locator("#mr-chat .mr-note")

    @property
    def failures(self) -> Locator:
        return self.page.locator("#mr-chat .mr-failure")

    @property
    def status(self) -> Locator:
        return self.page.locator("#mr-chat .mr-status")

    @property
    def listed(self) -> Locator:
        """The titles in the list at the side."""
        return self.page.locator("#mr-list .mr-open")

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def menu(self, title: str, item: str) -> None:
        """Clicks an item in the menu of the conversation of that title."""
        self.page.locator("#mr-list li", has_text=title).hover()
        self.page.get_by_label(f"More about {title}").click()
        self.page.get_by_role("menuitem", name=item, exact=True).click()

    def ask(self, question: str) -> None:
        self.box.fill(question)
        self.box.press("Enter")

    def begin(self, question: str, scripted: Scripted) -> Work:
        """Asks, and waits until the flow runs and the page shows it."""
        self.ask(question)
        work = self.next(scripted)
        self.page.locator("button.stop-button").wait_for()
        return work

    def next(self, scripted: Scripted) -> Work:
        """The next run of the flow."""
        self.until(lambda: not scripted.works.empty())
        return scripted.works.get_nowait()

    def until(self, condition: Callable[[], object], timeout: float = TIMEOUT) -> None:
        """Waits until `condition()` is true, while the page goes on."""
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, f"not within {timeout} s"
            self.page.wait_for_timeout(5)

    def stop(self) -> None:
        self.page.locator("button.stop-button").click()

    def wait_ready(self, timeout: float = TIMEOUT) -> None:
        """Waits until the next question can be sent."""
        self.page.locator("button.submit-button").wait_for(timeout=timeout * 1000)


@dataclass
class Work:
    """One run of the scripted flow."""

    question: str
    history: tuple[Message, ...]
    session: str
    run_id: str
    loop: asyncio.AbstractEventLoop
    pieces: asyncio.Queue[str | Event | Exception | None] = field(default_factory=asyncio.Queue)
    over: threading.Event = field(default_factory=threading.Event)
    made: int = 0
    after_cut: int = 0
    """Items made after the run was told to stop."""

    def say(self, *pieces: str | Event | Exception) -> None:
        """Lets the flow yield these; an exception is raised by it."""
        for piece in pieces:
            self.loop.call_soon_threadsafe(self.pieces.put_nowait, piece)

    def finish(self) -> None:
        """Lets the flow come to its end."""
        self.loop.call_soon_threadsafe(self.pieces.put_nowait, None)


class Scripted:
    """A flow that says what the test says, or for the question "count" numbers for ever."""

    def __init__(self) -> None:
        self.works: queue.SimpleQueue[Work] = queue.SimpleQueue()

    async def __call__(self, question: str) -> AsyncIterator[str | Event]:
        run = current_run()
        assert run is not None
        work = Work(question, run.history, run.session, run.id, asyncio.get_running_loop())
        self.works.put(work)
        try:
            if question == "count":
                while True:
                    work.made += 1
                    work.after_cut += cancelled()
                    yield f"{work.made} "
                    await asyncio.sleep(0.002)
            while (piece := await work.pieces.get()) is not None:
                if isinstance(piece, Exception):
                    raise piece
                work.made += 1
                yield piece
        finally:
            work.over.set()
