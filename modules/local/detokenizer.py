"""Detokenizer: tokens to text, one at a time, without ever cutting a character."""

from __future__ import annotations

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
        self._sent = ""

    def push(self, token: int) -> str:
        """Takes the next token; returns the text that is now whole."""
        self._pending.append(token)
        text = self._text()
        whole = text.rstrip(REPLACEMENT)
        genuine = len(text) - len(whole) - MOST_UNFINISHED
        if genuine > 0:
            whole = text[: len(whole) + genuine]
        if whole == text and text:
            piece = text[len(self._sent) :]
            self._move_on()
            return piece
        piece = whole[len(self._sent) :]
        self._sent = max(self._sent, whole, key=len)
        return piece + self._shorten(text) if len(self._pending) > LONG else piece

    def flush(self) -> str:
        """The rest, whole or not; the end of the text."""
        text = self._text()
        piece = text[len(self._sent) :]
        self._move_on()
        return piece

    def _text(self) -> str:
        """The text of the pending tokens, as it stands after the context."""
        text = self._decode(self._context + self._pending)
        if text.startswith(self._before):
            return text[len(self._before) :]
        return self._decode(self._pending)  # a byte has spoiled the character before it, which is out already

    def _shorten(self, text: str) -> str:
        """Moves on to a place between two characters, so that garbage does not pile up."""
        for cut in range(len(self._pending) - 1, len(self._pending) - 2 - MOST_UNFINISHED, -1):
            before = self._decode(self._pending[:cut])
            if text == before + self._decode(self._pending[cut:]):
                piece, self._sent = before[len(self._sent) :], self._sent[len(before) :]
                self._context, self._pending, self._before = self._pending[:cut], self._pending[cut:], before
                return piece
        return ""

    def _move_on(self) -> None:
        self._context = self._pending
        self._before = self._decode(self._context)
        self._pending = []
        self._sent = ""
