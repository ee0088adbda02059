"""A turn while its run goes on, in a task of its own, which pages only look at."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from ...flow.calls import start_body
from ...streaming.attachments import attach
from ...streaming.errors import AdmissionError, Overloaded, QueueError, RunCancelled
from ...streaming.events import Data, Event, RunFinished, TextDelta
from ...streaming.messages import Conversation as History
from ...streaming.messages import Message
from ...streaming.options import Options
from ...streaming.runs import Run
from ...streaming.starting import start
from ...streaming.streams import Stream
from ..file_inputs import FileRefused
from ..loading import loading_stage
from .products import files_in
from .readings import Reading
from .turns import Failure, Turn, failure_of

if TYPE_CHECKING:
    from ..admission import Ticket
    from ..tallies import Counted
    from .tabs import Tab, Tabs

__all__ = ["LiveTurn"]

logger = logging.getLogger("millrace.chat")

ENDPOINT = "chat"
"""What its runs are counted as."""

CLOSING = "the server is shutting down"

INTERVAL = 0.04
"""Seconds between two updates of a page: what arrives in between is shown together."""

POLL = 0.2
"""Seconds between two looks at a model that is loading for somebody else, and at the line."""

MOST_MADE = 64 * 2**20
"""Bytes of a file that a flow makes."""

KEEP = 2.0
"""Seconds between two times that an unfinished answer is written down."""


class LiveTurn:
    """The run of a turn, from its place in line to its end. Any number of pages `follow` it.

    Where runs outlive the page that asked, this one has no listener: it is in its queue, and read from there.
    """

    def __init__(self, turn: Turn, tab: Tab, tabs: Tabs) -> None:
        self.turn = turn
        self.asker = tab
        self.conversation = tab.conversation
        self.conversations = tab.conversations
        self.visitor = tab.visitor
        self.owner = tab.identity.owner
        self.tabs = tabs
        self.record = tabs.records.begin(self.owner, turn.question, tabs.flow.name)
        self.ended = asyncio.Event()
        self._wakers: set[asyncio.Event] = set()
        self._readings: WeakKeyDictionary[Tab, Reading] = WeakKeyDictionary()
        self._run: Run | None = None
        self._counted: Counted | None = None
        self._ticket: Ticket | None = None
        self._task: asyncio.Task[None] | None = None
        self._kept = 0.0
        self._begun = False

    def start(self, history: History) -> None:
        self._task = asyncio.get_running_loop().create_task(self._work(history))

    def stop(self, reason: str) -> None:
        """Stops the run, or the waiting for a place; without waiting."""
        if self.turn.over:
            return
        self.turn.stopping()
        self._wake()
        if self._run is not None:
            self._run.cancel(reason)
        elif self._task is not None and self._begun:
            if self._counted is not None:
                self._counted.reason = reason
            self._task.cancel()

    async def updates(self) -> AsyncGenerator[None, None]:
        """One item for each moment at which a page is to be brought up to date; the last one after the end.

        Leaving the iteration leaves the run alone.
        """
        waker = asyncio.Event()
        self._wakers.add(waker)
        try:
            yield
            over = False
            while not over:
                await self._change(waker)
                over = self.turn.over
                yield
                if not over:
                    await asyncio.sleep(INTERVAL)
        finally:
            self._wakers.discard(waker)

    def turn_for(self, tab: Tab) -> Turn:
        """What a tab shows of it. Where runs outlive their page, and another tab has asked (as before a reload), that
        is what the run's queue has, from the first event on.
        """
        run = self._run
        if tab is self.asker or self.tabs.resume is None or run is None or self.turn.state != "running":
            return self.turn
        try:
            reading = self._readings.get(tab)
            if reading is None:
                reading = self._readings[tab] = Reading(self.turn, attach(run.id, self.tabs.queue))
            return reading.turn()
        except QueueError as error:
            logger.warning("an answer cannot be read from its queue: %s", error)
            return self.turn

    def _wake(self) -> None:
        for waker in self._wakers:
            waker.set()

    async def _change(self, waker: asyncio.Event) -> None:
        """Waits until there is something new to show: from the run, of the line, or of a model that is loading."""
        turn = self.turn
        while not waker.is_set() and not turn.over:
            if turn.state == "waiting":
                if self._place_changed():
                    return
            elif turn.silent and (stage := loading_stage(self.tabs.flow)) is not None:
                if turn.progress(*stage):
                    return
            else:
                await waker.wait()
                break
            try:
                async with asyncio.timeout(POLL):
                    await waker.wait()
            except TimeoutError:
                pass
        waker.clear()

    def _place_changed(self) -> bool:
        ticket = self._ticket
        return ticket is not None and not ticket.admitted and self.turn.queued(ticket.place)

    # ------------------------------------------------------------ its task

    async def _work(self, history: History) -> None:
        turn, tabs = self.turn, self.tabs
        self._begun = True
        try:
            if turn.state == "stopping":
                return
            with tabs.admission.tally.begin(None, ENDPOINT) as counted:
                self._counted = counted
                if tabs.closing:
                    counted.reason = CLOSING
                    raise Overloaded(CLOSING)
                with tabs.admission.enter(self.owner) as self._ticket:
                    if not self._ticket.admitted:
                        turn.queued(self._ticket.place)
                        self._wake()
                    await self._ticket.wait()
                    counted.admit()
                    turn.begin()
                    await self._listen(history, counted)
        except (asyncio.CancelledError, RunCancelled):
            pass
        except AdmissionError as error:
            turn.end(failure_of(error))
        except FileRefused as error:
            turn.end(Failure(str(error)))
        except Exception as error:
            logger.exception("a turn of the chat failed")
            turn.end(failure_of(error, tabs.debug))
        finally:
            turn.end()
            for reading in self._readings.values():
                reading.close()
            failure = turn.failure
            self.record.end("error" if failure else "cancelled", None if failure is None else failure.what)
            tabs.lives.discard(self)
            if self.conversation.live is self:
                self.conversation.live = None
            self.conversations.keep(self.conversation)
            self.ended.set()
            self._wake()

    async def _listen(self, history: History, counted: Counted) -> None:
        turn, tabs = self.turn, self.tabs
        sampling = None
        if tabs.adjustable:
            settings = self.conversation.settings
            sampling = settings.sampling() or None
            if settings.system:
                history = History([Message.system(settings.system), *history])
        x = await self._input(history)
        options = Options(
            self.conversation.session,
            history,
            tabs.timeout,
            sampling,
            queue=tabs.queue,
            owner=self.owner.name,
        )
        async with self._running(x, options) as events:
            run = counted.run = self._run
            assert run is not None
            try:
                async for event in events:
                    await self._keep_files(event)
                    turn.take(event)
                    self.record.take(event)
                    if type(event) is TextDelta and event.output:
                        counted.hear(event)
                    elif type(event) is RunFinished and event.status == "done":
                        counted.conclude(event)
                    self._wake()
                    if event.time - self._kept > KEEP:
                        self._kept = event.time
                        self.conversations.keep(self.conversation)
                run.outcome()
            finally:
                tabs.admission.spent(self.owner, run.usage.total_tokens)

    @asynccontextmanager
    async def _running(self, x: Any, options: Options) -> AsyncIterator[AsyncIterable[Event]]:
        """Has the run begin, gives what it says, and ends it with the block."""
        body, name = partial(start_body, self.tabs.flow, x), self.tabs.flow.name
        if self.tabs.resume is None:
            async with Stream(body, options, None, name) as stream:
                self._run = stream.run
                yield stream
            return
        run = self._run = start(body, options, name, asyncio.get_running_loop())
        events = run.events()
        try:
            yield events
        finally:
            events.close()
            run.cancel("its turn has ended")
            await run.wait()

    async def _input(self, history: History) -> Any:
        """What the flow is called with."""
        turn, tabs, shelf = self.turn, self.tabs, self.conversations.shelf
        text = [*history, Message.user(turn.question)] if tabs.takes_messages else turn.question
        if not tabs.intake.files or shelf is None:
            return text
        files = [shelf.named(file, self.conversation.id) for file in turn.files]
        return await asyncio.to_thread(tabs.intake.value, text, files)  # images are decoded

    async def _keep_files(self, event: Event) -> None:
        """Files that the answer consists of are copied, so that the page can show them."""
        shelf = self.conversations.shelf
        if isinstance(event, Data) and event.output:
            value = event.value
        elif isinstance(event, RunFinished) and event.status == "done" and not self.turn.made:
            value = event.result
        else:
            return
        if shelf is None or isinstance(value, str) or self.conversation.deleted:
            return
        for file in await asyncio.to_thread(files_in, value):
            self.turn.show(await asyncio.to_thread(shelf.put, self.conversation.id, file, MOST_MADE))
