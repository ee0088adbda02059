"""Values as JSON has them: what a flow gives may be anything, and a client is sent text."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["as_json", "plain"]


LONG = 10_000
"""Bits of a whole number that may be too long to be written."""


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
    return "" if value is None else _in_words(value)


def _in_words(value: object) -> str:
    try:
        return type(value).__name__ if isinstance(value, BaseException) else str(_without_errors(value))
    except Exception:
        return f"(a {type(value).__name__} that cannot be shown)"


def _without_errors(value: Any) -> Any:
    """What a Parallel that keeps its errors gives, with their types alone: what they say is for the log."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    if not any(isinstance(item, BaseException) for item in items):
        return value
    if isinstance(value, dict):
        return {key: _named(item) for key, item in value.items()}
    return [_named(item) for item in value]


def _named(value: Any) -> Any:
    return type(value).__name__ if isinstance(value, BaseException) else value


def _with_short_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_short_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_short_numbers(item) for item in value]
    return _in_words(value) if type(value) is int and value.bit_length() > LONG else value
