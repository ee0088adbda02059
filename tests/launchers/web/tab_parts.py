"""What the tests of the tabs and their conversations share: a flow, tabs, and how they are asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from millrace import Limits, Message, step
from millrace.launchers.admission import Admission
from millrace.launchers.web.archives import FileArchives
from millrace.launchers.web.identities import Identity
from millrace.launchers.web.tabs import Tab, Tabs
from millrace.launchers.web.turns import Turn
from millrace.streaming import current_run, status
from millrace.streaming.queues import Queue
from tests.support.leaks import eventually_async

__all__ = ["ALICE", "BOB", "Echo", "ask", "begin", "follow", "run", "tabs_of", "titles"]

ALICE, BOB = Identity.of_browser("cookie", "alice"), Identity.of_browser("cookie", "bob")


class Echo:
    """Answers with the question; to "wait" it says a word, and waits until it is stopped or let go."""

    def __init__(self) -> None:
        self.histories: list[tuple[Message, ...]] = []
        self.owners: list[str | None] = []
        self.stopped = 0
        self.go = asyncio.Event()

    async def __call__(self, question: str) -> AsyncIterator[str]:
        run = current_run()
        assert run is not None
        self.histories.append(run.history)
        self.owners.append(run.owner)
        try:
            yield f"{question}!"
            if question == "wait":
                await self.go.wait()
        except (asyncio.CancelledError, GeneratorExit):
            self.stopped += 1
            raise


def tabs_of(
    flow: Any,
    directory: Path | None = None,
    resume: float | None = None,
    queue: Queue | None = None,
    **limits: int,
) -> Tabs:
    archives = None if directory is None else FileArchives(directory)
    admission = Admission(Limits(**{"running": 2, "waiting": 2, **limits}))
    return Tabs(step(flow), admission, archives=archives, resume=resume, queue=queue)


async def ask(tabs: Tabs, tab: Tab, question: str) -> Turn:
    async for _ in tabs.ask(tab, question):
        pass
    return tab.turns[-1]


async def begin(tabs: Tabs, tab: Tab, question: str = "wait") -> Turn:
    """Asks, and returns once there is the first word."""
    turn = tabs.begin(tab, question).turn
    await eventually_async(lambda: turn.text)
    return turn


def titles(tab: Tab) -> list[str]:
    return [heading.title for heading in tab.conversations.headings()]


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await asyncio.wait_for(test(), 20)
        await eventually_async(lambda: status().runs == 0)

    asyncio.run(main())


async def follow(tabs: Tabs, tab: Tab) -> Turn:
    live = tab.conversation.live
    assert live is not None
    async for _ in tabs.follow(tab, live):
        pass
    return live.turn
