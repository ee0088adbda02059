"""Sessions: one conversation, named by an id that lives in a context variable."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from .errors import SessionError
from .ids import new_id

__all__ = ["check_session_id", "session"]

SESSION: ContextVar[str | None] = ContextVar("millrace_session", default=None)

logger = logging.getLogger("millrace.streaming")

_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}", re.ASCII)


def check_session_id(name: str) -> str:
    """Returns `name` if it is a session id.

    Raises:
        SessionError: it is not `[A-Za-z0-9._-]{1,128}` without a leading dot.
    """
    if not isinstance(name, str) or _ID.fullmatch(name) is None:
        shown = repr(name) if len(repr(name)) <= 60 else repr(name)[:57] + "..."
        raise SessionError(
            f"{shown} is no session id: use 1 to 128 letters, digits, '.', '_' or '-', without a leading dot"
        )
    return name


def new_session_id() -> str:
    """128 random bits; never from `id()` or a thread id, which are given out again."""
    return "s" + new_id()


@contextmanager
def session(name: str) -> Iterator[str]:
    """Runs the block in the session `name`: every run started inside belongs to it.

    Without it each run started outside of a run gets a fresh random session. A block that is left in another
    context than it was entered in (an async generator closed elsewhere) logs a warning and does no harm.

    Raises:
        SessionError: `name` is no session id.
    """
    token = SESSION.set(check_session_id(name))
    try:
        yield name
    finally:
        try:
            SESSION.reset(token)
        except ValueError:
            logger.warning("the block of session %r was left in another context than it was entered in", name)
