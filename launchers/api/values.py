"""Values as JSON has them: what a flow gives may be anything, and a client is sent text."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["as_json", "plain"]


def plain(value: Any) -> Any:
    """A value as JSON has it: models and dataclasses as objects, tuples and sets as lists, NaN as null; what is none of
    that as its text.
    """
    from pydantic_core import to_jsonable_python

    if value is None or isinstance(value, (str, bool, int)):
        return value
    return to_jsonable_python(value, fallback=_in_words, inf_nan_mode="null", serialize_unknown=False)


def as_json(value: Any) -> str:
    """One line of JSON, in ASCII: half a surrogate pair passes, and no line break that a client might cut at."""
    return json.dumps(value, separators=(",", ":"))


def _in_words(value: object) -> str:
    try:
        return str(value)
    except Exception:
        return f"(a {type(value).__name__} that cannot be shown)"
