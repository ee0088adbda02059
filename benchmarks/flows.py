"""Kinds of flows: what each costs for one call, beside the same in plain Python or asyncio, in the same run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from millrace import Graph, If, Pipeline, Step, Switch, Warp, arg, bind

from .spine import asame, rounds, row, same, timed, timed_async

TIMES = 100
"""How many of a cheap step stand in one pipeline, so that what a run costs is not counted with it."""


async def ajoin(b: Any, c: Any) -> Any:
    return b


async def diamond() -> dict[str, Any]:
    with Graph() as g:
        g.a, g.b, g.c, g.d = asame, asame, asame, ajoin
        g.edge(g.input, g.a)
        g.edge(g.a, g.b)
        g.edge(g.a, g.c)
        g.edge((g.b, g.c), g.d)
        g.edge(g.d, g.output)

    async def gathered() -> None:
        a = await asame(1)
        await ajoin(*await asyncio.gather(asame(a), asame(a)))

    value, floor = await rounds(30, timed_async(lambda: g.acall(1), 300), timed_async(gathered, 300))
    return row("a diamond of 4 async nodes, beside asyncio.gather", value, floor, 80)


async def warp() -> dict[str, Any]:
    flow, items = Warp(asame), list(range(100))

    async def gathered() -> None:
        await asyncio.gather(*(asame(i) for i in items))

    value, floor = await rounds(30, timed_async(lambda: flow.acall(items), 20), timed_async(gathered, 20))
    return row("a Warp of 100 async items, beside asyncio.gather", value, floor, 300)


async def each(name: str, step: Step[Any, Any], plain: Callable[[Any], Any]) -> dict[str, Any]:
    """What one such step of plain functions costs in a pipeline, called synchronously."""
    flow = Pipeline(*[step] * TIMES)

    def floor() -> None:
        x = 1
        for _ in range(TIMES):
            x = plain(x)

    value, least = await rounds(20, timed(lambda: flow(1), 50), timed(floor, 50))
    return row(name, value / TIMES, least / TIMES, 1.5)


def positive(x: int) -> bool:
    return x > 0


def pair(k: int, x: Any) -> Any:
    return x


def either(x: Any) -> Any:
    return same(x) if positive(x) else x


def cases(x: Any) -> Any:
    return {0: same, 1: same}[same(x)](x)


async def cheap_ones() -> list[dict[str, Any]]:
    return [
        await each("a Switch with 2 cases", Switch({0: same, 1: same}, key=same), cases),
        await each("an If", If(positive, same, same), either),
        await each("a bind", bind(pair, 10, arg[0]), lambda x: pair(10, x)),
    ]


def run() -> list[dict[str, Any]]:
    rows = [asyncio.run(diamond()), asyncio.run(warp())]
    return rows + asyncio.run(cheap_ones())


if __name__ == "__main__":
    from benchmarks.tables import table

    print(table(run()))
