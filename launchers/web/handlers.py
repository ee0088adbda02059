"""What the page does when its user does something; from the annotations Gradio reads what each is to be given.

Each handler gives the page's three parts: the box, the messages and the list at the side.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import gradio

from ...streaming.errors import SessionBusy
from ..file_inputs import FileRefused
from .drawings import Drawer, View, turn_at
from .file_routes import FILES
from .identities import identity_of
from .markup import escaped
from .shelves import StoredFile
from .sides import side
from .tabs import Tab, Tabs
from .views import Looker
from .words import language_of, said

__all__ = ["Handlers"]

Updates = AsyncGenerator[Any, None]


class Handlers:
    """The handlers of one page's events."""

    def __init__(self, tabs: Tabs) -> None:
        self.tabs = tabs
        self.drawer = Drawer()

    def tab(self, request: gradio.Request) -> Tab:
        """The tab that a request is from."""
        scope = getattr(request.request, "scope", None)
        return self.tabs.open(request.session_hash, identity_of(scope, request.session_hash))

    def looker(self, request: gradio.Request) -> Looker:
        """Who looks at one of the panels."""
        tab = self.tab(request)
        return Looker(tab.identity.owner, tab.record)

    # ------------------------------------------------------------ asking

    async def answer(self, question: str, request: gradio.Request) -> Updates:
        """The question in the box, which is emptied once it is taken."""
        tab = self.tab(request)
        if not (question.strip() or tab.attached) or (tab.busy and tab.follows):
            yield gradio.skip(), gradio.skip(), gradio.skip()  # typing ahead is left alone
            return
        async with aclosing(self._asked(tab, question, request, {"value": ""}, tab.attached)) as updates:
            async for update in updates:
                yield update

    async def answer_example(self, request: gradio.Request, example: gradio.SelectData) -> Updates:
        tab = self.tab(request)
        await tab.make_way("an example was clicked")
        async with aclosing(self._asked(tab, example.value["text"], request)) as updates:
            async for update in updates:
                yield update

    async def retry(self, request: gradio.Request) -> Updates:
        """The last question again; what goes on is stopped first."""
        tab = self.tab(request)
        async with aclosing(self._again(tab, len(tab.turns) - 1, "", request)) as updates:
            async for update in updates:
                yield update

    async def edit(self, request: gradio.Request, edited: gradio.EditData) -> Updates:
        """Another question in place of an earlier one; what came after it goes."""
        tab = self.tab(request)
        place = turn_at(tab.turns, edited.index if isinstance(edited.index, int) else edited.index[0])
        async with aclosing(self._again(tab, place, _text_of(edited.value), request)) as updates:
            async for update in updates:
                yield update

    async def _again(self, tab: Tab, place: int, instead: str, request: gradio.Request) -> Updates:
        """Asks what the turn at a place asked, or something else `instead`, without it and what came after."""
        files = tab.turns[place].files if 0 <= place < len(tab.turns) else ()
        question = await tab.cut(place)
        if not question and not files:
            yield self._view(tab, request)
            return
        async with aclosing(self._asked(tab, instead.strip() or question, request, files=files)) as updates:
            async for update in updates:
                yield update

    async def _asked(
        self,
        tab: Tab,
        question: str,
        request: gradio.Request,
        box: dict[str, Any] | None = None,
        files: Sequence[StoredFile] = (),
    ) -> Updates:
        try:
            if self.tabs.intake.required and not files:
                raise FileRefused("Add a file first")
            self.tabs.begin(tab, question, files)
            tab.attached = []
        except SessionBusy:
            self.warn("Another tab is being answered in this conversation. Wait for it, or stop it.", request)
            box = None
        except FileRefused as error:
            self.warn(str(error), request)
            box = None
        async with aclosing(self._followed(tab, request, box)) as updates:
            async for update in updates:
                yield update

    async def _followed(
        self, tab: Tab, request: gradio.Request, box: dict[str, Any] | None = None
    ) -> Updates:
        """The page as it is, and each time there is something new until the turn that goes on is over."""
        live = tab.conversation.live
        look = tab.look(live)
        try:
            yield self._view(tab, request, box)
        except BaseException:
            if tab.looks == look:
                tab.shown = None
            raise
        if live is None:
            return
        async with aclosing(self.tabs.follow(tab, live)) as turns:
            async for turn in turns:
                if turn.over:
                    yield self._view(tab, request)
                else:
                    yield (
                        gradio.skip(),
                        self.drawer.messages(tab.turns, self.view(tab, request)),
                        gradio.skip(),
                    )

    # ------------------------------------------------------------ stopping and taking back

    async def stop(self, request: gradio.Request) -> None:
        self.tab(request).stop("stopped in the chat")

    async def undo(self, request: gradio.Request) -> Any:
        """Takes the last turn away, and puts its question back into the box."""
        tab = self.tab(request)
        files = tab.turns[-1].files if tab.turns else ()
        question = await tab.cut(len(tab.turns) - 1)
        tab.attached = list(files)
        return self._view(tab, request, {"value": question} if question else None)

    async def clear(self, request: gradio.Request) -> Any:
        tab = self.tab(request)
        tab.clear()
        return self._view(tab, request)

    async def leave(self, request: gradio.Request) -> None:
        scope = getattr(request.request, "scope", None)
        self.tabs.leave(request.session_hash, identity_of(scope, request.session_hash))

    # ------------------------------------------------------------ the list

    async def begin(self, request: gradio.Request) -> Any:
        """A new conversation."""
        tab = self.tab(request)
        tab.begin()
        return self._view(tab, request)

    async def search(self, words: str, request: gradio.Request) -> Any:
        tab = self.tab(request)
        tab.words = words
        tab.found = None
        if words.strip():
            found = await tab.conversations.search(words)
            if tab.words != words:
                return gradio.skip()  # more has been typed since
            tab.found = {heading.id for heading in found}
        return self._side(tab, request)

    async def act(self, request: gradio.Request, event: gradio.EventData) -> Any:
        """What chat.js tells: `open` one, `rename`, `delete`, or `refresh` after another tab has done something.

        Where an answer is on its way in what is shown then, the list says so, and chat.js asks to `follow` it.
        """
        tab = self.tab(request)
        data = event._data or {}
        action, id = data.get("action"), str(data.get("id", ""))
        if action == "open":
            tab.show(id)
        elif action == "rename":
            tab.conversations.rename(id, str(data.get("title", "")))
        elif action == "delete":
            tab.conversations.delete(id)
        tab.refresh()
        if tab.follows or tab.seen == tab.state:
            return gradio.skip(), gradio.skip(), self._side(tab, request)
        return self._view(tab, request)

    async def follow(self, request: gradio.Request) -> Updates:
        """The page as it is, and the answer that is on its way."""
        tab = self.tab(request)
        if tab.follows:
            yield gradio.skip(), gradio.skip(), gradio.skip()
            return
        async with aclosing(self._followed(tab, request)) as updates:
            async for update in updates:
                yield update

    # ------------------------------------------------------------ what is shown

    def _view(self, tab: Tab, request: gradio.Request, box: dict[str, Any] | None = None) -> Any:
        """The whole page, as it is at this moment."""
        tab.seen = tab.state
        buttons = {"submit_btn": not tab.busy, "stop_btn": tab.busy}
        return (
            gradio.update(**buttons, **(box or {})),
            self.drawer.messages(tab.turns, self.view(tab, request)),
            self._side(tab, request),
        )

    def _side(self, tab: Tab, request: gradio.Request) -> str:
        headings = [
            heading
            for heading in tab.conversations.headings()
            if tab.found is None or heading.id in tab.found
        ]
        current = tab.conversation.id if tab.turns else ""
        busy = [heading.id for heading in headings if tab.conversations.busy(heading.id)]
        scope = getattr(request.request, "scope", None) or {}
        return side(
            headings,
            current,
            busy,
            scope.get("root_path", ""),
            searched=tab.found is not None,
            live=tab.busy and not tab.follows,
            language=language_of(scope),
        )

    def view(self, tab: Tab, request: gradio.Request) -> View:
        """How this page's turns are drawn."""
        scope = getattr(request.request, "scope", None) or {}
        return View(language_of(scope), f"{scope.get('root_path', '')}{FILES}/{tab.conversation.id}")

    def warn(self, words: str, request: gradio.Request) -> None:
        """Tells the user something beside the page."""
        scope = getattr(request.request, "scope", None)
        gradio.Warning(escaped(said(words, language_of(scope))))


def _text_of(value: Any) -> str:
    """The text of a message's content as the page sends it."""
    if isinstance(value, str):
        return value
    parts = value if isinstance(value, list) else [value]
    return "\n".join(
        part if isinstance(part, str) else str(part.get("text", ""))
        for part in parts
        if isinstance(part, str | dict)
    )
