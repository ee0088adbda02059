"""The browser tabs that talk to a chat: whose they are, and which conversation each of them shows."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from ...flow.steps import Step
from ...streaming.errors import SessionBusy
from ...streaming.messages import Conversation as History
from ...streaming.queues import Queue
from ..file_inputs import MAX_UPLOAD, intake_of
from ..inputs import answering_models, takes_messages
from .archives import Archives, MemoryArchives
from .conversations import Conversations
from .identities import Identity
from .lives import LiveTurn
from .run_records import Record
from .run_records import Shelves as RecordShelves
from .shelves import Shelves, StoredFile
from .turns import Turn

if TYPE_CHECKING:
    from ..admission import Admission

__all__ = ["Tab", "Tabs"]

GRACE = 5.0
"""Seconds in which a question's page must have opened its long request; a program that has none is no page."""

KEPT = 1000
"""Tabs that are remembered; the one longest unused goes first."""

LEFT = "the page was left"


class Visitor:
    """Somebody who chats, in any number of tabs."""

    def __init__(self, conversations: Conversations) -> None:
        self.conversations = conversations
        self.tabs = 0
        self.absence: asyncio.TimerHandle | None = None


class Tab:
    """One browser tab: its user, the conversation that it shows, and the turn that was asked for in it.

    `pages` is how many connections of its page wait for answers: one, while one is on its way. `attached` are the files
    that go with the next question, `adjusted` the id of the conversation whose settings it shows. `words` is what the
    list is searched for, `found` the ids of what was found; None without a search. `shown` is the turn that its page is
    being told of; whenever that changes `looks` is counted up, so that whoever told of another one ceases.
    """

    def __init__(self, identity: Identity, visitor: Visitor) -> None:
        self.identity = identity
        self.visitor = visitor
        self.pages = 0
        self.words = ""
        self.found: set[str] | None = None
        self.conversation = visitor.conversations.new()
        self.attached: list[StoredFile] = []
        self.adjusted = ""
        self.asked: LiveTurn | None = None
        self.shown: LiveTurn | None = None
        self.looks = 0
        self.seen = self.state

    @property
    def conversations(self) -> Conversations:
        return self.visitor.conversations

    @property
    def turns(self) -> list[Turn]:
        """Those of its conversation, as this tab shows them."""
        live, turns = self.conversation.live, self.conversation.turns
        if live is None:
            return turns
        return [live.turn_for(self) if turn is live.turn else turn for turn in turns]

    @property
    def session(self) -> str:
        return self.conversation.session

    @property
    def busy(self) -> bool:
        return self.conversation.busy

    @property
    def state(self) -> tuple[str, int, bool]:
        """What a page that has `seen` it need not be shown again."""
        return self.conversation.id, self.conversation.changes, self.conversation.busy

    @property
    def follows(self) -> bool:
        """Whether its page is being told of the turn that goes on."""
        return self.shown is not None and self.shown is self.conversation.live

    @property
    def record(self) -> Record | None:
        """The run that goes on in what it shows, or else the one that was asked for last in it."""
        live = self.conversation.live or self.asked
        return None if live is None else live.record

    def history(self) -> History:
        """What the next turn sees of the earlier ones."""
        return self.conversation.history()

    def look(self, live: LiveTurn | None) -> int:
        """Its page is told of this turn from now on, and no more of others; None: of none."""
        self.shown = live
        self.looks += 1
        return self.looks

    def stop(self, reason: str) -> None:
        """Stops the turn that goes on in its conversation, if one does; without waiting."""
        self.conversation.stop(reason)

    def show(self, id: str) -> bool:
        """Turns to another conversation; false where there is none of that id. What goes on in the last one goes on."""
        found = self.conversations.open(id)
        if found is not None and found is not self.conversation:
            self.conversation = found
            self.look(None)
        return found is not None

    def refresh(self) -> None:
        """Brings the conversation up to date with what is kept; a new one in place of one that was deleted."""
        if self.conversations.open(self.conversation.id) is None:
            self.begin()

    def begin(self) -> None:
        """A new conversation, which is a new session; one in which nothing was asked stays."""
        if self.conversation.turns or self.conversation.deleted:
            self.conversation = self.conversations.new()
            self.look(None)

    def clear(self) -> None:
        """Deletes the conversation; a new one begins."""
        self.conversations.delete(self.conversation.id)
        self.begin()

    async def make_way(self, reason: str) -> None:
        """Stops what goes on, waits for its end, and shows it no more: what is shown next is what comes next."""
        self.look(None)
        await self.conversation.stopped(reason)

    async def cut(self, turn: int) -> str:
        """Stops what goes on, takes the turns from that one on away, and returns its question; empty without one.

        Its files wait for another question.
        """
        conversation = self.conversation
        await self.make_way("asked anew in the chat")
        if not 0 <= turn < len(conversation.turns):
            return ""
        first = conversation.turns[turn]
        self.conversations.cut(conversation, turn)
        return first.question


