"""Timeouts: how long a server may take, phase by phase."""

from __future__ import annotations

from dataclasses import dataclass, fields

__all__ = ["Timeouts"]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a server may take, in seconds; None waits for ever.

    Args:
        connect: to take the connection; one that does not is tried again.
        first_token: from the sending of a request to the first word of its answer, or to the whole of an answer
            that does not stream. Servers with a line of their own take their time.
        between_tokens: from one word to the next. What a server sends only to keep the connection does not count.
        total: from `submit` to the end of the answer; it then ends as `timeout`, like one with a deadline.

    Raises:
        ValueError: a time that is no number above 0.
    """

    connect: float | None = 10.0
    first_token: float | None = 300.0
    between_tokens: float | None = 60.0
    total: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and (not isinstance(value, (int, float)) or not value > 0):
                raise ValueError(
                    f"Timeouts({field.name}={value!r}): give a number of seconds above 0, or None for no limit"
                )
