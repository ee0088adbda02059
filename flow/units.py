"""The order in which a graph's nodes can run: what each waits for, and which take each other's pieces as they come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..streaming.errors import FlowBuildError
from .chains import Link
from .parts import are_bare
from .references import Reference, parts_of
from .steps import Step
from .wiring import INPUT, OUTPUT, Edge, Inputs, Source, references_in, takes_what_comes

__all__ = ["Layout", "Unit", "lay_out"]


@dataclass(slots=True)
class Unit:
    """Nodes that run in one task: one node, or a chain of them in which each takes the pieces of the one before.

    The first unit of a layout has no node: it is the graph's input.
    """

    index: int
    links: list[Link]
    inputs: Inputs
    needs: list[int] = field(default_factory=list)
    """Units whose values must be there before it can start."""
    upstream: int | None = None
    """The unit whose pieces it takes as they come."""
    users: list[int] = field(default_factory=list)
    """Units that need its value."""
    readers: list[int] = field(default_factory=list)
    """Units that take its pieces as they come."""
    kept: bool = False
    """Whether its value is needed as a whole."""

    @property
    def name(self) -> str:
        """What its value is called."""
        return str(self.links[-1].name) if self.links else INPUT


@dataclass(frozen=True, slots=True)
class Layout:
    """A graph that has been checked: its units in an order in which they can run."""

    units: Sequence[Unit]
    waiting: Sequence[int]
    """For each unit, how many others it waits for."""
    last: Unit | None
    """The unit that gives the output, where it is the value of one node; it runs when all others are over."""
    output: Inputs
    gives: Sequence[int]
    """Units whose values are the output."""
    referenced: bool
    """Whether something inside takes values by reference."""
    bare: bool
    """Whether all nodes are coroutine functions."""


class Draft:
    """A graph's nodes and edges while they are looked at."""

    def __init__(
        self,
        key: object,
        title: str,
        nodes: Mapping[str, Step[Any, Any]],
        constants: Mapping[str, Any],
        edges: Sequence[Edge],
    ) -> None:
        self.title = title
        self.nodes = nodes
        self.constants = constants
        self.edges = edges
        self.inputs = {name: Inputs.of(edges, name) for name in (*nodes, OUTPUT)}
        self.references = {name: list(_own(key, step)) for name, step in nodes.items()}
        self.needs = {name: self._needs(name) for name in (*nodes, OUTPUT)}
        """What each node, and the output, is made of: nodes and the input, each once."""
        self.order = self._in_order()

    def _needs(self, name: str) -> list[str]:
        sources = [source.name for source in self.inputs[name].sources]
        found = dict.fromkeys((*sources, *self.references.get(name, ())))
        return [one for one in found if one in self.nodes or one == INPUT]

    def _in_order(self) -> list[str]:
        """The nodes, each after all that it needs; those in a cycle, and behind it, are missing."""
        missing = {name: sum(one != INPUT for one in self.needs[name]) for name in self.nodes}
        users: dict[str, list[str]] = {name: [] for name in (*self.nodes, INPUT)}
        for name in self.nodes:
            for one in self.needs[name]:
                users[one].append(name)
        order = [name for name, count in missing.items() if not count]
        for name in order:  # it grows
            for user in users[name]:
                missing[user] -= 1
                if not missing[user]:
                    order.append(user)
        return order

    # ------------------------------------------------------------ what is wrong

    def check(self) -> None:
        """Raises: FlowBuildError, which names all that is wrong."""
        problems = list(self._problems())
        if len(problems) == 1:
            raise FlowBuildError(f"{self.title}: {problems[0]}")
        if problems:
            lines = "".join(f"\n  {i}. {problem}" for i, problem in enumerate(problems, 1))
            raise FlowBuildError(f"{self.title} has {len(problems)} problems:{lines}")

    def _problems(self) -> Iterator[str]:
        for name, step in self.nodes.items():
            if OUTPUT in self.references[name]:
                yield f"the node {name!r} refers to the output, which is only known when all is over"
            if not self.inputs[name].sources and (not self.references[name] or takes_what_comes(step)):
                yield f"the node {name!r} has no input; draw an edge to it, such as input -> {name}"
        cycle = self._cycle()
        if cycle:
            yield f"the nodes wait for each other: {' -> '.join(cycle)}; take out one of these edges"
        if not self.inputs[OUTPUT].sources:
            yield "nothing leads to the output; draw an edge to it from the node that gives the graph's value"
            return
        used = self._used()
        for name in self.nodes:
            if name not in used and name not in cycle:
                yield (
                    f"nobody uses what the node {name!r} gives; draw an edge from it to a node that does, or to the "
                    "output, or leave it out"
                )
        for name in self.constants:
            if name not in used:
                yield f"nobody uses the constant {name!r}; draw an edge from it, or leave it out"

    def _cycle(self) -> list[str]:
        done = set(self.order)
        stuck = dict.fromkeys(name for name in self.nodes if name not in done)
        path: list[str] = []
        name = next(iter(stuck), "")
        while name and name not in path:
            path.append(name)
            name = next(one for one in self.needs[name] if one in stuck)
        return [name, *reversed(path[path.index(name) :])] if path else []

    def _used(self) -> set[str]:
        """All that leads to the output."""
        used: set[str] = set()
        waiting = [OUTPUT]
        while waiting:
            name = waiting.pop()
            sources = [source.name for source in self.inputs[name].sources]
            for one in (*sources, *self.references.get(name, ())):
                if one is not None and one not in used:
                    used.add(one)
                    if one in self.nodes:
                        waiting.append(one)
        return used

    # ------------------------------------------------------------ what is live

    def upstreams(self) -> dict[str, str]:
        """For each node that takes pieces as they come, the node, or the input, whose pieces they are.

        All else that it needs must be there before the first piece is: were it made from these very pieces, it would
        wait for a stream that waits for its reader.
        """
        bits = {name: 1 << i for i, name in enumerate((INPUT, *self.order))}
        above, ready, found = {INPUT: 0}, {INPUT: 0}, {}
        for name in self.order:
            above[name] = _union(bits[one] | above[one] for one in self.needs[name])
            ready[name] = above[name]
            source = self._stream_into(name)
            if source is not None and all(bits[r] & ready[source] for r in self._references(name)):
                found[name] = source
                ready[name] = ready[source]
        return found

    def _references(self, name: str) -> list[str]:
        return [one for one in self.references[name] if one not in self.constants]

    def _stream_into(self, name: str) -> str | None:
        step, inputs = self.nodes[name], self.inputs[name]
        if not (step.live and inputs.single and takes_what_comes(step)):
            return None
        source = inputs.sources[0]
        if source.tail or source.name is None or source.name in self.constants:
            return None
        return source.name if source.name == INPUT or self.nodes[source.name].streams else None


