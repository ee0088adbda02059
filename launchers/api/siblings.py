"""Siblings: the figures of all workers of a service together, whichever of them is asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Siblings", "added", "remains", "together"]

Figures = dict[str, Any]

COUNTED = ("runs", "times", "keys")
"""Of a worker's figures, those that only ever grow."""


@dataclass(frozen=True, slots=True)
class Siblings:
    """A worker's way to the figures of the others.

    Args:
        worker: its own number, from 1 on.
        ask: tells the supervisor the own figures, so that they are known when this process is gone, and asks it for
            those of the others: `workers` by number, `past` (what is left of workers that are gone) and `uptime`. A
            worker that does not answer in time is told as it was last.
    """

    worker: int
    ask: Callable[[Figures], Awaitable[Figures]]

    async def figures(self, own: Figures) -> Figures:
        """The figures of the service, where `own` are those of this worker."""
        told = await self.ask(own)
        workers = {int(number): figures for number, figures in told["workers"].items()}
        workers[self.worker] = own
        uptime = told.get("uptime", own["uptime"])
        return {**together(self.worker, workers, told["past"]), "uptime": uptime}


def together(own: int, workers: Mapping[int, Figures], past: Figures) -> Figures:
    """What counts is summed, engines are listed with the number of their worker, everything else is the own."""
    whole = dict(workers[own])
    for name, value in whole.items():
        if isinstance(value, Mapping):
            for figures in [past, *(told for number, told in workers.items() if number != own)]:
                whole[name] = added(whole[name], figures.get(name, {}))
    whole["engines"] = [
        {**engine, "worker": number} for number in sorted(workers) for engine in workers[number]["engines"]
    ]
    ready = sum(figures["status"] == "ready" for figures in workers.values())
    return {**whole, "workers": {"all": len(workers), "ready": ready}}


def added(one: Any, other: Any) -> Any:
    """Numbers are added, in mappings by name and in lists by place; of anything else the first is taken."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return {name: added(one.get(name), other.get(name)) for name in {**one, **other}}
    if isinstance(one, list) and isinstance(other, list):
        return [added(*pair) for pair in zip(one, other, strict=True)]
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one + other
    return other if one is None else one


def remains(figures: Figures) -> Figures:
    """What is left of the figures of a worker that is gone: what it has counted, and what it had begun has failed."""
    left = {name: figures[name] for name in COUNTED if name in figures}
    runs = dict(left["runs"])
    runs["failed"] += 2 * runs["started"] - sum(runs.values())
    return {**left, "runs": runs}
