"""When a step has spoken: how many pieces in each moment, in bounded room."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Pulses"]

FINEST = 0.002
"""Seconds of a moment, at first."""

MOST = 1024
"""Moments that are kept; beyond, two become one."""


class Pulses:
    """Pieces by the moment in which they came; moments become longer where there are too many of them."""

    __slots__ = ("counts", "grain", "total")

    def __init__(self) -> None:
        self.grain = FINEST
        self.counts: dict[int, int] = {}
        self.total = 0

    def add(self, time: float, count: int = 1) -> None:
        moment = int(time / self.grain)
        counts = self.counts
        counts[moment] = counts.get(moment, 0) + count
        self.total += count
        if len(counts) > MOST:
            self._widen()

    def _widen(self) -> None:
        self.grain *= 2
        counts, self.counts = self.counts, {}
        for moment, count in counts.items():
            self.counts[moment // 2] = self.counts.get(moment // 2, 0) + count

    def extent(self) -> tuple[float, float]:
        """When the first and the last of them came; of none it is 0."""
        moments = self.counts or (0,)
        return min(moments) * self.grain, (max(moments) + 1) * self.grain

    def columns(self, start: float, end: float, count: int) -> list[int]:
        """The pieces in each of `count` equal parts of the time from `start` to `end`."""
        found = [0] * count
        scale = count / (end - start) if end > start else 0.0
        for moment, many in self.counts.items():
            column = int(((moment + 0.5) * self.grain - start) * scale)
            found[min(max(column, 0), count - 1)] += many
        return found

    @staticmethod
    def joined(several: Iterable[Pulses]) -> Pulses:
        """All of them as one."""
        made = Pulses()
        for one in several:
            for moment, count in one.counts.items():
                made.add((moment + 0.5) * one.grain, count)
        return made
