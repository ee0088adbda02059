"""The chat's page, drawn by Gradio. Importing this module imports Gradio, so only chats.py's functions do.

What happens in it is in handlers.py, how a conversation is drawn in drawings.py; here is what stands where.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import gradio

from .accounts import Account
from .adjusting import Adjusting
from .attaching import Attaching
from .flow_tabs import FlowView
from .handlers import Handlers
from .labels import i18n, label
from .markup import escaped
from .panels import Panel
from .policies import ChatPolicy
from .run_tabs import RunsView
from .tabs import Tabs
from .views import build_flow, build_runs
from .welcomes import Welcome
from .words import CHINESE

__all__ = ["build", "mount"]

HERE = Path(__file__).resolve().parent
ICON = "data:image/svg+xml;base64," + base64.b64encode((HERE / "chat.svg").read_bytes()).decode()
LATEX = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": "\\[", "right": "\\]", "display": True},
    {"left": "\\(", "right": "\\)", "display": False},
]
PENDING = 1000
"""Events of all pages that may wait for Gradio's next look, which is at once; who runs, admission says."""

FONT = ["ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]


PANELS = (
    Panel("Flow", lambda page: build_flow(FlowView(page.tabs.flow), page.looker)),
    Panel("Runs", lambda page: build_runs(RunsView(page.tabs.records, page.tabs.queue), page.looker)),
)


def build(
    tabs: Tabs,
    welcome: Welcome,
    panels: Sequence[Panel] = PANELS,
    login: bool = False,
    mounted: bool = True,
) -> Any:
    """The page as Gradio Blocks: the chat, and a tab for each panel. With a `login` it tells who is logged in.

    A page that is not to be `mounted` here is known to be there by Gradio's own means, a connection that it keeps open.
    """
    page = Handlers(tabs)
    with gradio.Blocks(analytics_enabled=False, title=welcome.title, fill_height=True) as blocks:
        gradio.HTML(_head(welcome.title), elem_id="mr-head", padding=False, js_on_load=None)
        with ExitStack() as stack:
            if panels:
                stack.enter_context(gradio.Tabs(elem_id="mr-tabs"))
            with _panel(label("Chat"), bool(panels)):
                _chat(page, welcome, blocks, login)
            if not mounted:
                blocks.unload(page.leave)
            for panel in panels:
                with _panel(label(panel.name), True):
                    panel.build(page)
    blocks.queue(max_size=PENDING, api_open=False)
    # Otherwise Gradio makes a pandas table of all its past events after each one, for a page that is off.
    blocks._queue.ANAYLTICS_CACHE_FREQUENCY = sys.maxsize
    return blocks


@contextmanager
def _panel(name: Any, several: bool) -> Iterator[None]:
    if several:
        with gradio.Tab(name, elem_classes="mr-panel"):
            yield
    else:
        yield


def _chat(page: Handlers, welcome: Welcome, blocks: Any, login: bool) -> None:
    """The chat's part of the page, and what its parts do."""
    with gradio.Row(elem_id="mr-body", equal_height=False):
        with gradio.Column(elem_id="mr-side", min_width=0, scale=0):
            begin = gradio.Button(label("New chat"), elem_id="mr-new", size="sm")
            search = _search()
            side = _list()
            adjusting = Adjusting(page) if page.tabs.adjustable else None
            account = Account() if login else None
        with gradio.Column(elem_id="mr-main", min_width=0):
            chatbot = _chatbot(welcome)
            with gradio.Row(elem_id="mr-again"):
                retry = gradio.Button(label("Retry"), elem_id="mr-retry", size="sm", min_width=0, scale=0)
                undo = gradio.Button(label("Undo"), elem_id="mr-undo", size="sm", min_width=0, scale=0)
            attaching = Attaching(page) if page.tabs.intake.files else None
            box = _box()

    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    # Of what goes on the list is told: the chat takes no edits while it is thought to be busy.
    shown = {"outputs": [box, chatbot, side], "show_progress_on": [side], **quiet}
    # Streams stand under admission's limits; a second event of a tab is refused where the end of the first is known.
    # In one group events begin in the order in which they came; of several groups Gradio takes any.
    streams = {"concurrency_id": "page", "concurrency_limit": None, "trigger_mode": "multiple", **shown}
    box.submit(page.answer, inputs=[box], **streams)
    chatbot.example_select(page.answer_example, **streams)
    chatbot.edit(page.edit, **streams)
    retry.click(page.retry, **streams)
    side.follow(page.follow, **streams)
    side.act(page.act, queue=False, **shown)
    undo.click(page.undo, **streams)
    chatbot.clear(page.clear, **streams)
    begin.click(page.begin, **streams)
    box.stop(page.stop, queue=False, **quiet)
    search.change(page.search, [search], [side], queue=False, trigger_mode="always_last", **quiet)
    if adjusting is not None:
        adjusting.connect(side)
    if account is not None:
        account.connect(blocks)
    if attaching is not None:
        attaching.connect(side)


def mount(app: Any, blocks: Any, tabs: Tabs, path: str, answerer: str) -> None:
    """Mounts the page, with its look and its limits; everything that would leave this machine is off."""
    gradio.mount_gradio_app(
        app,
        blocks,
        path,
        theme=_theme(),
        css=f":root {{ --mr-icon: url('{ICON}'); }}",
        css_paths=[HERE / "chat.css", HERE / "content.css", HERE / "views.css"],
        head=f'<meta name="color-scheme" content="light dark"><link rel="icon" href="{ICON}">',
        footer_links=[],
        i18n=i18n,
        run_history=False,
        ssr_mode=False,
        show_error=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
    )
    app.routes[-1].app = ChatPolicy(app.routes[-1].app, tabs, answerer)


# ---------------------------------------------------------------- the parts


def _head(title: str) -> str:
    return (
        '<header><button type="button" id="mr-toggle" aria-label="Conversations" aria-controls="mr-side">'
        '<span aria-hidden="true"></span></button>'
        f'<span class="mr-icon"></span><h1>{escaped(title)}</h1></header><div id="mr-veil"></div>'
    )


def _search() -> Any:
    return gradio.Textbox(
        elem_id="mr-search",
        label=label("Search conversations"),
        show_label=False,
        placeholder=label("Search"),
        container=False,
        max_lines=1,
    )


def _list() -> Any:
    return gradio.HTML(
        "",
        elem_id="mr-list",
        padding=False,
        apply_default_css=False,
        js_on_load="".join((HERE / name).read_text(encoding="utf-8") for name in ("chat.js", "access.js")),
    )


def _chatbot(welcome: Welcome) -> Any:
    return gradio.Chatbot(
        elem_id="mr-chat",
        label=label("Conversation"),
        show_label=False,
        container=False,
        layout="bubble",
        buttons=["copy"],
        editable="user",
        height=None,
        scale=1,
        placeholder=f'<div class="mr-welcome"><span class="mr-icon"></span><h2>{escaped(welcome.title)}</h2>'
        f"<p>{label(welcome.line) if welcome.line in CHINESE else escaped(welcome.line)}</p></div>",
        examples=[{"text": example} for example in welcome.examples] or None,
        latex_delimiters=LATEX,
        feedback_options=None,
        group_consecutive_messages=False,
    )


def _box() -> Any:
    return gradio.Textbox(
        elem_id="mr-box",
        label=label("Message"),
        show_label=False,
        placeholder=label("Message"),
        container=False,
        submit_btn=True,
        stop_btn=False,
        max_lines=8,
        autofocus=True,
    )


def _theme() -> Any:
    """Fonts of the reader's own system; the colours before chat.css is there."""
    theme = gradio.themes.Base(
        font=FONT, font_mono=MONO, primary_hue="teal", neutral_hue="stone", radius_size="lg"
    )
    return theme.set(body_background_fill="#fbfaf8", body_background_fill_dark="#191817")
