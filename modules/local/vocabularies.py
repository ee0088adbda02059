"""Vocabularies: single tokens as the bytes that they are in a text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

__all__ = ["Vocabulary"]

FALLBACK = re.compile(r"<0x([0-9A-F]{2})>")
"""How tokens of single bytes are written where there is no alphabet of bytes."""


class Vocabulary:
    """The tokens of one model; from any thread.

    A tokenizer writes tokens in an alphabet of its own: each byte as a character (GPT-2's byte-level BPE), or the
    space as another one (SentencePiece). Decoding a single token would lose its space, and the bytes of a character
    that it has only a part of.

    Args:
        tokenizer: of transformers.
        decode: token ids to text.
        tags: special tokens that are text all the same.
    """

    def __init__(
        self, tokenizer: Any, decode: Callable[[Sequence[int]], str], tags: Mapping[int, str] | None = None
    ) -> None:
        self._tokenizer = tokenizer
        self._decode = decode
        self._tags = tags or {}
        self._added = tokenizer.added_tokens_decoder
        self._spaces: list[str] = []
        self._bytes: Mapping[str, int] | None = None
        own = getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None)
        if own is not None:
            for decoder in _decoders(json.loads(own.__getstate__())):
                self._learn(decoder)
        self._known = self._bytes is not None or bool(self._spaces)
        self._spelled: dict[int, tuple[str, bytes | None]] = {}

    def _learn(self, decoder: Mapping[str, Any]) -> None:
        if decoder["type"] == "ByteLevel":
            self._bytes = alphabet()
        elif decoder["type"] == "Metaspace":
            self._spaces.append(decoder["replacement"])
        elif decoder["type"] == "Replace" and decoder["content"] == " " and "String" in decoder["pattern"]:
            self._spaces.append(decoder["pattern"]["String"])

    def spelled(self, token: int) -> tuple[str, bytes | None]:
        """A token as text, in which a part of a character is U+FFFD, and as bytes.

        A special token is in no text: it has its name, and no bytes.
        """
        found = self._spelled.get(token)
        if found is None:
            found = self._spelled[token] = self._spell(token)
        return found

    def _spell(self, token: int) -> tuple[str, bytes | None]:
        if token in self._tags:
            return self._tags[token], self._tags[token].encode()
        name, added = self._tokenizer.convert_ids_to_tokens(token), self._added.get(token)
        if not isinstance(name, str):  # models have more token ids than tokens
            return "", None
        if added is not None:
            return added.content, None if added.special else added.content.encode()
        data = self._data(name) if self._known else self._decode([token]).encode()
        return data.decode("utf-8", "replace"), data

    def _data(self, name: str) -> bytes:
        if self._bytes is not None:
            known = self._bytes
            return b"".join(bytes([known[char]]) if char in known else char.encode() for char in name)
        if (single := FALLBACK.fullmatch(name)) is not None:
            return bytes([int(single[1], 16)])
        for space in self._spaces:
            name = name.replace(space, " ")
        return name.encode()


def _decoders(decoder: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A decoder of tokenizers, or those that it is a sequence of."""
    if decoder["type"] == "Sequence":
        for inner in decoder["decoders"]:
            yield from _decoders(inner)
    else:
        yield decoder


@cache
def alphabet() -> Mapping[str, int]:
    """The byte of each character in byte-level BPE: printable ones are themselves, the others begin at 256."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}
