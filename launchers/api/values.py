"""Values as JSON has them: what a flow gives may be anything, and a client is sent text."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

__all__ = ["as_json", "as_text", "plain", "with_whole_numbers"]

LONG = 10_000
"""Bits of a whole number that may be too long to be written."""

DEEPEST = 50
"""Levels of a value that holds errors, of which its text is told."""


def plain(value: Any) -> Any:
    """A value as JSON has it: models and dataclasses as objects, tuples and sets as lists, NaN as null; what is none of
    that as its text, and errors as their type alone.
    """
    from pydantic_core import to_jsonable_python

    if value is None or isinstance(value, (str, bool, int)):
        return value
    try:
        return to_jsonable_python(value, fallback=_in_words, inf_nan_mode="null", serialize_unknown=False)
    except Exception:  # it contains itself, bytes that are no text, ...
        return _in_words(value)


def as_json(value: Any) -> str:
    """One line of JSON, in ASCII: half a surrogate pair passes, and no line break that a client might cut at."""
    try:
        return json.dumps(value, separators=(",", ":"))
    except ValueError:  # Python writes no number of thousands of digits
        return json.dumps(_with_short_numbers(value), separators=(",", ":"))


def as_text(value: Any) -> str:
    """A value as the text of an answer."""
    if type(value) is str:
        return value
    return "" if value is None else _in_words(value)


def with_whole_numbers(value: Any) -> Any:
    """JSON with each whole number as an int: for JSON schemas 3.0 is one too."""
    if isinstance(value, dict):
        return {key: with_whole_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [with_whole_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _in_words(value: object) -> str:
    try:
        return type(value).__name__ if isinstance(value, BaseException) else str(_without_errors(value))
    except Exception:
        return f"(a {type(value).__name__} that cannot be shown)"


def _without_errors(value: Any) -> Any:
    """What a Parallel that keeps its errors gives, with their types alone: what they say is for the log.

    Where there are none it stays as it is.
    """
    return _named(value) if _holds_errors(value) else value


def _holds_errors(value: Any) -> bool:
    """Whether there is an error anywhere inside, however deep, also of what contains itself."""
    seen: dict[int, Any] = {}
    rest = [value]
    while rest:
        item = rest.pop()
        if isinstance(item, BaseException):
            return True
        parts = _parts(item)
        if parts and id(item) not in seen:
            seen[id(item)] = item
            rest += [*parts, *parts.values()] if isinstance(parts, Mapping) else parts
    return False


def _parts(value: Any) -> Mapping[Any, Any] | Collection[Any]:
    """What a value is made of; nothing, where it is none of those that can be looked into."""
    if isinstance(value, Mapping | list | tuple | set | frozenset | deque):
        return value
    if isinstance(value, type):
        return ()
    if is_dataclass(value):
        return {field.name: getattr(value, field.name, None) for field in fields(value)}
    if hasattr(type(value), "__pydantic_fields__"):
        return {**vars(value), **(value.__pydantic_extra__ or {})}
    return ()


def _named(value: Any, above: tuple[int, ...] = ()) -> Any:
    """The value with its errors named, without what is too deep or contains itself; `above`: what it is in, by id."""
    if isinstance(value, BaseException):
        return type(value).__name__
    parts = _parts(value)
    if not parts:
        return value
    if id(value) in above or len(above) == DEEPEST:
        return ...
    above = (*above, id(value))
    if isinstance(parts, Mapping):
        return {_key(key, above): _named(item, above) for key, item in parts.items()}
    return [_named(item, above) for item in parts]


def _key(key: Any, above: tuple[int, ...]) -> Any:
    return str(_named(key, above)) if _holds_errors(key) else key


def _with_short_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_short_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_short_numbers(item) for item in value]
    return _in_words(value) if type(value) is int and value.bit_length() > LONG else value
