"""Plain values: what a step was given, as JSON has it."""

from __future__ import annotations

import datetime
import decimal
import json
import pathlib
import uuid
from collections.abc import Mapping, Set
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from ...streaming.messages import Message

__all__ = ["as_json"]

WRITTEN = (decimal.Decimal, uuid.UUID, pathlib.PurePath)
"""Types whose text is all there is to a value."""


def as_json(value: Any) -> bytes:
    """A value as JSON: dataclasses and pydantic's models as objects, messages without their marks, tuples and sets as
    lists, dates in ISO 8601.

    Raises:
        TypeError: a part of it is nothing that JSON has; names its type.
        ValueError: a number that JSON does not have, or a value that contains itself.
    """
    try:
        return json.dumps(value, default=_plain, allow_nan=False, separators=(",", ":")).encode()
    except RecursionError:
        raise ValueError("it is nested too deep for JSON") from None


def _plain(value: Any) -> Any:
    """One step towards JSON, for what it has no form of."""
    if isinstance(value, Message):  # marks are for those who have made it
        told = {field.name: getattr(value, field.name) for field in fields(value) if field.name != "marks"}
        return {name: part for name, part in told.items() if part not in ((), None)}
    if callable(dump := getattr(value, "model_dump", None)) and not isinstance(value, type):
        return dump(mode="json")
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Set):
        return list(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, WRITTEN):
        return str(value)
    raise TypeError(
        f"a {type(value).__qualname__} is no JSON; give text, numbers, lists and dicts of them, a dataclass or a "
        "pydantic model"
    )
