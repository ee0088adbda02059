"""The browser tabs that talk to a chat: each with its conversation, its session and the turn it waits for."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from ..flow.steps import Step
from ..streaming.errors import AdmissionError, RunCancelled
from ..streaming.messages import Conversation
from ..streaming.runs import Run
from ..streaming.sessions import new_session_id
from .turns import Turn, failure_of

if TYPE_CHECKING:
    from .admission import Admission

__all__ = ["Tab", "Tabs"]

logger = logging.getLogger("millrace.chat")

INTERVAL = 0.04
"""Seconds between two updates of a page: what arrives in between is shown together."""

KEPT = 1000
"""Tabs whose conversations are kept; the one longest unused goes first."""


class Tab:
    """One browser tab: its session, its turns and, at most, one turn that goes on."""

    def __init__(self) -> None:
        self.session = new_session_id()
        self.turns: list[Turn] = []
        self.live: LiveTurn | None = None

    @property
    def busy(self) -> bool:
        return self.live is not None and not self.live.turn.over

    def history(self) -> Conversation:
        """What the next turn sees of the earlier ones."""
        return Conversation(message for turn in self.turns for message in turn.messages())

    def stop(self, reason: str) -> None:
        """Stops the turn that goes on, if one does; without waiting."""
        if self.live is not None:
            self.live.stop(reason)

    def clear(self) -> None:
        """Forgets the conversation; a new session begins."""
        self.stop("the chat was cleared")
        self.turns = []
        self.session = new_session_id()


class Tabs:
    """All tabs of one chat, by the name that the page gives itself.

    A page that is closed or reloaded `leaves`: its run stops, its conversation is kept for a while, since a page
    that only lost its network comes back under the same name.
    """

    def __init__(
        self, flow: Step[Any, Any], admission: Admission, *, timeout: float | None = None, debug: bool = False
    ) -> None:
        self.flow = flow
        self.admission = admission
        self.timeout = timeout
        self.debug = debug
        self._tabs: OrderedDict[str, Tab] = OrderedDict()

    def open(self, name: str) -> Tab:
        """The tab of that name, a new one if need be."""
        tab = self._tabs.setdefault(name, Tab())
        self._tabs.move_to_end(name)
        while len(self._tabs) > KEPT:
            oldest = next(iter(self._tabs))
            self._tabs.pop(oldest).stop("too many tabs")
        return tab

    def leave(self, name: str) -> None:
        """The tab was closed, reloaded or lost."""
        tab = self._tabs.get(name)
        if tab is not None:
            tab.stop("the page was left")

    async def ask(self, tab: Tab, question: str) -> AsyncGenerator[Turn, None]:
        """Answers a question; yields the turn whenever there is something new to show, and at its end.

        Leaving the iteration stops the run. The turn belongs to the tab from the first step on.
        """
        history = tab.history()
        turn = Turn(question)
        tab.turns.append(turn)
        tab.live = live = LiveTurn(turn)
        live.start(self, tab.session, history)
        try:
            async with aclosing(live.updates()) as updates:
                async for _ in updates:
                    yield turn
        finally:
            if tab.live is live:
                tab.live = None


class LiveTurn:
    """A turn while its run goes on, in a task of its own, which the page's updates only look at."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.changed = asyncio.Event()
        self.run: Run | None = None
        self.task: asyncio.Task[None] | None = None

    def start(self, tabs: Tabs, session: str, history: Conversation) -> None:
        self.task = asyncio.get_running_loop().create_task(self._work(tabs, session, history))

    def stop(self, reason: str) -> None:
        """Stops the run, or the waiting for a place."""
        self.turn.stopping()
        self.changed.set()
        if self.run is not None:
            self.run.cancel(reason)
        elif self.task is not None:
            self.task.cancel()

    async def updates(self) -> AsyncGenerator[None, None]:
        """One item for each moment at which the page is to be brought up to date; the last one after the end."""
        assert self.task is not None
        try:
            yield
            over = False
            while not over:
                await self.changed.wait()
                self.changed.clear()
                over = self.turn.over
                yield
                if not over:
                    await asyncio.sleep(INTERVAL)
        finally:
            if not self.task.done():
                self.stop("the page was left")
                await asyncio.wait([self.task])

    async def _work(self, tabs: Tabs, session: str, history: Conversation) -> None:
        turn = self.turn
        try:
            with tabs.admission.enter() as ticket:
                if not ticket.admitted:
                    turn.status = "waiting for a free place"
                    self.changed.set()
                await ticket.wait()
                await self._listen(tabs, session, history)
        except (asyncio.CancelledError, RunCancelled):
            turn.end()
        except Exception as error:
            if not isinstance(error, AdmissionError):
                logger.exception("a turn of the chat failed")
            turn.end(failure_of(error, tabs.debug))
        finally:
            turn.end()
            self.changed.set()

    async def _listen(self, tabs: Tabs, session: str, history: Conversation) -> None:
        turn = self.turn
        turn.begin()
        stream = tabs.flow.stream(turn.question, session=session, history=history, timeout=tabs.timeout)
        async with stream:
            self.run = stream.run
            async for event in stream:
                turn.take(event)
                self.changed.set()
