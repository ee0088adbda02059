"""The chat's page, drawn by Gradio. Importing this module imports Gradio, so only chats.py's functions do.

Events end at `Tabs`, which knows nothing of Gradio; here a turn becomes the messages that the page shows.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import gradio
from gradio.components.chatbot import Message as Drawn

from ..owners import owner_of
from .markup import escaped, shown
from .policies import ChatPolicy
from .tabs import Tab, Tabs
from .turns import Failure, Part, Turn
from .welcomes import Welcome

__all__ = ["build", "mount"]

HERE = Path(__file__).resolve().parent
ICON = "data:image/svg+xml;base64," + base64.b64encode((HERE / "chat.svg").read_bytes()).decode()
LATEX = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": "\\[", "right": "\\]", "display": True},
    {"left": "\\(", "right": "\\)", "display": False},
]
BEYOND = 8
"""Questions beyond the limits that are let through, to be told so at once."""

FONT = ["ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]


def build(tabs: Tabs, welcome: Welcome) -> Any:
    """The page as Gradio Blocks."""
    limits = tabs.admission.limits
    at_once = limits.running + limits.waiting + BEYOND
    page = Page(tabs)
    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    with gradio.Blocks(analytics_enabled=False, title=welcome.title, fill_height=True) as blocks:
        gradio.HTML(_head(welcome.title), elem_id="mr-head", padding=False)
        chatbot, box = _chatbot(welcome), _box()
        turn = {
            "outputs": [box, chatbot],
            "concurrency_limit": at_once,
            "concurrency_id": "turns",
            "trigger_mode": "multiple",  # a tab's second question is refused here, where its end is known
            **quiet,
        }
        box.submit(page.answer, inputs=[box], **turn)
        chatbot.example_select(page.answer_example, **turn)
        box.stop(page.stop, queue=False, **quiet)
        chatbot.clear(page.clear, outputs=[chatbot], queue=False, **quiet)
        blocks.unload(page.leave)
    blocks.queue(max_size=2 * at_once, api_open=False)
    # Otherwise Gradio makes a pandas table of all its past events after each one, for a page that is off.
    blocks._queue.ANAYLTICS_CACHE_FREQUENCY = sys.maxsize
    return blocks


def mount(app: Any, blocks: Any, tabs: Tabs, path: str) -> None:
    """Mounts the page, with its look and its limits; everything that would leave this machine is off."""
    gradio.mount_gradio_app(
        app,
        blocks,
        path,
        theme=_theme(),
        css=f":root {{ --mr-icon: url('{ICON}'); }}",
        css_paths=[HERE / "chat.css"],
        head=f'<meta name="color-scheme" content="light dark"><link rel="icon" href="{ICON}">',
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        show_error=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
    )
    app.routes[-1].app = ChatPolicy(app.routes[-1].app, tabs)


class Page:
    """The handlers of the page's events; from the annotations Gradio reads what each is to be given."""

    def __init__(self, tabs: Tabs) -> None:
        self.tabs = tabs
        self.finished: WeakKeyDictionary[Turn, list[Any]] = WeakKeyDictionary()

    async def answer(self, question: str, request: gradio.Request) -> AsyncGenerator[Any, None]:
        async with aclosing(self._updates(question, request, box=gradio.update(value="", **RUNNING))) as all:
            async for update in all:
                yield update

    async def answer_example(
        self, request: gradio.Request, example: gradio.SelectData
    ) -> AsyncGenerator[Any, None]:
        async with aclosing(self._updates(example.value["text"], request, gradio.update(**RUNNING))) as all:
            async for update in all:
                yield update

    async def _updates(self, question: str, request: gradio.Request, box: Any) -> AsyncGenerator[Any, None]:
        """The box and the messages, each time there is something new; typing ahead in the box is left alone."""
        tab = self.tabs.open(request.session_hash)
        if tab.busy or not question.strip():
            yield gradio.skip(), gradio.skip()
            return
        owner = owner_of(request.request.scope)
        async with aclosing(self.tabs.ask(tab, question, owner)) as turns:
            async for turn in turns:
                if turn.over:
                    box = gradio.update(**READY)
                yield box, self.messages(tab)
                box = gradio.skip()

    async def stop(self, request: gradio.Request) -> None:
        self.tabs.open(request.session_hash).stop("stopped in the chat")

    async def clear(self, request: gradio.Request) -> list[Any]:
        self.tabs.open(request.session_hash).clear()
        return []

    async def leave(self, request: gradio.Request) -> None:
        self.tabs.leave(request.session_hash)

    def messages(self, tab: Tab) -> list[Any]:
        """All that the page shows; finished turns are drawn once."""
        drawn: list[Any] = []
        for turn in tab.turns:
            messages = self.finished.get(turn)
            if messages is None:
                messages = draw(turn)
                if turn.over:
                    self.finished[turn] = messages
            drawn += messages
        return drawn


RUNNING = {"submit_btn": False, "stop_btn": True}
READY = {"submit_btn": True, "stop_btn": False}


def draw(turn: Turn) -> list[Any]:
    """A turn as Gradio's messages: the question, the parts on the way, the answer, how it ended."""
    drawn = [_text("user", shown(turn.question))]
    drawn += [_part(part) for part in turn.parts]
    if turn.text:
        drawn.append(_text("assistant", shown(turn.text)))
    if not turn.over and (turn.status or not turn.text):
        drawn.append(_text("assistant", f'<span class="mr-status">{escaped(turn.status)}</span>'))
    if turn.failure is not None:
        drawn.append(_html(_failure(turn.failure)))
    if turn.note:
        drawn.append(_html(f'<div class="mr-note">{escaped(turn.note)}</div>'))
    return drawn


def _text(role: str, text: str, metadata: dict[str, Any] | None = None) -> Any:
    return Drawn(role=role, content=[{"type": "text", "text": text}], metadata=metadata)


def _part(part: Part) -> Any:
    metadata: dict[str, Any] = {"title": escaped(part.title), "status": "pending"}
    if part.seconds is not None:
        metadata |= {"status": "done", "duration": round(part.seconds, 1)}
    return _text("assistant", shown(part.text), metadata)


def _html(content: str) -> Any:
    component = {
        "component": "html",
        "value": content,
        "constructor_args": {},
        "props": {"value": content, "visible": True},
    }
    return Drawn(role="assistant", content=[{"type": "component", **component}])


def _failure(failure: Failure) -> str:
    advice = f" <span>{escaped(failure.advice)}</span>" if failure.advice else ""
    return f'<div class="mr-failure" role="alert"><strong>{escaped(failure.what)}.</strong>{advice}</div>'


# ---------------------------------------------------------------- the look


def _head(title: str) -> str:
    return f'<header><span class="mr-icon"></span><h1>{escaped(title)}</h1></header>'


def _chatbot(welcome: Welcome) -> Any:
    return gradio.Chatbot(
        elem_id="mr-chat",
        label="Conversation",
        show_label=False,
        container=False,
        layout="bubble",
        buttons=["copy"],
        height=None,
        scale=1,
        placeholder=f'<div class="mr-welcome"><span class="mr-icon"></span><h2>{escaped(welcome.title)}</h2>'
        f"<p>{escaped(welcome.line)}</p></div>",
        examples=[{"text": example} for example in welcome.examples] or None,
        latex_delimiters=LATEX,
        feedback_options=None,
        group_consecutive_messages=False,
    )


def _box() -> Any:
    return gradio.Textbox(
        elem_id="mr-box",
        label="Message",
        show_label=False,
        placeholder="Message",
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
