"""The tabs beside the chat, drawn by Gradio: the flow at work, and the recent runs. Importing this imports Gradio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio

from ..owners import ANYBODY, Owner
from .flow_tabs import FlowView
from .labels import label
from .run_records import Record
from .run_tabs import RunsView
from .words import language_of, retold

__all__ = ["Looker", "build_flow", "build_runs"]

HERE = Path(__file__).resolve().parent
QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}


@dataclass(frozen=True, slots=True)
class Looker:
    """Who looks at a view: whose runs they may see, and the run that their page shows, if it has one."""

    owner: Owner = ANYBODY
    record: Record | None = None


Find = Callable[[gradio.Request], Looker]


def build_flow(view: FlowView, find: Find) -> None:
    """Adds the diagram to the Blocks that are open; `find` says who a request is from."""
    shown = _html(view.html(), "mr-flow-view")

    async def look(request: gradio.Request, event: gradio.EventData) -> Any:
        record = find(request).record
        if record is None or _told(event, "seen") == record.mark:
            return gradio.skip()
        return retold(view.html(record), language_of(request.request.scope))

    shown.look(look, outputs=[shown], **QUIET)


def build_runs(view: RunsView, find: Find) -> None:
    """Adds the recent runs to the Blocks that are open, the list beside the one that was chosen."""
    with gradio.Row(elem_id="mr-runs-view", equal_height=False):
        with gradio.Column(elem_id="mr-runs-side", scale=0, min_width=0):
            cards = _html(EMPTY, "mr-runs-list")
        with gradio.Column(scale=1, min_width=0):
            opened = _html(CLOSED, "mr-runs-open")

    async def look(chosen: str, request: gradio.Request, event: gradio.EventData) -> Any:
        owner, language = find(request).owner, language_of(request.request.scope)
        await asyncio.to_thread(view.look, owner)
        key = _told(event, "run") or chosen
        same = key == chosen
        list_is_known = same and _told(event, "seen") == view.mark(owner)
        return (
            gradio.skip() if list_is_known else retold(view.cards(owner, key), language),
            gradio.skip() if same else retold(view.run(owner, key), language),
            gradio.skip() if same else key,
        )

    async def follow(chosen: str, request: gradio.Request, event: gradio.EventData) -> Any:
        """The one that is open, while it goes on."""
        owner = find(request).owner
        seen = _told(event, "seen")
        if seen == view.mark_of(owner, chosen):
            return gradio.skip()
        return retold(view.run(owner, chosen), language_of(request.request.scope))

    chosen = gradio.Textbox("", visible=False)  # for a State, each page would keep a connection open
    cards.look(look, [chosen], [cards, opened, chosen], **QUIET)
    opened.look(follow, [chosen], [opened], **QUIET)


EMPTY = '<div class="mr-runs" data-seen=""></div>'
CLOSED = (
    '<div class="mr-run-open" data-seen=""><p class="mr-line">'
    f"{label('Choose a run to see what it did, and what it said.')}</p></div>"
)


def _html(value: str, name: str) -> Any:
    return gradio.HTML(
        value,
        elem_id=name,
        elem_classes="mr-view",
        padding=False,
        apply_default_css=False,
        js_on_load=(HERE / "views.js").read_text(encoding="utf-8"),
    )


def _told(event: gradio.EventData, name: str) -> str:
    data = event._data
    return str(data.get(name, "")) if isinstance(data, dict) else ""
