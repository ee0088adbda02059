"""Turns: a run as one question and its answer in a conversation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .endings import Ending
from .histories import HISTORIES
from .logs import Log
from .messages import Called, Conversation, Message
from .records import in_words
from .usage import TokenUsage

__all__ = ["Turn"]


class Turn(Ending):
    """The part of a run that has a place in a conversation.

    `question` is the text or the message that it was given, if it was one; `usage` what was produced, delivered or
    not; `calls` what the model that gave the answer asks for, where it has asked for tools.
    """

    question: str | Message | None = None
    calls: Sequence[Called] = ()
    usage: TokenUsage = TokenUsage()
    log: Log | None = None
    parent: Turn | None = None
    _session: str | None = None
    _history: tuple[Message, ...] | None = None
    takes_turn = False

    @property
    def text(self) -> str:
        """The text of the output step as far as it was delivered to the listener."""
        return "".join(self.log.text) if self.log is not None else ""

    @property
    def history(self) -> tuple[Message, ...]:
        """The conversation before this run; with its own turn at the end, once it is over and a model has seen it."""
        holder = self._turn_holder()
        if holder._history is not None:
            return holder._history
        return HISTORIES.of(holder._session) if holder._session is not None else ()

    def take_history(self, question: str | Message | None = None) -> tuple[Message, ...]:
        """The conversation before this run, which is a turn of it from now on: for whoever prepends it.

        That is the `history` that the run was given, or its session's, where somebody has named that. At the run's
        end its question (the text that it was given, or else `question`) and its answer are added, a stopped answer as
        far as it was delivered and marked with its `status` and `usage`. A child run takes part in its parent's turn.
        A session's last turn whose tool calls nobody has answered is forgotten, unless `question` answers them.

        Raises:
            SessionBusy: another run of the session is at its turn.
        """
        holder = self._turn_holder()
        if not holder.takes_turn and not holder.over:
            if holder._history is None and holder._session is not None:
                answers = isinstance(question, Message) and question.role == "tool"
                holder._history = HISTORIES.take(holder._session, holder, answers)
            holder.takes_turn = True
            holder.question = holder.question or question
        return holder.history

    def _turn_holder(self) -> Turn:
        run: Turn = self
        while run._history is None and run.parent is not None and run._session == run.parent._session:
            run = run.parent
        return run

    def end_turn(self, x: Any = None) -> None:
        """Writes the turn down, at the end of a run that `takes_turn`; an answer without a word or a call is none.

        `x` is what the run was given, where its `question` is not known yet.
        """
        if isinstance(x, (str, Message)):
            self.question = x
        answer, asked = self._answer(), self.question
        calls = self.calls if self.status == "done" and self.reason == "tool_calls" else ()
        turn: tuple[Message, ...] = ()
        if asked is not None and (answer or calls):
            marks: dict[str, Any] = {}
            if self.status != "done":
                marks["status"] = self.status
                if self.usage.total_tokens:
                    marks["usage"] = self.usage.as_dict()
            question = asked if isinstance(asked, Message) else Message.user(asked)
            turn = question, Message.assistant(answer, tool_calls=calls, **marks)
        kind = Conversation if isinstance(self._history, Conversation) else tuple
        self._history = kind((*(self._history or ()), *turn))
        if self._session is not None:
            HISTORIES.give_back(self._session, self, turn)

    def _answer(self) -> str:
        """As far as it was delivered, or will be: a cancelled listener goes straight to the end."""
        if self.status in ("cancelled", "timeout"):
            return self.text
        if self.status == "done" and isinstance(self.value, str):
            return self.value
        said = self.log.said() if self.log is not None else ""
        return said or ("" if self.value is None else in_words(self.value))
