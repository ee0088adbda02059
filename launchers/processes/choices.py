"""Choices: which supervisor serves, and what cannot be served by several processes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...streaming.errors import MillraceError, require
from ...streaming.queues import Queue, open_queue
from ..listeners import check_exposure

if TYPE_CHECKING:
    from .supervisors import Supervisor

__all__ = ["supervisor_for"]


def supervisor_for(target: object, workers: int, reload: bool, options: Mapping[str, Any]) -> Supervisor:
    """The supervisor of so many workers; `options` as Service takes them.

    Raises:
        MillraceError: what is asked for cannot be done by several processes; says what can.
        MissingExtra: the extra `serve` is not installed.
    """
    require("uvicorn", "serve")
    require("fastapi", "serve")
    asked = "reload=True" if reload else f"workers={workers}"
    if os.name != "posix":
        raise MillraceError(f"{asked} needs Linux, macOS or another Unix; serve with one process here")
    from .reloaders import Reloader
    from .supervisors import Supervisor

    if not isinstance(target, str):
        raise MillraceError(
            f"{asked}: each worker must import the flow, so give its name instead of the flow itself: "
            f'serve("app:flow", {asked}) for `flow` in app.py'
        )
    if reload and workers != 1:
        raise MillraceError(f"reload=True serves with one worker; leave out workers={workers}")
    if workers > 1 and options.get("chat"):
        raise MillraceError(
            "the web chat keeps its conversations in one process; serve it with one worker, or chat=False "
            "(--no-chat)"
        )
    options = {**options, **_queue(options.get("queue"), workers)}
    check_exposure(
        options.get("host", "127.0.0.1"), options.get("api_keys"), bool(options.get("insecure", False))
    )
    return Reloader(target, options) if reload else Supervisor(target, workers, options)


def _queue(queue: Queue | str | None, workers: int) -> dict[str, str]:
    """The option `queue` by its URL."""
    if queue is None:
        return {}
    url = open_queue(queue).url
    if workers > 1 and url.startswith("memory:"):
        raise MillraceError(
            f"{url} is in the memory of one process, and {workers} workers must find each other's runs; name a "
            "directory, as in file:///var/lib/app/runs, or no queue at all"
        )
    return {"queue": url}
