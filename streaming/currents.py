"""What code inside of a step asks and says: the run and the session around it, events, whether to stop."""

from __future__ import annotations

import threading
from asyncio.events import _get_running_loop
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

from .errors import RunCancelled
from .events import Event
from .memory import call_soon
from .runs import ABANDONED, FRAME, LIVE, VOICE, Run
from .sessions import SESSION

__all__ = [
    "StreamingStatus",
    "cancelled",
    "check_cancelled",
    "current_run",
    "current_session",
    "emit",
    "status",
]


JOINED: ContextVar[Any] = ContextVar("millrace_joined", default=None)
"""The function that works in this thread: its `run`, and whether it is `over`, so that nobody waits for it any more."""


def current_run() -> Run | None:
    """The run that this code belongs to, or None outside of any."""
    frame = FRAME.get()
    return frame[0] if frame is not None else None


def current_session() -> str | None:
    """The session of the enclosing `with session(...)` or of the current run; None outside of both."""
    frame = FRAME.get()
    return SESSION.get() or (frame[0].session if frame is not None else None)


def emit(event: Event) -> None:
    """Says something from inside a step; never waits, and may overshoot the queue's bound.

    It is said beside the answer: an event that has `output` loses it. What a step yields belongs to its value. Outside
    of a run, or where nobody listens, it does nothing.
    """
    frame = FRAME.get()
    if frame is None:
        return
    if getattr(event, "output", False):
        event.output = False  # type: ignore[attr-defined]
    run, path = frame
    voice = VOICE.get()
    if voice is not None and voice[0] == threading.get_ident():
        voice[1](event)
    elif run.loop is None or _get_running_loop() is run.loop:
        run.say(event, path)
    else:
        call_soon(run.loop, partial(run.say, event, path))


def cancelled() -> bool:
    """Whether the current run is being stopped; for functions that work long and cannot be interrupted.

    True too when the run goes on without this function: its timeout has passed, or another branch has failed.
    """
    frame = FRAME.get()
    return frame is not None and (frame[0].cut is not None or _is_given_up(frame[0]))


def check_cancelled() -> None:
    """Raises RunCancelled or RunTimeout where `cancelled()` is true."""
    frame = FRAME.get()
    if frame is not None:
        frame[0].raise_if_cut()
        if _is_given_up(frame[0]):
            raise RunCancelled("nobody waits for this step any more")


def _is_given_up(run: Run) -> bool:
    joined = JOINED.get()
    return joined is not None and joined.over and joined.run is run


@dataclass(frozen=True, slots=True)
class StreamingStatus:
    """`runs` are going on; `abandoned` functions of ended runs still occupy their threads."""

    runs: int
    abandoned: int


def status() -> StreamingStatus:
    """What is going on in this process right now."""
    for run in list(LIVE):
        if run.has_lost_its_loop():
            run.end_unbegun()
    return StreamingStatus(len(LIVE), len(ABANDONED))
