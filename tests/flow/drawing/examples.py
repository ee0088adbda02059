"""Flows to draw: one of each shape, and random ones."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from itertools import count, pairwise
from typing import Any

from hypothesis import strategies as st

from millrace import Graph, If, LocalModel, Loop, Parallel, Pipeline, Step, Switch, Warp, bind, step


def clean(text: Any) -> Any:
    return text


def keyword_search(text: str) -> list[str]:
    return [text]


def vector_search(text: str) -> list[str]:
    return [text]


def make_prompt(question: str, notes: list[str]) -> str:
    return question


async def shout(text: Any) -> AsyncIterator[str]:
    yield str(text)


async def dotted(pieces: AsyncIterator[str]) -> AsyncIterator[str]:
    async for piece in pieces:
        yield piece


def is_short(text: Any) -> bool:
    return True


def rag() -> Pipeline[Any, Any]:
    with Pipeline(name="rag") as p:
        p.clean = clean
        p.notes = Parallel(bm25=keyword_search, dense=vector_search)
        p.prompt = bind(make_prompt, question=p.input, notes=p.notes["bm25"])
        p.llm = LocalModel("org/name")
    return p


def research() -> Graph[Any, Any]:
    with Graph(name="research") as g:
        g.load, g.verify, g.search, g.join, g.write = clean, clean, clean, lambda *all: all, shout
        g.edge(g.input, g.load)
        g.edge(g.input, g.verify)
        g.edge(g.load, g.search)
        g.edge((g.load, g.verify, g.search), g.join)
        g.edge(g.join, g.write)
        g.edge(g.write, g.output)
    return g


EXAMPLES: dict[str, Step[Any, Any]] = {
    "nothing": Pipeline(),
    "one step": step(clean),
    "pipeline": Pipeline(clean, clean, lambda x: x),
    "rag": rag(),
    "parallel": Parallel(clean, shout, collect="\n".join),
    "switch": Switch({is_short: shout, "faq": LocalModel("org/name"), 3: clean}, key=len, default=clean),
    "if": If(is_short, clean),
    "loop": Loop(Pipeline(clean, shout, dotted), count=3, until=is_short),
    "warp": Warp(Pipeline(clean, shout, name="each"), concurrency=4, collect=list),
    "live": Pipeline(shout, dotted, dotted),
    "policies": step(shout, retry=3, timeout=2, fallback=clean, cache=True),
    "graph": research(),
    "wide": Parallel(*[step(clean, name=f"branch_{i}") for i in range(12)]),
    "forty steps": Pipeline(*[step(clean, name=f"step_{i}") for i in range(40)]),
    "nested": Pipeline(
        clean,
        Parallel(a=Pipeline(clean, Parallel(clean, shout)), b=If(is_short, clean), c=shout),
        Loop(research(), count=1),
    ),
}


# ---------------------------------------------------------------- random flows, in which every name is there once


def named(number: int) -> Step[Any, Any]:
    return step(clean, name=f"s{number}")


def built(plan: Any, numbers: Iterator[int]) -> Step[Any, Any]:
    """A flow from a plan: a kind, whether it has a name, and what is inside."""
    if plan == "step":
        return named(next(numbers))
    if plan == "stream":
        return step(shout, name=f"s{next(numbers)}")
    kind, has_name, parts = plan
    inside = [built(part, numbers) for part in parts]
    name = f"{kind}{next(numbers)}" if has_name or kind in ALWAYS_NAMED else None
    match kind:
        case "pipeline":
            return Pipeline(*inside, name=name)
        case "parallel":
            return Parallel(**{f"b{next(numbers)}": one for one in inside}, name=name)
        case "beside":
            return Parallel(*inside, collect=lambda results: results[0], name=name)
        case "switch":
            test = step(is_short, name=f"t{next(numbers)}")
            others = {f"c{next(numbers)}": one for one in inside[1:]}
            return Switch({test: inside[0], **others}, name=name)
        case "if":
            return If(step(is_short, name=f"t{next(numbers)}"), *inside[:2], name=name)
        case "loop":
            return Loop(inside[0], count=2, name=name)
        case "warp":
            return Pipeline(lambda x: [x], Warp(inside[0], name=name), name=f"w{next(numbers)}")
        case _:
            return _graph(inside, numbers, name)


def _graph(inside: list[Any], numbers: Iterator[int], name: str | None) -> Graph[Any, Any]:
    names = [f"n{next(numbers)}" for _ in inside]
    edges: list[Any] = [("input", names[0]), *pairwise(names), (names[-1], "output")]
    if len(names) > 2:
        edges.append((names[0], names[2]))
        inside[2] = Pipeline(lambda *xs: xs[0], inside[2], name=f"w{next(numbers)}")
    return Graph(dict(zip(names, inside, strict=True)), edges, name=name)


ALWAYS_NAMED = ("beside", "switch", "if", "loop", "warp")
"""Two of them without names beside each other have the same paths inside."""

KINDS = ["pipeline", "parallel", "beside", "switch", "if", "loop", "warp", "graph"]


def _composed(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.tuples(st.sampled_from(KINDS), st.booleans(), st.lists(inner, min_size=1, max_size=4))


FLOWS = st.recursive(st.sampled_from(["step", "stream"]), _composed, max_leaves=12).map(
    lambda plan: built(plan, count(1))
)
