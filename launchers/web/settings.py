"""What the user of a chat may ask of the model that answers: more instructions, and how it chooses its words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

__all__ = ["RANGES", "UNSAID", "Settings"]

LONGEST = 20_000
"""Characters of a system prompt."""

RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0.0, 2.0),
    "top_p": (0.01, 1.0),
    "max_tokens": (1, 1_000_000),
    "seed": (0, 2**31 - 1),
}
WHOLE = ("max_tokens", "seed")


@dataclass(frozen=True, slots=True)
class Settings:
    """Those of one conversation. None is what the flow says itself; `system` is put before the conversation."""

    system: str = ""
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """From anything: what is out of range is put at its border, what is no number left out."""
        system = given.get("system")
        numbers = {name: _number(name, given.get(name)) for name in RANGES}
        return cls(system[:LONGEST].strip() if isinstance(system, str) else "", **numbers)

    def sampling(self) -> dict[str, Any]:
        """As a run takes it."""
        return {name: value for name in RANGES if (value := getattr(self, name)) is not None}

    def as_dict(self) -> dict[str, Any]:
        """What differs from nothing said."""
        all = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in all.items() if value not in (None, "")}


UNSAID = Settings()
"""All as the flow says it."""


def _number(name: str, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    low, high = RANGES[name]
    inside = min(max(value, low), high)
    return round(inside) if name in WHOLE else float(inside)
