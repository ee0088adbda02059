"""Detokenizer: tokens to text, one at a time, without ever cutting a character."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

__all__ = ["Detokenizer"]

REPLACEMENT = "\ufffd"
MOST_UNFINISHED = 3
"""A character of UTF-8 has four bytes at most, so at most three of them can be waiting for the rest."""
LONG = 64
"""Tokens that may pile up while the text always ends in U+FFFD."""
CONTEXT = 6
"""Tokens of a raw prompt that are decoded with the first piece, for the space between them."""


class Detokenizer:
    """Turns tokens into text as they come; the pieces together are the text of all tokens.

    Each new token is decoded together with those of the piece before it, since whether a space stands between
    two tokens depends on both. An unfinished character shows as U+FFFD at the end and is held back until it is
    whole; a U+FFFD that the model really wrote is let out as soon as it cannot be one any more, or by `flush`.

    `tokenizers.decoders.DecodeStream` does nearly the same, but keeps its unfinished end to itself, holds a
    genuine U+FFFD for as long as the text ends in one, and fails on byte tokens that take back a character.

    Args:
        decode: token ids to text.
        context: the last tokens of a raw prompt that the text continues.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], context: Sequence[int] = ()) -> None:
        self._decode = decode
        self._context = list(context[-CONTEXT:])
        self._before = decode(self._context) if self._context else ""
        self._pending: list[int] = []
        self._sent = 0
        """How much of the text of those that are pending is out."""
        self._beyond: deque[int] = deque(maxlen=1 + MOST_UNFINISHED)
        """How long that text was lately, without what may have been unfinished."""

    def push(self, token: int) -> str:
        """Takes the next token; returns the text that is now whole."""
        self._pending.append(token)
        text = self._text(self._pending)
        self._beyond.append(len(text) - MOST_UNFINISHED)
        settled = max(self._sent, len(text.rstrip(REPLACEMENT)), min(self._beyond))
        piece, self._sent = text[self._sent : settled], settled
        whole = bool(text) and not text.endswith(REPLACEMENT)
        if whole or len(self._pending) > LONG:
            self._move_on(max(0, len(text) - settled))
        return piece

    def flush(self) -> str:
        """The rest, whole or not; the end of the text."""
        piece = self._text(self._pending)[self._sent :]
        self._move_on(0)
        return piece

    def _text(self, tokens: list[int]) -> str:
        """The text of these tokens, as it stands after what is out of the context."""
        text = self._decode(self._context + tokens)
        if text.startswith(self._before):
            return text[len(self._before) :]
        return self._decode(tokens)  # a byte has spoiled the character before it, which is out already

    def _move_on(self, unsettled: int) -> None:
        """The pending tokens become the context of those to come; the end of their text may not be out yet."""
        self._context, self._pending, self._sent = self._pending, [], 0
        self._beyond.clear()
        text = self._decode(self._context)
        self._before = text[: len(text) - unsettled]
