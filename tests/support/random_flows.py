"""Random flows for property tests, each with the value that it must give and a count of the steps that are at work.

Every step takes a text and gives one, and what it gives does not depend on how the text came to it: as a value or piece
by piece. So `Plan.value` is written without flows, and whatever `Plan.build` builds has to agree with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from millrace import Args, Diverter, Graph, If, Loop, Parallel, Pipeline, Switch, Warp, bind, step
from tests.support.random_steps import LEAVES, Witness

__all__ = ["Plan", "Witness", "leaves", "plans"]


@dataclass(frozen=True)
class Plan:
    """A step to be built: its kind, the plans inside it, and what tells it from others."""

    kind: str
    parts: tuple[Plan, ...] = ()
    mark: str = ""
    """What a leaf adds to the text."""
    name: str | None = None
    most: int | None = None
    """How many branches at once, or how many turns."""

    def value(self, x: str) -> str:
        """What the step must give for `x`."""
        return VALUES[self.kind](self, x) if self.kind in VALUES else x + self.mark

    def build(self, witness: Witness) -> Any:
        """A new step; `witness` sees the leaves at work."""
        if self.kind in FLOWS:
            return FLOWS[self.kind](self, [part.build(witness) for part in self.parts])
        return LEAVES[self.kind](self.mark, witness)

    def __str__(self) -> str:
        inside = ", ".join(map(str, self.parts)) or repr(self.mark)
        return f"{self.kind}({inside}{f', {self.most}' if self.most else ''}{', named' if self.name else ''})"


# ---------------------------------------------------------------- flows


def _pipeline(plan: Plan, steps: list[Any]) -> Any:
    return Pipeline(*steps, name=plan.name)


def _written(plan: Plan, steps: list[Any]) -> Any:
    with Pipeline(name=plan.name) as p:
        for i, made in enumerate(steps):
            setattr(p, f"part_{i}", made)
        p.last = bind(
            lambda given, last: f"{last}<{given[:1]}>", p.input, getattr(p, f"part_{len(steps) - 1}")
        )
    return p


def _parallel(plan: Plan, steps: list[Any]) -> Any:
    return Parallel(*steps, collect="|".join, concurrency=plan.most, name=plan.name)


def _named_branches(plan: Plan, steps: list[Any]) -> Any:
    *branches, post = steps
    return Parallel(
        collect=lambda found: "|".join(found.values()),
        post=post,
        concurrency=plan.most,
        name=plan.name,
        **{f"branch_{i}": made for i, made in enumerate(branches)},
    )


def _diverter(plan: Plan, steps: list[Any]) -> Any:
    def halves(x: str) -> Args:
        return Args(x[: len(x) // 2], x[len(x) // 2 :])

    return Pipeline(halves, Diverter(*steps, collect="|".join, concurrency=plan.most), name=plan.name)


def _warp(plan: Plan, steps: list[Any]) -> Any:
    return Pipeline(
        lambda x: list(x[:3]), Warp(steps[0], collect="|".join, concurrency=plan.most), name=plan.name
    )


def _switch(plan: Plan, steps: list[Any]) -> Any:
    async def is_one(rest: int) -> bool:
        return rest == 1

    return Switch(
        {0: steps[0], (is_one if plan.most else (lambda rest: rest == 1)): steps[1]},
        key=lambda x: len(x) % 3,
        default=steps[2],
        name=plan.name,
    )


def _if(plan: Plan, steps: list[Any]) -> Any:
    return If(lambda x: len(x) % 2, *steps, name=plan.name)


def _loop(plan: Plan, steps: list[Any]) -> Any:
    return Loop(steps[0], count=plan.most or 1, name=plan.name)


def _until(plan: Plan, steps: list[Any]) -> Any:
    async def is_long(x: str) -> bool:
        return len(x) > 6

    return Loop(steps[0], count=3, until=is_long if plan.most else (lambda x: len(x) > 6), name=plan.name)


def _graph(plan: Plan, steps: list[Any]) -> Any:
    """A diamond; what takes its upstream live shares that of the first node."""
    with Graph(name=plan.name, concurrency=plan.most) as g:
        g.first, g.left, g.right, g.join = *steps, lambda left, right: f"{left}|{right}"
        g.edge(g.input, g.first)
        g.edge(g.first, g.left)
        g.edge(g.first, g.right)
        g.edge((g.left, g.right), g.join)
        g.edge(g.join, g.output)
    return g


def _policy(plan: Plan, steps: list[Any]) -> Any:
    if plan.most is None:
        return step(steps[0], timeout=60, retry=2)
    if plan.most == 1:
        return step(steps[0], concurrency=1, fallback=str)
    return step(Pipeline(lambda x: x, steps[0]), concurrency=2, cache=True)  # a key needs all of the value


def _joined(plan: Plan, steps: list[Any]) -> Any:
    inner = Pipeline(*steps)

    async def joins(x: str) -> Any:
        return await inner.acall(x)

    return joins


def _joined_from_a_thread(plan: Plan, steps: list[Any]) -> Any:
    inner = Pipeline(*steps)

    def joins(x: str) -> Any:
        return inner(x)

    return joins


def _child(plan: Plan, steps: list[Any]) -> Any:
    inner = Pipeline(*steps)

    async def listens(x: str) -> Any:
        async with inner.stream(x) as stream:
            async for _ in stream:
                pass
        return stream.result

    return listens


FLOWS: dict[str, Callable[[Plan, list[Any]], Any]] = {
    "pipeline": _pipeline,
    "written": _written,
    "parallel": _parallel,
    "named branches": _named_branches,
    "diverter": _diverter,
    "warp": _warp,
    "switch": _switch,
    "if": _if,
    "loop": _loop,
    "until": _until,
    "graph": _graph,
    "policy": _policy,
    "joined": _joined,
    "joined from a thread": _joined_from_a_thread,
    "child": _child,
}
COUNTS = {
    "parallel": 3,
    "named branches": 3,
    "diverter": 2,
    "warp": 1,
    "switch": 3,
    "if": 2,
    "loop": 1,
    "until": 1,
    "graph": 3,
    "policy": 1,
}
"""How many parts a flow has; the others have one to three."""


# ---------------------------------------------------------------- what they must give


def _value_in_turn(plan: Plan, x: str) -> str:
    for part in plan.parts:
        x = part.value(x)
    return x


def _value_of_until(plan: Plan, x: str) -> str:
    for _ in range(3):
        x = plan.parts[0].value(x)
        if len(x) > 6:
            break
    return x


def _value_of_diverter(plan: Plan, x: str) -> str:
    a, b = plan.parts
    return a.value(x[: len(x) // 2]) + "|" + b.value(x[len(x) // 2 :])


VALUES: dict[str, Callable[[Plan, str], str]] = {
    "live async generator": lambda plan, x: x.swapcase() + plan.mark,
    "live generator": lambda plan, x: x.swapcase() + plan.mark,
    "live coroutine function": lambda plan, x: x.upper() + plan.mark,
    "live function": lambda plan, x: x.upper() + plan.mark,
    "live, leaving early": lambda plan, x: x[:1] + plan.mark,
    "pipeline": _value_in_turn,
    "written": lambda plan, x: f"{_value_in_turn(plan, x)}<{x[:1]}>",
    "parallel": lambda plan, x: "|".join(part.value(x) for part in plan.parts),
    "named branches": lambda plan, x: plan.parts[-1].value(
        "|".join(part.value(x) for part in plan.parts[:-1])
    ),
    "diverter": _value_of_diverter,
    "warp": lambda plan, x: "|".join(plan.parts[0].value(item) for item in x[:3]),
    "switch": lambda plan, x: plan.parts[len(x) % 3].value(x),
    "if": lambda plan, x: plan.parts[0 if len(x) % 2 else 1].value(x),
    "loop": lambda plan, x: _value_in_turn(Plan("pipeline", plan.parts * (plan.most or 1)), x),
    "until": _value_of_until,
    "graph": lambda plan, x: "|".join(part.value(plan.parts[0].value(x)) for part in plan.parts[1:]),
    "policy": _value_in_turn,
    "joined": _value_in_turn,
    "joined from a thread": _value_in_turn,
    "child": _value_in_turn,
}


# ---------------------------------------------------------------- drawing them

leaves: st.SearchStrategy[Plan] = st.builds(
    Plan, st.sampled_from(list(LEAVES)), mark=st.sampled_from(["", "a", "B", "cd", "Ef"])
)
"""Plans of single steps."""


def _flows_of(parts: st.SearchStrategy[Plan]) -> st.SearchStrategy[Plan]:
    def flow_of(kind: str) -> st.SearchStrategy[Plan]:
        least, most = (COUNTS[kind],) * 2 if kind in COUNTS else (1, 3)
        return st.builds(
            Plan,
            st.just(kind),
            st.lists(parts, min_size=least, max_size=most).map(tuple),
            name=st.sampled_from([None, "inner"]),
            most=st.sampled_from([None, 1, 2]),
        )

    return st.sampled_from(list(FLOWS)).flatmap(flow_of)


def plans(most: int = 10) -> st.SearchStrategy[Plan]:
    """Plans of flows of about `most` steps, nested in each other."""
    return st.recursive(leaves, _flows_of, max_leaves=most)
