"""RemoteGeneration: the caller's handle on a request that a server answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ...streaming.usage import TokenUsage
from ..local import Delta, Generation, Request
from ..local.prompts import turn_starts
from .answers import AnswerReader
from .turns import Turn

__all__ = ["RemoteGeneration"]


class RemoteGeneration(Generation):
    """A Generation whose tokens are made elsewhere; all that a caller sees is the same.

    `usage` is the server's own where it has told it, otherwise the number of pieces that have come: of a request
    that was stopped no server tells how long its prompt was.
    """

    def __init__(
        self, request: Request, body: dict[str, Any], turn: Turn, on_end: Callable[[Generation], None]
    ) -> None:
        super().__init__(request, on_end)
        self.body = body
        self.turn = turn
        self.task: asyncio.Task[Delta] | None = None
        self.reader: AnswerReader | None = None

    @property
    def usage(self) -> TokenUsage:
        if self._last is not None and self._last.usage is not None:
            return self._last.usage
        return TokenUsage() if self.reader is None else self.reader.usage_so_far

    def is_stopped(self) -> bool:
        """Whether the caller has said stop without being able to call."""
        asked = self.request.is_stopped
        return asked is not None and asked()

    def shorten(self) -> bool:
        """Drops the older half of the turns that may be dropped, since all are too long; False when none is left.

        Nobody here knows how many tokens a message has, so the server is asked again.
        """
        messages = self.request.messages
        if messages is None or not self.request.drop_oldest:
            return False
        first = 1 if messages[0].role == "system" else 0
        starts = turn_starts(messages, first, self.request.drop_oldest)
        left = [start for start in starts if start > first + self.dropped]
        if not left:
            return False
        cut = left[len(left) // 2]
        self.dropped = cut - first
        sent = self.body["messages"]
        self.body["messages"] = sent[:first] + sent[len(sent) - (len(messages) - cut) :]
        return True