class Tabs:
    """All tabs of one chat, by their user and by the name that the page gives itself.

    A page that is closed or reloaded `leaves`. Where `resume` is None its runs stop then; else they go on, and are
    stopped where their user does not come back to them within so many seconds. Where `attended`, each page that waits
    for an answer is known to be there by `arrive` and `depart`, and a question without a page is not answered for long.
    """

    def __init__(
        self,
        flow: Step[Any, Any],
        admission: Admission,
        *,
        timeout: float | None = None,
        debug: bool = False,
        archives: Archives | None = None,
        resume: float | None = None,
        queue: Queue | None = None,
        max_upload: int = MAX_UPLOAD,
    ) -> None:
        self.flow = flow
        self.intake = intake_of(flow)
        self.max_upload = max_upload
        self.admission = admission
        self.timeout = timeout
        self.debug = debug
        self.archives = archives or MemoryArchives()
        self.shelves = Shelves(self.archives)
        self.uploads: OrderedDict[tuple[str, str], StoredFile] = OrderedDict()
        """Files that have come, by their identity and id, until a tab attaches them; the oldest are forgotten."""
        self.resume = resume
        self.queue = queue
        self.adjustable = bool(answering_models(flow))
        """Whether there is a model that a conversation's settings are for."""
        self.takes_messages = takes_messages(flow)
        self.attended = False
        self.lives: set[LiveTurn] = set()
        self.records = RecordShelves()
        self.closing = False
        self._tabs: OrderedDict[tuple[str, str], Tab] = OrderedDict()
        self._visitors: dict[str, Visitor] = {}

    @property
    def live(self) -> list[Turn]:
        """The turns that go on, those included that are just being stopped."""
        return [live.turn for live in self.lives]

    def open(self, name: str, identity: Identity | None = None) -> Tab:
        """The tab of that name, a new one if need be. Without an identity it is somebody by itself."""
        identity = identity or Identity.of_browser("page", name)
        key = identity.name, name
        tab = self._tabs.get(key)
        if tab is None:
            tab = self._tabs[key] = Tab(identity, self._visitor(identity))
            tab.visitor.tabs += 1
            while len(self._tabs) > KEPT:
                self._forget(next(iter(self._tabs)))
        self._tabs.move_to_end(key)
        return tab

    def conversations(self, identity: Identity) -> Conversations:
        """Those of somebody, whether there is a tab or not."""
        visitor = self._visitors.get(identity.name)
        return visitor.conversations if visitor else self._conversations(identity)

    def _conversations(self, identity: Identity) -> Conversations:
        return Conversations(self.archives.of(identity.name), self.shelves.of(identity.name))

    def _visitor(self, identity: Identity) -> Visitor:
        if identity.name not in self._visitors:
            self._visitors[identity.name] = Visitor(self._conversations(identity))
        return self._visitors[identity.name]

    def _forget(self, key: tuple[str, str]) -> None:
        tab = self._tabs.pop(key)
        if tab.asked is not None:
            tab.asked.stop("too many tabs")
        tab.visitor.tabs -= 1
        if not tab.visitor.tabs:
            self._visitors.pop(tab.identity.name, None)

    # ------------------------------------------------------------ coming and leaving

    def arrive(self, name: str, identity: Identity | None = None) -> None:
        """A page of that name is there, and waits for an answer."""
        tab = self.open(name, identity)
        tab.pages += 1

    def depart(self, name: str, identity: Identity | None = None, left: bool = True) -> None:
        """A page of that name is gone, or, where it has not `left`, has heard all that it waited for."""
        tab = self._found(name, identity)
        if tab is not None and tab.pages:
            tab.pages -= 1
            if not tab.pages and (left or self.resume is not None):
                self._left(tab)

    def leave(self, name: str, identity: Identity | None = None) -> None:
        """The tab was closed, reloaded or lost."""
        tab = self._found(name, identity)
        if tab is not None:
            self._left(tab)

    def _found(self, name: str, identity: Identity | None) -> Tab | None:
        return self._tabs.get(((identity or Identity.of_browser("page", name)).name, name))

    def _left(self, tab: Tab) -> None:
        if self.resume is None:
            for live in list(self.lives):
                if live.asker is tab:
                    live.stop(LEFT)
        elif tab.visitor.absence is None and any(live.visitor is tab.visitor for live in self.lives):
            loop = asyncio.get_running_loop()
            tab.visitor.absence = loop.call_later(self.resume, self._stayed_away, tab.visitor)

    def _stayed_away(self, visitor: Visitor) -> None:
        visitor.absence = None
        for live in list(self.lives):
            if live.visitor is visitor and not self._is_followed(live):
                live.stop("the page was left, and nobody came back")

    def _is_followed(self, live: LiveTurn) -> bool:
        """Whether there is a page that waits for it."""
        return any(
            tab.pages and (tab is live.asker or tab.shown is live)
            for tab in self._tabs.values()
            if tab.visitor is live.visitor
        )

    # ------------------------------------------------------------ asking

    async def ask(self, tab: Tab, question: str) -> AsyncGenerator[Turn, None]:
        """Answers a question; yields the turn whenever there is something new to show, and at its end.

        Leaving the iteration is leaving the page. The turn belongs to the conversation from the first step on.

        Raises:
            SessionBusy: another question of this conversation is being answered.
        """
        live = self.begin(tab, question)
        async with aclosing(self.follow(tab, live)) as turns:
            async for turn in turns:
                yield turn

    def begin(self, tab: Tab, question: str, files: Iterable[StoredFile] = ()) -> LiveTurn:
        """Puts a question, as the next turn of the tab's conversation. Files that are gone are left out.

        Raises:
            SessionBusy: another question of this conversation is being answered.
        """
        tab.refresh()
        conversation = tab.conversation
        if conversation.busy:
            raise SessionBusy(
                f"the conversation {conversation.title!r} is being answered already; wait for the answer, or stop it"
            )
        history = conversation.history()
        shelf = tab.conversations.shelf
        kept = [file for file in files if shelf is not None and shelf.claim(file, conversation.id)]
        turn = conversation.begin(question, kept)
        live = LiveTurn(turn, tab, self)
        conversation.live = tab.asked = live
        self.lives.add(live)
        tab.conversations.keep(conversation)
        live.start(history)
        asyncio.get_running_loop().call_later(GRACE, self._stop_unattended, tab, live)
        return live

    async def follow(self, tab: Tab, live: LiveTurn) -> AsyncGenerator[Turn, None]:
        """A turn of the conversation that a tab shows, as `ask` gives it; until the tab shows another one.

        One that was asked for in the tab is waited for to its end all the same, so that its page is known to be there.
        """
        look = tab.look(live)
        try:
            async with aclosing(live.updates()) as updates:
                async for _ in updates:
                    if tab.looks == look:
                        yield live.turn
                    elif live.asker is not tab:
                        return
        except (GeneratorExit, asyncio.CancelledError):
            if live.asker is tab and self.resume is None:
                live.stop(LEFT)
                await live.ended.wait()
            raise
        finally:
            if tab.looks == look:
                tab.shown = None

    def _stop_unattended(self, tab: Tab, live: LiveTurn) -> None:
        if self.attended and not tab.pages:
            live.stop("there is no page")

    # ------------------------------------------------------------ the end of the server

    def close(self) -> None:
        """Takes no more questions; answers that are on their way may be waited for."""
        self.closing = True

    def cancel_all(self, reason: str) -> None:
        """Stops all turns that go on."""
        for live in list(self.lives):
            live.stop(reason)
