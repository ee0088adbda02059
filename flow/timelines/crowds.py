"""What is at work at the same time: how many there are, and in which lanes they can lie beside each other."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from .stories import Bout

__all__ = ["at_once", "lanes_of", "most_at_once"]


def most_at_once(bouts: Sequence[Bout]) -> int:
    """How many of them are at work at the same time, at most."""
    changes = [(_start(bout), 1) for bout in bouts]
    changes += [(_end(bout), -1) for bout in bouts]
    many = most = 0
    for _, change in sorted(changes):
        many += change
        most = max(most, many)
    return most


def lanes_of(bouts: Sequence[Bout], now: float) -> list[list[Bout]]:
    """The bouts, which are in order of their start, in as few lanes as they need to lie beside each other."""
    lanes: list[list[Bout]] = []
    free: list[tuple[float, int]] = []
    for bout in bouts:
        if free and free[0][0] <= _start(bout):
            _, lane = heapq.heappop(free)
        else:
            lane = len(lanes)
            lanes.append([])
        lanes[lane].append(bout)
        heapq.heappush(free, (now if bout.ended is None else bout.ended, lane))
    return lanes


def at_once(bouts: Sequence[Bout], begin: float, end: float, count: int) -> list[int]:
    """How many are at work in each of `count` equal parts of the time from `begin` to `end`."""
    changes = [0] * (count + 1)
    scale = count / (end - begin) if end > begin else 0.0
    for bout in bouts:
        start = 0 if bout.began is None else int((bout.began - begin) * scale)
        last = count - 1 if bout.ended is None else int((bout.ended - begin) * scale)
        start = min(max(start, 0), count - 1)
        changes[start] += 1
        changes[min(max(last, start), count - 1) + 1] -= 1
    found, many = [], 0
    for change in changes[:-1]:
        many += change
        found.append(many)
    return found


def _start(bout: Bout) -> float:
    return float("-inf") if bout.began is None else bout.began


def _end(bout: Bout) -> float:
    return float("inf") if bout.ended is None else bout.ended
