"""The same work inside of other flows: loops, switches, branches, nodes, and live steps behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from typing import Any

from millrace import Graph, If, Loop, Parallel, Pipeline, Switch, Warp, step
from tests.leaving.subjects import AsyncGenerator, Intermediate, Subject, SyncGenerator

__all__ = ["COMPOSED"]


async def dotted(pieces: AsyncIterator[str]) -> AsyncIterator[str]:
    async for piece in pieces:
        yield piece + "."


async def count(pieces: AsyncIterator[str]) -> int:
    return len([piece async for piece in pieces])


class Looped(AsyncGenerator):
    """In the first turn of a loop."""

    @property
    def flow(self) -> Pipeline[Any, Any]:
        return Pipeline(Loop(self.body, count=3))


class Chosen(AsyncGenerator):
    """In the branch of a switch, chosen by coroutines."""

    @property
    def flow(self) -> Pipeline[Any, Any]:
        async def fits(x: Any) -> bool:
            return True

        return Pipeline(Switch({"other": self.after, fits: If(fits, self.body)}))


class LiveChain(AsyncGenerator):
    """Behind it live steps, in flows in flows, that work on its pieces while they come."""

    @property
    def flow(self) -> Pipeline[Any, Any]:
        head = Pipeline(str.strip, self.body, dotted, name="head")
        return Pipeline(head, Pipeline(dotted, Loop(dotted, count=2), name="middle"), dotted)


class LiveChainInThreads(SyncGenerator):
    """The same, each in a thread of its own."""

    @property
    def flow(self) -> Pipeline[Any, Any]:
        def dashed(pieces: Iterator[str]) -> Iterator[str]:
            for piece in pieces:
                yield piece + "-"

        return Pipeline(Pipeline(self.body, dashed, name="head"), dotted, Pipeline(dashed, name="tail"))


class Branched(AsyncGenerator):
    """Its pieces go to several branches at once, of which one takes no stream."""

    @property
    def flow(self) -> Pipeline[Any, Any]:
        said = step(dotted, show="output")
        branches = Parallel(said, Pipeline(dotted, count), self.after, collect=list)
        return Pipeline(self.body, branches, self.after)


class Branch(AsyncGenerator):
    """A branch of several; another one waits, a third is over."""

    @property
    def flow(self) -> Pipeline[Any, Any]:
        async def waits(x: Any) -> None:
            await asyncio.Event().wait()

        body = step(self.body, show="output")
        return Pipeline(
            Parallel(body, waits, str.strip, Pipeline(waits, self.after), collect=list), self.after
        )


class Item(AsyncGenerator):
    """The second item of several, one at a time."""

    @property
    def flow(self) -> Pipeline[Any, Any]:
        async def item(x: int) -> AsyncIterator[str]:
            if x == 1:
                async for piece in self.body(x):
                    yield piece

        async def closed(x: int) -> AsyncIterator[str]:
            async with aclosing(item(x)) as pieces:
                async for piece in pieces:
                    yield piece

        return Pipeline(lambda x: range(4), Warp(step(closed, show="output"), concurrency=1), self.after)


class Shared(Intermediate):
    """In a graph, where two nodes read its pieces as they come."""

    @property
    def flow(self) -> Pipeline[Any, Any]:
        async def read(pieces: AsyncIterator[str]) -> int:
            return len([piece async for piece in pieces])

        edges = [("input", "body"), ("body", "a"), ("body", "b"), (("a", "b"), "after"), ("after", "output")]
        graph = Graph({"body": self.body, "a": read, "b": read, "after": lambda a, b: self.after(a)}, edges)
        return Pipeline(graph, self.after)


COMPOSED: dict[str, Callable[[], Subject]] = {
    "loop": Looped,
    "switch": Chosen,
    "live chain": LiveChain,
    "live chain in threads": LiveChainInThreads,
    "branches of a stream": Branched,
    "branch": Branch,
    "item": Item,
    "shared in a graph": Shared,
}
