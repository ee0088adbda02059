"""Batcher: which texts go into the next forward."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from .jobs import EmbeddingJob, Vector

__all__ = ["Batch", "Batcher", "Work"]


@dataclass(eq=False)
class Work:
    """A job inside of the engine: its texts as tokens, and what has become of them."""

    job: EmbeddingJob
    rows: Sequence[list[int]]
    vectors: list[Vector] = field(init=False)
    left: int = field(init=False)
    """Texts that have no vector yet."""
    order: deque[int] = field(init=False)
    """Texts that are still to be run, the longest first: neighbours are alike, so little is padding."""

    def __post_init__(self) -> None:
        self.vectors = [[] for _ in self.rows]
        self.left = len(self.rows)
        self.order = deque(sorted(range(len(self.rows)), key=lambda at: -len(self.rows[at])))

    def take(self, at: int, vector: Vector) -> bool:
        """Keeps the vector of a text; true when it was the last one."""
        self.vectors[at] = vector
        self.left -= 1
        return not self.left


Batch = list[tuple[Work, int]]
"""Texts of one forward: whose they are, and which one there."""


class Batcher:
    """Takes texts from all jobs in turn, so that a large one does not keep a small one waiting.

    Args:
        most_tokens: of a forward, padding included; a text that is longer goes alone.
        running: how many jobs take part at once; the others wait in the order of their coming.
    """

    def __init__(self, most_tokens: int, running: int) -> None:
        self._most_tokens = most_tokens
        self._running = running
        self._works: list[Work] = []
        self._first = 0

    @property
    def idle(self) -> bool:
        return not self._works

    def add(self, work: Work) -> None:
        self._works.append(work)

    def next_batch(self) -> Batch:
        """The texts of the next forward; empty when nothing is left to do. Jobs that are over are dropped."""
        self._works = [work for work in self._works if work.order and work.job.finish_reason is None]
        active = self._works[: self._running]
        if not active:
            return []
        self._first = (self._first + 1) % len(active)
        turns = deque(active[self._first :] + active[: self._first])
        batch: Batch = []
        longest = 0
        while turns:
            work = turns.popleft()
            length = max(longest, len(work.rows[work.order[0]]))
            if batch and length * (len(batch) + 1) > self._most_tokens:
                continue  # a shorter one of another job may still fit
            longest = length
            batch.append((work, work.order.popleft()))
            work.job.begun = True
            if work.order:
                turns.append(work)
        return batch
