"""The web chat: any flow with text in and text out, in the browser, streaming, with a Stop that stops.

Gradio draws the page (pages.py, imported by the functions here and never before); the conversations live in tabs.py
and turns.py.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..flow.functions import as_step
from ..flow.steps import Step
from ..streaming.errors import require
from ..streaming.limits import Limits
from .admission import Admission
from .web.tabs import Tabs
from .web.welcomes import welcome_for

if TYPE_CHECKING:
    from fastapi import FastAPI
    from gradio import Blocks

__all__ = ["build_chat", "chat", "mount_chat"]

LIMITS = Limits(running=4, waiting=16)
TIMEOUT = 600.0


def chat(flow: Any, port: int = 7860, **options: Any) -> None:
    """Opens a flow as a web chat, tells where on stderr, and serves it until the process is stopped (Ctrl-C).

    The chat is at `/` and the OpenAI-compatible API under `/v1`, in one process under the same limits.

    Args:
        flow: text in, text out; a Step, or anything that can be one.
        port: where to listen; 0 takes a free one.
        options: as for `serve`: `host`, `limits`, `title`, ...

    Raises:
        MissingExtra: gradio or the web server is not installed.
    """
    require("gradio", "chat")
    from .services import serve

    options.setdefault("announce", lambda url: sys.stderr.write(f"Chat  {url}/\n"))
    serve(flow, port=port, chat=True, **options)


def mount_chat(
    app: FastAPI,
    flow: Step[Any, Any],
    *,
    admission: Admission | None,
    title: str | None,
    path: str = "/",
    timeout: float | None = TIMEOUT,
    debug: bool = False,
) -> FastAPI:
    """Puts the chat of a flow into an application, at `path`; routes that are there already come first.

    `app.state.chat` is what its server ends it with: `close()` when it begins to shut down, which lets go of open
    pages (a server that waits for them waits for ever), and `cancel_all(reason)` when it will wait no longer.

    Args:
        admission: how many at once; share it with the API, so that both stand under one limit.
        title: the name in the page's head; the flow's own by default.
        timeout: deadline of a turn in seconds.
        debug: whether the page may show the message of an error that a step raised.

    Raises:
        MissingExtra: gradio is not installed.
    """
    require("gradio", "chat")
    from .web.pages import build, mount

    flow = as_step(flow)
    tabs = _tabs(flow, admission, timeout, debug)
    mount(app, build(tabs, welcome_for(flow, title)), tabs, path)
    app.state.chat = tabs
    return app


def build_chat(
    flow: Any,
    *,
    title: str | None = None,
    admission: Admission | None = None,
    examples: Sequence[str] | None = None,
    timeout: float | None = TIMEOUT,
    debug: bool = False,
) -> Blocks:
    """The chat of a flow as Gradio Blocks, for a page of one's own.

    Args:
        title: the name in the page's head; the flow's own by default.
        admission: how many at once; by default four turns run and sixteen wait.
        examples: questions to click in an empty chat.
        timeout: deadline of a turn in seconds.
        debug: whether the page may show the message of an error that a step raised.

    Raises:
        MissingExtra: gradio is not installed.
    """
    require("gradio", "chat")
    from .web.pages import build

    flow = as_step(flow)
    return build(_tabs(flow, admission, timeout, debug), welcome_for(flow, title, examples))


def _tabs(flow: Step[Any, Any], admission: Admission | None, timeout: float | None, debug: bool) -> Tabs:
    return Tabs(flow, admission or Admission(LIMITS), timeout=timeout, debug=debug)
