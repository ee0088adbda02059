"""What a caller may give along with a value, for a run of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from .messages import Message
from .queues import Queue, open_queue
from .sessions import check_session_id

__all__ = ["NO_OPTIONS", "Options"]


class Options:
    """What a caller may give along with the value: for a run of its own.

    `session` is its id, `history` the conversation before (None: the session's), `timeout` the deadline in seconds,
    `sampling` a Sampling or a dict of some of its settings, for the model that gives the answer, `queue` where its
    events go (a URL or a Queue; None: memory). `admission` is awaited before the run begins; until then it is queued.
    `owner` is whose run it is, where a launcher knows; `run_id` the run's id, where somebody else has chosen it.
    `tools` are what the model that gives the answer may call in this run (None: its own), in OpenAI's form, and
    `tool_choice` whether it has to: None, "none", "auto", "required" or OpenAI's form of one function's name.

    Raises:
        SessionError: `session` is no session id.
        QueueError: `queue` is none, or a URL that says nothing known.
        TypeError: a history of anything but Messages.
        ValueError: a timeout that is no positive number.
    """

    __slots__ = (
        "admission",
        "history",
        "owner",
        "queue",
        "run_id",
        "sampling",
        "session",
        "timeout",
        "tool_choice",
        "tools",
    )

    def __init__(
        self,
        session: str | None = None,
        history: Sequence[Message] | None = None,
        timeout: float | None = None,
        sampling: Any = None,
        queue: Queue | str | None = None,
        admission: Callable[[], Awaitable[object]] | None = None,
        owner: str | None = None,
        run_id: str | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: str | Mapping[str, Any] | None = None,
    ) -> None:
        if session is not None:
            check_session_id(session)
        if timeout is not None and not (isinstance(timeout, (int, float)) and timeout > 0):
            raise ValueError(
                f"timeout={timeout!r}: give a number of seconds above 0, or None for no deadline"
            )
        if history and not all(isinstance(turn, Message) for turn in history):
            raise TypeError(
                "history is a list of Message, such as [Message.user('Hi'), Message.assistant('Hello')]"
            )
        self.session = session
        self.history = history if history is None or isinstance(history, tuple) else tuple(history)
        self.timeout = timeout
        self.sampling = sampling
        self.queue = None if queue is None else open_queue(queue)
        self.admission = admission
        self.owner = owner
        self.run_id = run_id
        self.tools = None if tools is None else tuple(tools)
        self.tool_choice = tool_choice


NO_OPTIONS = Options()
