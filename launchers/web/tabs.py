"""The browser tabs that talk to a chat: each with its conversation, its session and the turn it waits for."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from ...flow.steps import Step
from ...streaming.errors import AdmissionError, Overloaded, RunCancelled
from ...streaming.events import RunFinished, TextDelta
from ...streaming.messages import Conversation, Message
from ...streaming.runs import Run
from ...streaming.sessions import new_session_id
from ..inputs import takes_messages
from ..loading import loading_stage
from ..owners import ANYBODY, Owner
from .turns import Turn, failure_of

if TYPE_CHECKING:
    from ..admission import Admission
    from ..tallies import Counted

__all__ = ["Tab", "Tabs"]

logger = logging.getLogger("millrace.chat")

ENDPOINT = "chat"
"""What its runs are counted as."""

CLOSING = "the server is shutting down"

INTERVAL = 0.04
"""Seconds between two updates of a page: what arrives in between is shown together."""

POLL = 0.2
"""Seconds between two looks at a model that is loading for somebody else."""

GRACE = 5.0
"""Seconds in which a question's page must have opened its long request; a program that has none is no page."""

KEPT = 1000
"""Tabs whose conversations are kept; the one longest unused goes first."""


class Tab:
    """One browser tab: its session, its turns and, at most, one turn that goes on.

    `pages` is how many pages are there under its name: one, unless it was left or is just coming back.
    """

    def __init__(self) -> None:
        self.pages = 0
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
    that only lost its network comes back under the same name. Where `attended`, each page tells that it is there
    by `arrive` and `depart`, and a question without a page is not answered for long.
    """

    def __init__(
        self, flow: Step[Any, Any], admission: Admission, *, timeout: float | None = None, debug: bool = False
    ) -> None:
        self.flow = flow
        self.admission = admission
        self.timeout = timeout
        self.debug = debug
        self.takes_messages = takes_messages(flow)
        self.attended = False
        self._closing = asyncio.Event()
        self._tabs: OrderedDict[str, Tab] = OrderedDict()

    @property
    def live(self) -> list[Turn]:
        """The turns that go on, those included that are just being stopped."""
        return [tab.live.turn for tab in self._tabs.values() if tab.live is not None and tab.busy]

    def open(self, name: str) -> Tab:
        """The tab of that name, a new one if need be."""
        tab = self._tabs.setdefault(name, Tab())
        self._tabs.move_to_end(name)
        while len(self._tabs) > KEPT:
            oldest = next(iter(self._tabs))
            self._tabs.pop(oldest).stop("too many tabs")
        return tab

    def arrive(self, name: str) -> None:
        """A page of that name is there."""
        self.open(name).pages += 1

    def depart(self, name: str) -> None:
        """A page of that name is gone."""
        tab = self._tabs.get(name)
        if tab is not None:
            tab.pages -= 1
            if tab.pages <= 0:
                tab.stop("the page was left")

    def leave(self, name: str) -> None:
        """The tab was closed, reloaded or lost."""
        tab = self._tabs.get(name)
        if tab is not None:
            tab.stop("the page was left")

    async def ask(self, tab: Tab, question: str, owner: Owner = ANYBODY) -> AsyncGenerator[Turn, None]:
        """Answers a question; yields the turn whenever there is something new to show, and at its end.

        Leaving the iteration stops the run. The turn belongs to the tab from the first step on.
        """
        history = tab.history()
        turn = Turn(question)
        tab.turns.append(turn)
        tab.live = live = LiveTurn(turn, self, owner)
        live.start(tab.session, history)
        absence = asyncio.get_running_loop().call_later(GRACE, self._stop_unattended, tab, live)
        try:
            async with aclosing(live.updates()) as updates:
                async for _ in updates:
                    yield turn
        finally:
            absence.cancel()
            if tab.live is live:
                tab.live = None

    def _stop_unattended(self, tab: Tab, live: LiveTurn) -> None:
        if self.attended and not tab.pages:
            live.stop("there is no page")

    # ------------------------------------------------------------ the end of the server

    @property
    def closing(self) -> bool:
        return self._closing.is_set()

    def close(self) -> None:
        """Takes no more questions and lets go of the pages that wait for nothing; others may wait for their end."""
        self._closing.set()

    def cancel_all(self, reason: str) -> None:
        """Stops all turns that go on."""
        for tab in self._tabs.values():
            tab.stop(reason)

    async def until_closed(self, name: str) -> None:
        """Waits until the server is closing and the tab of that name waits for no answer any more."""
        await self._closing.wait()
        tab = self._tabs.get(name)
        if tab is not None and tab.live is not None:
            await tab.live.ended.wait()


class LiveTurn:
    """A turn while its run goes on, in a task of its own, which the page's updates only look at."""

    def __init__(self, turn: Turn, tabs: Tabs, owner: Owner) -> None:
        self.turn = turn
        self.tabs = tabs
        self.owner = owner
        self.ended = asyncio.Event()
        self._changed = asyncio.Event()
        self._run: Run | None = None
        self._counted: Counted | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, session: str, history: Conversation) -> None:
        self._task = asyncio.get_running_loop().create_task(self._work(session, history))

    def stop(self, reason: str) -> None:
        """Stops the run, or the waiting for a place."""
        self.turn.stopping()
        self._changed.set()
        if self._run is not None:
            self._run.cancel(reason)
        elif self._task is not None:
            if self._counted is not None:
                self._counted.reason = reason
            self._task.cancel()

    async def updates(self) -> AsyncGenerator[None, None]:
        """One item for each moment at which the page is to be brought up to date; the last one after the end."""
        assert self._task is not None
        try:
            yield
            over = False
            while not over:
                await self._change()
                over = self.turn.over
                yield
                if not over:
                    await asyncio.sleep(INTERVAL)
        finally:
            if not self._task.done():
                self.stop("the page was left")
                await asyncio.wait([self._task])

    async def _change(self) -> None:
        """Waits until there is something new to show: from the run, or about a model that somebody else loads."""
        turn = self.turn
        while turn.silent and not self._changed.is_set():
            stage = loading_stage(self.tabs.flow)
            if stage is None:
                break
            if turn.progress(*stage):
                return
            try:
                async with asyncio.timeout(POLL):
                    await self._changed.wait()
            except TimeoutError:
                pass
        await self._changed.wait()
        self._changed.clear()

    async def _work(self, session: str, history: Conversation) -> None:
        turn, tabs = self.turn, self.tabs
        try:
            with tabs.admission.tally.begin(None, ENDPOINT) as counted:
                self._counted = counted
                if tabs.closing:
                    counted.reason = CLOSING
                    raise Overloaded(CLOSING)
                with tabs.admission.enter(self.owner) as ticket:
                    if not ticket.admitted:
                        turn.status = "waiting for a free place"
                        self._changed.set()
                    await ticket.wait()
                    counted.admit()
                    turn.begin()
                    await self._listen(session, history, counted)
        except (asyncio.CancelledError, RunCancelled):
            pass
        except AdmissionError as error:
            turn.end(failure_of(error))
        except Exception as error:
            logger.exception("a turn of the chat failed")
            turn.end(failure_of(error, tabs.debug))
        finally:
            turn.end()
            self.ended.set()
            self._changed.set()

    async def _listen(self, session: str, history: Conversation, counted: Counted) -> None:
        turn, tabs = self.turn, self.tabs
        x = [*history, Message.user(turn.question)] if tabs.takes_messages else turn.question
        stream = tabs.flow.stream(x, session=session, history=history, timeout=tabs.timeout)
        async with stream:
            self._run = counted.run = stream.run
            try:
                async for event in stream:
                    turn.take(event)
                    if type(event) is TextDelta and event.output:
                        counted.hear(event)
                    elif type(event) is RunFinished and event.status == "done":
                        counted.conclude(event)
                    self._changed.set()
            finally:
                tabs.admission.spent(self.owner, stream.run.usage.total_tokens)
