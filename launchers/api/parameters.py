"""Parameters: how the parts of a request's body are checked, and refused by their names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from .refusals import Refusal

__all__ = [
    "Known",
    "Number",
    "check_json",
    "check_keys",
    "check_text",
    "flag",
    "invalid",
    "unsupported",
]

LEAVE_OUT = "leave it out"

DEEPEST = 64
"""Levels of lists and objects in a schema or in metadata: whoever reads them must not run out of stack."""


class Number(NamedTuple):
    """The range of a numeric parameter; `whole` for integers."""

    low: float
    high: float
    whole: bool = False

    def check(self, value: Any, name: str) -> Any:
        if self.whole and type(value) is float and value.is_integer():
            value = int(value)  # for JSON schemas 3.0 is a whole number too
        kinds = (int,) if self.whole else (int, float)
        if type(value) not in kinds or not self.low <= value <= self.high:
            kind = "a whole number" if self.whole else "a number"
            raise invalid(f"{name} must be {kind} from {self.low:g} to {self.high:g}", name)
        return value

    def schema(self) -> dict[str, Any]:
        return {
            "type": "integer" if self.whole else "number",
            "minimum": self.low,
            "maximum": self.high,
        }


class Known(NamedTuple):
    """What the body of a request may say at one endpoint, by what becomes of it."""

    own: frozenset[str]
    """What needs more than a look at its own value: left to the endpoint."""
    harmless: frozenset[str]
    """What is accepted and unused."""
    neutral: Mapping[str, tuple[Any, ...]]
    """What is not supported, with the values that ask for nothing."""
    numbers: Mapping[str, Number] = {}
    cures: Mapping[str, str] = {}
    """What to do about a parameter that is refused, where that is more than to leave it out."""

    def check(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Looks at every parameter, and gives the numbers; null is as if it were left out.

        Raises:
            Refusal: 400, naming the parameter.
        """
        numbers: dict[str, Any] = {}
        for name, value in body.items():
            if value is None:
                continue
            number = self.numbers.get(name)
            if number is not None:
                numbers[name] = number.check(value, name)
            elif name in self.harmless:
                check_json(value, name)
            elif name not in self.own:
                self._refuse(name, value)
        return numbers

    def _refuse(self, name: str, value: Any) -> None:
        """Refuses a parameter that is not supported, unless it asks for nothing: has one of its `neutral` values."""
        cure = self.cures.get(name, LEAVE_OUT)
        if name not in self.neutral:
            raise invalid(f"unknown parameter {name[:60]!r}; {cure}", name[:60], "unknown_parameter")
        if not any(type(value) is type(nothing) and value == nothing for nothing in self.neutral[name]):
            raise unsupported(name, cure=cure)


def invalid(message: str, param: str | None, code: str = "invalid_value") -> Refusal:
    """400, for what is malformed."""
    return Refusal(400, message, code, param)


def unsupported(name: str, why: str = "is not supported here", cure: str = LEAVE_OUT) -> Refusal:
    """400, for what is known and cannot be done."""
    return invalid(f"{name} {why}; {cure}", name, "unsupported_parameter")


def flag(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise invalid(f"{name} must be true or false", name)
    return value


def check_text(text: Any, where: str) -> str:
    """Text that can be encoded: half of a surrogate pair cannot."""
    if not isinstance(text, str):
        raise invalid(f"{where} must be text", where)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise invalid(f"{where} has half a surrogate pair at character {error.start}", where) from None
    return text


def check_keys(given: dict[str, Any], known: tuple[str, ...], where: str) -> None:
    """An object that says nothing but what is known."""
    if (wrong := next((name for name in given if name not in known), None)) is not None:
        name = f"{where}.{wrong[:60]}" if where else wrong[:60]
        raise invalid(f"unknown parameter {name!r}; leave it out", name, "unknown_parameter")


def check_json(value: Any, where: str) -> Any:
    """JSON that others can read too: all text can be encoded, all numbers are finite, nothing is too deep."""
    todo = [(value, 0)]
    while todo:
        part, depth = todo.pop()
        if isinstance(part, str):
            check_text(part, where)
        elif isinstance(part, float) and not math.isfinite(part):
            raise invalid(f"{where} has a number that is too large", where)
        elif isinstance(part, (dict, list)):
            if depth >= DEEPEST:
                raise invalid(f"{where} is nested more than {DEEPEST} levels deep", where)
            inner = part if isinstance(part, list) else [*part, *part.values()]
            todo.extend((each, depth + 1) for each in inner)
    return value
