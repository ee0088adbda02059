"""How many at once: the one word for it in engines and services."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """At most `running` requests run, at most `waiting` more wait, each at most `queue_timeout` seconds.

    What comes beyond is refused at once with `Overloaded`, before any work is done.
    """

    running: int = 16
    waiting: int = 64
    queue_timeout: float = 30.0

    def __post_init__(self) -> None:
        if self.running < 1:
            raise ValueError(f"Limits(running={self.running}): at least one request must be able to run")
        if self.waiting < 0:
            raise ValueError(
                f"Limits(waiting={self.waiting}): the waiting line cannot be negative; 0 means none"
            )
        if self.queue_timeout <= 0:
            raise ValueError(f"Limits(queue_timeout={self.queue_timeout}): give a number of seconds above 0")
