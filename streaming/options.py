"""What a caller may give along with a value, for a run of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .messages import Message
from .sessions import check_session_id

__all__ = ["NO_OPTIONS", "Options"]


class Options:
    """What a caller may give along with the value: for a run of its own.

    `session` is its id, `history` the conversation before, `timeout` the deadline in seconds, `sampling` a Sampling
    or a dict of some of its settings, for the model that gives the answer.

    Raises:
        SessionError: `session` is no session id.
        TypeError: a history of anything but Messages.
        ValueError: a timeout that is no positive number.
    """

    __slots__ = ("history", "sampling", "session", "timeout")

    def __init__(
        self,
        session: str | None = None,
        history: Sequence[Message] = (),
        timeout: float | None = None,
        sampling: Any = None,
    ) -> None:
        if session is not None:
            check_session_id(session)
        if timeout is not None and not timeout > 0:
            raise ValueError(
                f"timeout={timeout!r}: give a number of seconds above 0, or None for no deadline"
            )
        if not all(isinstance(turn, Message) for turn in history):
            raise TypeError(
                "history is a list of Message, such as [Message.user('Hi'), Message.assistant('Hello')]"
            )
        self.session = session
        self.history = history if isinstance(history, tuple) else tuple(history)
        self.timeout = timeout
        self.sampling = sampling


NO_OPTIONS = Options()
