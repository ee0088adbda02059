"""The web chat: any flow with text in and text out, in the browser, streaming, with a Stop that stops.

Gradio draws the page (pages.py, imported by the functions here and never before); the conversations live in tabs.py
and turns.py.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from ..flow.functions import as_step
from ..flow.steps import Step
from ..streaming.errors import require
from ..streaming.limits import Limits
from ..streaming.queues import Queue
from .admission import Admission
from .file_inputs import MAX_UPLOAD
from .web.archives import Archives, open_archives, usual_folder
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
        options: as for `serve`: `host`, `limits`, `title`, ... By default the conversations are kept in the user's data
            directory (`$XDG_DATA_HOME/millrace/<flow>`); `conversations="dir"` names another one, and with None they
            end with the process.

    Raises:
        MissingExtra: gradio or the web server is not installed.
    """
    require("gradio", "chat")
    from .services import serve

    options.setdefault("announce", lambda url: sys.stderr.write(f"Chat  {url}/\n"))
    flow = as_step(flow)
    options.setdefault("conversations", usual_folder(flow.name))
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
    conversations: str | PathLike[str] | Archives | None = None,
    login: bool = False,
    resume: float | None = None,
    queue: Queue | None = None,
    max_upload: int = MAX_UPLOAD,
) -> FastAPI:
    """Puts the chat of a flow into an application, at `path`; routes that are there already come first.

    `app.state.chat` is what its server ends it with: `close()` when it begins to shut down, from when on no question is
    taken, and `cancel_all(reason)` when it will wait for answers no longer.

    Args:
        admission: how many at once; share it with the API, so that both stand under one limit.
        title: the name in the page's head; the flow's own by default.
        timeout: deadline of a turn in seconds.
        debug: whether the page may show the message of an error that a step raised.
        conversations: the directory that they are kept in; None: in memory.
        login: whether browsers log in, at `/login`; the page then tells who it is, and has a way out.
        resume: seconds in which the user of a page that was left must come back to its answer; None: it is stopped.
        queue: where what the runs say is kept for other readers; by default in memory.
        max_upload: the largest file that goes with a question, in bytes.

    Raises:
        MillraceError: the directory for the conversations cannot be had.
        MissingExtra: gradio is not installed.
    """
    require("gradio", "chat")
    from .web.pages import build, mount

    flow = as_step(flow)
    archives = open_archives(conversations)
    tabs = Tabs(
        flow,
        admission or Admission(LIMITS),
        timeout=timeout,
        debug=debug,
        archives=archives,
        resume=resume,
        queue=queue,
        max_upload=max_upload,
    )
    welcome = welcome_for(flow, title)
    mount(app, build(tabs, welcome, login=login), tabs, path, welcome.title)
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
    """The chat of a flow as Gradio Blocks, for a page of one's own. Each page is somebody by itself.

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
    tabs = Tabs(flow, admission or Admission(LIMITS), timeout=timeout, debug=debug)
    return build(tabs, welcome_for(flow, title, examples), mounted=False)
