"""Lines of API keys: `[name:] key [running=2] [requests=100/min] [tokens=1m/day] [figures=all]`; `#` for a comment.

For a key its digest may stand, as `sha256:` and 64 hex digits. Keys of one name are one owner's; its quota, and
whether it sees the figures of all others, is what all its lines say together. Errors have nothing of a line in them,
since any part of it may be a key.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import NamedTuple

from ...streaming.errors import MillraceError
from ...streaming.units import pace_of
from ..owners import Owner
from ..quotas import Quota

__all__ = ["is_name", "parse_lines"]

logger = logging.getLogger("millrace.service")

DIGEST = re.compile(r"sha256:([0-9a-f]{64})", re.IGNORECASE)
NAME = re.compile(r"[A-Za-z0-9._@+-]{1,64}")
COMMENT = re.compile(r"(?:^|\s)#.*")
SHORTEST = 16
"""Characters of a key that is not warned of."""
UNNAMED = 6
"""Digits of its digest that a key without a name is called by."""


TOO_SHORT = "%s %d: this key has fewer than %d characters and could be guessed; give one that is random"


class Entry(NamedTuple):
    """One key: whose it is, its digest, and what its line says of the owner's quota."""

    name: str
    digest: bytes
    said: dict[str, str]
    short: bool


def parse_lines(lines: Iterable[str], where: str) -> dict[bytes, Owner]:
    """The owners of keys, by the keys' digests.

    Args:
        where: the lines come from, such as `keys.txt, line`; errors have it, with the line's number.

    Raises:
        MillraceError: a line that cannot be, or no key in all of them.
    """
    names: dict[bytes, str] = {}
    quotas: dict[str, dict[str, tuple[str, int]]] = {}
    for number, line in enumerate(lines, 1):
        try:
            entry = _parse(COMMENT.sub("", line).split())
            if entry is not None:
                if names.setdefault(entry.digest, entry.name) != entry.name:
                    raise ValueError("this key is in a line above already, under another name")
                _add(quotas.setdefault(entry.name, {}), entry.said, number)
                if entry.short:
                    logger.warning(TOO_SHORT, where, number, SHORTEST)
        except ValueError as error:
            raise MillraceError(f"{where} {number}: {error}") from None
    if not names:
        raise MillraceError(
            f"{where.rpartition(',')[0]} must have at least one key, of visible ASCII characters"
        )
    owners = {name: Owner(name, _quota(said), "figures" in said) for name, said in quotas.items()}
    return {digest: owners[name] for digest, name in names.items()}


def is_name(text: str) -> bool:
    """Whether an owner can be called so: up to 64 letters, digits and `._@+-`."""
    return NAME.fullmatch(text) is not None


def _parse(words: list[str]) -> Entry | None:
    """One line; None where there is nothing in it."""
    if not words:
        return None
    name = None
    if words[0].endswith(":"):
        name = words.pop(0)[:-1]
        if not is_name(name):
            raise ValueError("before the colon stands a name: up to 64 letters, digits and ._@+-")
    if not words or words[0].partition("=")[0] in CHECKS:
        raise ValueError("there is no key; write [name:] key [running=2] [requests=100/min] [tokens=1m/day]")
    digest = _digest(words[0])
    short = len(words[0]) < SHORTEST
    return Entry(name or f"key-{digest.hex()[:UNNAMED]}", digest, _said(words[1:]), short)


def _digest(key: str) -> bytes:
    found = DIGEST.fullmatch(key)
    if found is not None:
        return bytes.fromhex(found[1])
    if not (key.isascii() and key.isprintable()):
        raise ValueError("a key is of visible ASCII characters")
    if key.startswith("sha256:"):
        raise ValueError("after sha256: stand the 64 hex digits of the key's digest")
    if ":" in key:
        raise ValueError("there is no colon in a key; after a name stand a colon and a space")
    return sha256(key.encode()).digest()


# ---------------------------------------------------------------- quotas


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) > 0


def _is_all(text: str) -> bool:
    return text == "all"


def _is_pace(text: str) -> bool:
    try:
        pace_of(text)
    except ValueError:
        return False
    return True


CHECKS: dict[str, tuple[Callable[[str], bool], str]] = {
    "running": (_is_count, "a number above 0, as in running=2"),
    "requests": (_is_pace, "a rate, as in requests=100/min"),
    "tokens": (_is_pace, "a rate, as in tokens=1m/day"),
    "figures": (_is_all, "all, as in figures=all"),
}


def _said(words: list[str]) -> dict[str, str]:
    said: dict[str, str] = {}
    for word in words:
        name, _, text = word.partition("=")
        if name not in CHECKS:
            raise ValueError("after the key only running=, requests=, tokens= and figures= may stand")
        good, wanted = CHECKS[name]
        if not good(text):
            raise ValueError(f"after {name}= stands {wanted}")
        if name in said:
            raise ValueError(f"{name}= stands there twice")
        said[name] = text
    return said


def _add(known: dict[str, tuple[str, int]], said: dict[str, str], number: int) -> None:
    """What one line more says of an owner's quota.

    Raises:
        ValueError: an earlier line says otherwise.
    """
    for name, text in said.items():
        before, line = known.setdefault(name, (text, number))
        if before != text:
            raise ValueError(f"{name}= is not what line {line} says for the same name; say it once")


def _quota(said: dict[str, tuple[str, int]]) -> Quota:
    texts = {name: text for name, (text, _) in said.items()}
    running = texts.get("running")
    return Quota(None if running is None else int(running), texts.get("requests"), texts.get("tokens"))
