"""Keys: what a value comes to as bytes, the same in every process, so that equal inputs are found again."""

from __future__ import annotations

import datetime
import decimal
import fractions
import hashlib
import pathlib
import struct
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any

from ..args import Args, Call

__all__ = ["Unkeyable", "digest"]

WRITTEN = (
    datetime.date,
    datetime.datetime,
    datetime.time,
    datetime.timedelta,
    decimal.Decimal,
    fractions.Fraction,
    pathlib.PosixPath,
    pathlib.PurePosixPath,
    pathlib.PureWindowsPath,
    pathlib.WindowsPath,
    uuid.UUID,
    complex,
    range,
)
"""Types whose `repr` is all there is to a value."""


class Unkeyable(Exception):
    """A value that is no key. `place` says where in the whole, `kind` what it is."""

    def __init__(self, value: Any, place: str) -> None:
        kind = type(value)
        self.kind = (
            kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        )
        self.place = place
        super().__init__(f"{place or 'it'} is a {self.kind}")


def digest(value: Any) -> str:
    """256 bits in hex; equal only for values of equal types and content. The order of a dict counts.

    Known are None, bool, numbers, text, bytes, lists, tuples, dicts, sets, Args, enums, dataclasses, named tuples,
    dates and times, Decimal, Fraction, UUID and paths.

    Raises:
        Unkeyable: anything else, or a value that contains itself.
    """
    return _hash(value, "", ()).hex()


def _hash(value: Any, place: str, outer: tuple[int, ...]) -> bytes:
    hasher = hashlib.blake2b(digest_size=32)
    kind = type(value)
    if value is None or kind in (bool, int, str, bytes, bytearray, float):
        hasher.update(kind.__name__.encode() + b":" + _plain(value))
        return hasher.digest()
    if id(value) in outer or len(outer) > 200:
        raise Unkeyable(value, place)
    inner = (*outer, id(value))
    tag, parts = _taken_apart(value, place)
    hasher.update(tag.encode() + b"(")
    hashes: Iterable[bytes] = (_hash(part, f"{place}{where}", inner) for where, part in parts)
    for part in sorted(hashes) if kind in (set, frozenset) else hashes:
        hasher.update(part)  # all of one length, so that none runs into the next
    return hasher.digest()


def _plain(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    if isinstance(value, float):
        return struct.pack(">d", value)
    return format(value, "x").encode() if type(value) is int else repr(value).encode()


def _taken_apart(value: Any, place: str) -> tuple[str, Iterable[tuple[str, Any]]]:
    """What a value is called, and its parts with their places."""
    kind: Any = type(value)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if kind in (list, tuple, Args, set, frozenset) or (issubclass(kind, tuple) and hasattr(kind, "_fields")):
        return name, ((f"[{i}]", part) for i, part in enumerate(value))
    if kind in (dict, MappingProxyType):
        return "dict", _pairs(value)
    if kind is Call:
        return name, (("", value.args), ("", dict(value.kwargs)))
    if isinstance(value, Enum):
        return name, (("", value.name),)
    if is_dataclass(value) and not isinstance(value, type):
        return name, ((f".{f.name}", getattr(value, f.name)) for f in fields(value))
    if kind in WRITTEN:
        return name, (("", repr(value)),)
    raise Unkeyable(value, place)


def _pairs(value: Mapping[Any, Any]) -> Iterable[tuple[str, Any]]:
    for key, part in value.items():
        yield f" (a key {key!r:.40})", key
        yield f"[{key!r:.40}]", part
