"""Histograms: how long things took, as counts below fixed bounds, which can be added up over time and processes."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

__all__ = ["BOUNDS", "Histogram", "quantile"]

BOUNDS = (*(float(f"{digit}e{power}") for power in range(-4, 3) for digit in (1, 2, 5)), 1000.0)
"""Seconds: the upper ends of the classes, themselves included; one more class is open."""


class Histogram:
    """Counts seconds by their size. To count one costs a search among the bounds, and nothing is kept of it."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.sum = 0.0

    def add(self, seconds: float, times: int = 1) -> None:
        """Something took so long, so many times."""
        self.counts[bisect_left(BOUNDS, seconds)] += times
        self.sum += seconds * times

    def merge(self, other: Histogram) -> None:
        """All that another one has counted as well."""
        self.counts = [one + more for one, more in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum

    def figures(self) -> dict[str, Any]:
        """`counts` of the classes, each for itself, and the `sum` of all seconds."""
        return {"counts": list(self.counts), "sum": self.sum}


def quantile(figures: Mapping[str, Any], share: float) -> float | None:
    """The seconds that a `share` of all took at most, about: within a class it goes up evenly.

    None where there is nothing; the last bound for what is in the open class.
    """
    counts: Sequence[int] = figures["counts"]
    rank = share * sum(counts)
    if not rank:
        return None
    for place, below in enumerate(accumulate(counts)):
        if below >= rank and place < len(BOUNDS):
            lower = BOUNDS[place - 1] if place else 0.0
            inside = (rank - (below - counts[place])) / counts[place]
            return lower + (BOUNDS[place] - lower) * inside
    return BOUNDS[-1]
