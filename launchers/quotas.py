"""Quotas: how much of a service one owner may have."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Quota"]


@dataclass(frozen=True, slots=True)
class Quota:
    """At most `running` requests of one owner run at once; None: as many as the service lets run.

    Raises:
        ValueError: a number below 1.
    """

    running: int | None = None

    def __post_init__(self) -> None:
        if self.running is not None and self.running < 1:
            raise ValueError(f"Quota(running={self.running}): at least one request must be able to run")
