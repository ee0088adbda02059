"""The part of the page with which files are added to a question; only for flows that take files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio

from .file_lists import chosen
from .handlers import Handlers
from .words import language_of

__all__ = ["Attaching"]

SCRIPT = Path(__file__).resolve().parent / "files.js"


class Attaching:
    """Is made where it is to stand; `connect` says when it is drawn anew: whenever `side` is."""

    def __init__(self, page: Handlers) -> None:
        self.page = page
        self.area = gradio.HTML(
            "",
            elem_id="mr-files",
            padding=False,
            apply_default_css=False,
            js_on_load=SCRIPT.read_text(encoding="utf-8"),
        )

    def connect(self, side: Any) -> None:
        quiet = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
        self.area.act(self.act, outputs=[self.area], trigger_mode="multiple", **quiet)
        side.change(self.show, outputs=[self.area], **quiet)

    async def act(self, request: gradio.Request, event: gradio.EventData) -> str:
        """What files.js tells: `attach` a file that has come, or `remove` one."""
        tab, tabs = self.page.tab(request), self.page.tabs
        data = event._data or {}
        action, id = data.get("action"), str(data.get("id", ""))
        file = tabs.uploads.pop((tab.identity.name, id), None) if action == "attach" else None
        shelf = tab.conversations.shelf
        if file is not None and shelf is not None:
            tab.attached.append(file)
            while len(tab.attached) > tabs.intake.most:
                shelf.drop(tab.attached.pop(0))
        elif action == "remove":
            for file in [one for one in tab.attached if one.id == id]:
                tab.attached.remove(file)
                if shelf is not None:
                    shelf.drop(file)
        return await self.show(request)

    async def show(self, request: gradio.Request) -> str:
        tab, tabs = self.page.tab(request), self.page.tabs
        scope = getattr(request.request, "scope", None) or {}
        return chosen(
            tab.attached,
            tabs.intake.accepts,
            tabs.intake.most > 1,
            tabs.max_upload,
            scope.get("root_path", ""),
            language_of(scope),
        )
