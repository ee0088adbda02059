"""How an engine is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["EngineState", "EngineStatus"]

EngineState = Literal["cold", "loading", "ready", "failed", "closed"]


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """An engine at one moment; counters are since its start."""

    state: EngineState = "cold"
    model: str = ""
    stage: str = ""
    """What loading is at, such as "weights"."""
    progress: float = 0.0
    """How much of the loading is done, 0 to 1."""
    running: int = 0
    waiting: int = 0
    """Accepted and not running: in preparation, in the line, or preempted."""
    running_limit: int = 0
    """How many may run at once; 0 where that is not known."""
    waiting_limit: int = 0
    blocks_used: int = 0
    blocks_total: int = 0
    block_size: int = 0
    context_length: int = 0
    """The most tokens that a prompt and its answer may have together."""
    tokens_per_second: float = 0.0
    """Produced over the last seconds, all requests together."""
    time_to_first_token: float | None = None
    """Seconds from submit to the first output, the mean of the last 64 requests that had one; None before that."""
    steps: int = 0
    tokens_read: int = 0
    """Prompt tokens computed, recomputed ones included."""
    tokens_reused: int = 0
    """Prompt tokens that another request had left in the pool: prefix hits."""
    tokens_produced: int = 0
    preemptions: int = 0
    stops: Mapping[str, int] = field(default_factory=dict)
    """Finished requests by finish reason."""
    error: str = ""
    """Why the engine failed."""

    @property
    def blocks_free(self) -> int:
        return self.blocks_total - self.blocks_used

    @property
    def ready(self) -> bool:
        """True when a token can be produced at once."""
        return self.state == "ready"
