"""Histories: what was said in a session so far, in memory, with one writer at a time.

Only sessions that somebody has named have one. A run takes it when its first model prepends it (or a launcher, when
a turn begins) and gives it back, longer by its own turn, when it ends.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .errors import SessionBusy
from .forks import after_fork
from .messages import Conversation, Message
from .sessions import check_session_id

if TYPE_CHECKING:
    from .turns import Turn

__all__ = ["HISTORIES", "Histories", "forget_session", "session_history"]

DAY = 24 * 3600.0


class _History:
    """Of one session. `used` is when it was last taken or given back, on the monotonic clock, in seconds."""

    __slots__ = ("messages", "size", "used", "writer")

    def __init__(self) -> None:
        self.messages = Conversation()
        self.size = 0
        self.used = time.monotonic()
        self.writer: weakref.ref[Turn] | None = None

    def holder(self) -> Turn | None:
        """The run that has taken it and is still going on."""
        run = self.writer() if self.writer is not None else None
        return None if run is None or run.settled or run.has_lost_its_loop() else run


class Histories:
    """The histories of the sessions of this process; safe from any thread.

    They do not grow without end: one that is not used for `ttl` seconds is forgotten, of more than `sessions` of
    them, or more than `most` characters in all, the one longest unused, and one of more than `longest` characters
    loses its oldest turns.
    """

    def __init__(
        self,
        ttl: float = DAY,
        sessions: int = 10_000,
        most: int = 64 * 1024 * 1024,
        longest: int = 1024 * 1024,
    ) -> None:
        self.ttl, self.sessions, self.most, self.longest = ttl, sessions, most, longest
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, _History] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return len(self._kept)

    def of(self, session: str) -> Conversation:
        """What was said in the session so far; looking takes nothing."""
        with self._lock:
            self._expire()
            kept = self._kept.get(session)
            return kept.messages if kept is not None else Conversation()

    def take(self, session: str, run: Turn, answers: bool = False) -> Conversation:
        """The history for a turn of `run`, which is its one writer from now on until it gives it back or is over.

        Unless the turn `answers` the calls with which the history ends, their turn is forgotten.

        Raises:
            SessionBusy: another run is at its turn.
        """
        after_fork(self._forked)
        with self._lock:
            self._expire()
            kept = self._kept.setdefault(session, _History())
            if kept.holder() not in (None, run):
                raise SessionBusy(
                    f"session {session!r} is busy: another of its runs is at its turn; wait for that one's end, "
                    "use another session, or give this call its own history=[...]"
                )
            kept.writer = weakref.ref(run)
            if not answers and (closed := _without_open_calls(kept.messages)) is not kept.messages:
                self._write(kept, closed)
            self._touch(session, kept)
            return kept.messages

    def give_back(self, session: str, run: Turn, turn: Sequence[Message] = ()) -> None:
        """Ends the turn of `run`, whose messages are added to the history."""
        with self._lock:
            kept = self._kept.get(session)
            if kept is None or kept.writer is None or kept.writer() is not run:
                return  # it has been forgotten meanwhile
            kept.writer = None
            self._write(kept, (*kept.messages, *turn))
            self._touch(session, kept)
            self._expire()

    def forget(self, session: str) -> None:
        """Forgets what was said in the session; a turn that is going on is not written down."""
        with self._lock:
            self._drop(session)

    # ------------------------------------------------------------ bounds, under the lock

    def _write(self, kept: _History, messages: tuple[Message, ...]) -> None:
        size, first = sum(map(_size_of, messages)), 0
        while size > self.longest and first < len(messages):  # whole turns: up to the next question
            size -= _size_of(messages[first])
            first += 1
            while first < len(messages) and messages[first].role != "user":
                size -= _size_of(messages[first])
                first += 1
        self._size += size - kept.size
        kept.messages, kept.size = Conversation(messages[first:]), size

    def _touch(self, session: str, kept: _History) -> None:
        kept.used = time.monotonic()
        self._kept.move_to_end(session)

    def _expire(self) -> None:
        """Forgets what is too old or too much, the longest unused first; never one at whose turn a run is."""
        now = time.monotonic()
        for session, kept in list(self._first_few()):
            old = now - kept.used > self.ttl
            if not old and len(self._kept) <= self.sessions and self._size <= self.most:
                return
            if kept.holder() is None:
                self._drop(session)

    def _first_few(self) -> list[tuple[str, _History]]:
        """Enough of the longest unused that each call makes more room than it was asked for."""
        oldest = iter(self._kept.items())
        return [item for item, _ in zip(oldest, range(64), strict=False)]

    def _drop(self, session: str) -> None:
        kept = self._kept.pop(session, None)
        if kept is not None:
            self._size -= kept.size

    def _forked(self) -> None:
        """In a forked child: the parent's runs are not going on here, and its threads may have held the lock."""
        self._lock = threading.Lock()
        for kept in self._kept.values():
            kept.writer = None


HISTORIES = Histories()
"""Those of this process."""


def session_history(name: str) -> Conversation:
    """What was said so far in the session `name`: the questions and answers of its finished and stopped turns.

    An answer that was stopped has the mark `status` (cancelled, timeout or error) and, where tokens were spent,
    `usage`. Histories live in this process; unused for a day, they are forgotten.

    Raises:
        SessionError: `name` is no session id.
    """
    return HISTORIES.of(check_session_id(name))


def forget_session(name: str) -> None:
    """Forgets the history of the session `name`; a turn that is going on ends as usual and is not written down.

    Raises:
        SessionError: `name` is no session id.
    """
    HISTORIES.forget(check_session_id(name))


def _size_of(message: Message) -> int:
    calls = sum(100 + len(call.name) + len(call.arguments) for call in message.tool_calls)
    return 100 + len(message.content) + calls


def _without_open_calls(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Without a last turn whose calls nobody has answered: no model can be asked anything else after it."""
    if not messages or not messages[-1].tool_calls:
        return messages
    starts = (at for at in range(len(messages) - 1, -1, -1) if messages[at].role == "user")
    return messages[: next(starts, 0)]