def lay_out(
    key: object,
    title: str,
    nodes: Mapping[str, Step[Any, Any]],
    constants: Mapping[str, Any],
    edges: Sequence[Edge],
) -> Layout:
    """Checks a graph and puts its nodes in order.

    Raises:
        FlowBuildError: all that is wrong with it.
    """
    draft = Draft(key, title, nodes, constants, edges)
    draft.check()
    upstreams, users = draft.upstreams(), _users(draft)
    units = [Unit(0, [], Inputs((Source(INPUT, (), Reference("g", key, INPUT)),), True))]
    home = {INPUT: 0}
    for name in draft.order:
        link, upstream = Link(nodes[name], name, name), upstreams.get(name)
        if upstream is not None and upstream != INPUT and len(users[upstream]) == 1:
            home[name] = home[upstream]
            units[home[name]].links.append(link)
            continue
        unit = Unit(len(units), [link], draft.inputs[name])
        home[name] = unit.index
        units.append(unit)
        if upstream is not None:
            unit.upstream = home[upstream]
            units[unit.upstream].readers.append(unit.index)
        else:
            unit.needs = sorted({home[one] for one in draft.needs[name]})
            for one in unit.needs:
                units[one].users.append(unit.index)
    output = draft.inputs[OUTPUT]
    gives = sorted({home[one] for one in draft.needs[OUTPUT]})
    for unit in units:
        unit.kept = bool(unit.users) or unit.index in gives
    last = None
    if output.single and output.sources[0].name in nodes and not output.sources[0].tail:
        last = units[gives[0]]
    return Layout(
        units=units,
        waiting=[len(unit.needs) + (unit.upstream is not None) for unit in units],
        last=last,
        output=output,
        gives=gives,
        referenced=any(draft.references.values()),
        bare=are_bare(*nodes.values()),
    )


def _users(draft: Draft) -> dict[str, list[str]]:
    users: dict[str, list[str]] = {}
    for name in (*draft.order, OUTPUT):
        for one in draft.needs[name]:
            users.setdefault(one, []).append(name)
    return users


def _own(key: object, step: Step[Any, Any]) -> Iterator[str]:
    """The nodes that a step refers to from its inside."""
    for reference in references_in(step):
        owner, name, _ = parts_of(reference)
        if owner is key:
            yield name


def _union(sets: Iterator[int]) -> int:
    found = 0
    for one in sets:
        found |= one
    return found
