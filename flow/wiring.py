"""The edges of a graph: how they are written, and what they give to a node."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..streaming.errors import FlowBuildError
from .args import Args
from .bindings import Arg, Binding, BoundFlow
from .flows import Flow
from .functions import FunctionStep
from .pipeline import Pipeline
from .references import Reference, Tail, follow, parts_of, value_of
from .steps import Step

__all__ = [
    "INPUT",
    "OUTPUT",
    "Edge",
    "Inputs",
    "Source",
    "check_new",
    "edge_of",
    "references_in",
    "takes_what_comes",
]

INPUT = "input"
OUTPUT = "output"


class Source(NamedTuple):
    """Where an edge begins: a node, a constant or the input; without a name, a step of a flow around the graph."""

    name: str | None
    tail: Tail
    reference: Reference

    def value(self, values: Mapping[str, Any]) -> Any:
        if self.name is None:
            return value_of(self.reference)
        return follow(values[self.name], self.tail) if self.tail else values[self.name]


class Edge(NamedTuple):
    """What its sources give goes to `target` together: as it is where it is `single`, else as Args."""

    sources: tuple[Source, ...]
    target: str
    single: bool

    def __repr__(self) -> str:
        names = ", ".join(map(repr, (source.reference for source in self.sources)))
        return f"{names if self.single else f'({names})'} -> {self.target}"


class Inputs(NamedTuple):
    """All that goes into a node, or into the output, in the order written."""

    sources: tuple[Source, ...]
    single: bool

    @classmethod
    def of(cls, edges: Sequence[Edge], target: str) -> Inputs:
        found = [edge for edge in edges if edge.target == target]
        single = len(found) == 1 and found[0].single
        return cls(tuple(source for edge in found for source in edge.sources), single)

    def take(self, values: Mapping[str, Any]) -> Any:
        """What the node is called with; None where it has no edge, since it then takes its values by reference."""
        if self.single:
            return self.sources[0].value(values)
        return Args(*(source.value(values) for source in self.sources)) if self.sources else None


# ---------------------------------------------------------------- writing


def edge_of(key: object, title: str, known: Collection[str], source: Any, target: Any) -> Edge:
    """An edge as it was written: with references, or with names.

    `key` and `title` are the graph's, `known` the names of its nodes and constants.

    Raises:
        FlowBuildError: an end of it is no place in this graph.
    """
    written = f"the edge from {source!r} to {target!r}" if _is_place(source) else "this edge"
    single = not isinstance(source, tuple)
    given = (source,) if single else source
    if not given:
        raise FlowBuildError(f"{written} in {title} begins nowhere: () is no source")
    sources = tuple(_source(key, title, known, one, written) for one in given)
    end = _source(key, title, known, target, written)
    if end.name is None:
        raise FlowBuildError(f"{written}: {target!r} belongs to another flow; an edge ends in {title}")
    if end.tail:
        raise FlowBuildError(f"{written}: an edge ends at a node, not at a part of it")
    if end.name == INPUT:
        raise FlowBuildError(f"{written}: the input is what {title} is called with; nothing goes into it")
    if any(one.name == OUTPUT for one in sources):
        raise FlowBuildError(f"{written}: the output is what {title} gives; nothing inside can take it")
    return Edge(sources, end.name, single)


def _is_place(thing: Any) -> bool:
    return isinstance(thing, (Reference, str)) or (isinstance(thing, tuple) and all(map(_is_place, thing)))


def _source(key: object, title: str, known: Collection[str], thing: Any, written: str) -> Source:
    if isinstance(thing, str):
        if thing not in (INPUT, OUTPUT, *known):
            names = ", ".join(known) or "none yet"
            raise FlowBuildError(f"{written}: there is no node {thing!r} in {title}; there is: {names}")
        return Source(thing, (), Reference("g", key, thing))
    if not isinstance(thing, Reference):
        raise FlowBuildError(
            f"{thing!r} is no place in {title}, and no end of an edge: a node is given a name first "
            "(g.load = load, then g.load), and a fixed value is a constant (g.constant('limit', 5))"
        )
    owner, name, tail = parts_of(thing)
    return Source(name if owner is key else None, tail, thing)


def check_new(edge: Edge, edges: Sequence[Edge], title: str) -> None:
    """Raises: FlowBuildError, when the same edge is there already."""
    places = [parts_of(source.reference) for source in edge.sources]
    for other in edges:
        if other.target == edge.target and [parts_of(s.reference) for s in other.sources] == places:
            raise FlowBuildError(
                f"the edge {edge!r} is there already in {title}; to give a value twice, write (g.a, g.a)"
            )


# ---------------------------------------------------------------- references in the nodes


def binding_of(step: Step[Any, Any]) -> Binding | None:
    if isinstance(step, BoundFlow):
        return step.binding
    resolve = step.resolve if isinstance(step, FunctionStep) else None
    return resolve if isinstance(resolve, Binding) else None


def references_in(step: Step[Any, Any]) -> Iterator[Reference]:
    """The references that the step, and the steps inside of it, take values from."""
    waiting = [step]
    while waiting:
        one = waiting.pop()
        binding = binding_of(one)
        if binding is not None:
            given = (*binding.args, *binding.kwargs.values())
            yield from (value for value in given if isinstance(value, Reference))
        edges: Iterable[Edge] = vars(one).get("edges", ()) if isinstance(one, Flow) else ()
        yield from (s.reference for edge in edges for s in edge.sources if s.name is None)
        waiting.extend(one.children())


def takes_what_comes(step: Step[Any, Any]) -> bool:
    """Whether the step is called with what comes in; one that is bound to references alone is not."""
    while True:
        binding = binding_of(step)
        if binding is not None:
            given = (*binding.args, *binding.kwargs.values())
            return binding.upstream_first or any(isinstance(value, Arg) for value in given)
        if isinstance(step, Pipeline) and step.steps:
            step = step.steps[0]
        elif not isinstance(step, (Flow, FunctionStep)) and isinstance(vars(step).get("inner"), Step):
            step = vars(step)["inner"]  # a policy around it
        else:
            return True
