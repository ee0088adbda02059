"""Graph: steps joined by edges; each runs once, as soon as what goes into it is there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any

from ..streaming.errors import FlowBuildError, FlowCallError
from ..streaming.events import Path
from ..streaming.runs import Run
from .chains import run_chain, stream_chain
from .checks import refuse_misfits
from .fanout import OnError, check_concurrency, check_on_error
from .flows import Flow
from .functions import as_step
from .nodes import Nodes
from .performing import perform
from .references import SCOPE
from .steps import In, Keep, Out, Step
from .taps import close, framed
from .units import Layout, lay_out
from .wiring import INPUT, OUTPUT, Edge, check_new, edge_of

if TYPE_CHECKING:
    from .builders import OpenGraph

__all__ = ["Graph"]

Places = str | tuple[str, ...]
"""Where an edge begins: a name, or several whose values go together."""


class Graph(Flow[In, Out]):
    """Steps joined by edges. Each runs once, as soon as what goes into it is there; independent ones run together.

    Written in a block, where `g.a` stands for what the node `a` gives, `g.input` for what the graph is called with
    and `g.output` for its value::

        with Graph() as g:
            g.a, g.b, g.join = load, check, merge
            g.edge(g.input, g.a)
            g.edge(g.input, g.b)
            g.edge((g.a, g.b), g.join)
            g.edge(g.join, g.output)

    or with names:
    `Graph({"a": load, "b": check}, edges=[("input", "a"), ("input", "b"), (("a", "b"), "output")])`.

    Args:
        nodes: steps by name.
        edges: pairs of where an edge begins and where it ends. A tuple of names gives `Args` in that order, and so
            do several edges to one node.
        constants: fixed values by name, which edges can begin at.
        concurrency: how many nodes are at work at once; all by default. The node that gives the output runs when all
            others are over, whatever the number.
        on_error: `"raise"`: the earliest failure cancels the other nodes and is raised; `"keep"`: a failed node
            gives its exception as its value to the nodes behind it. What the node raises that alone gives the
            output is raised.

    A node works in a copy of the context, in which it finds what the nodes that lead to it have set. Where a node
    streams and the one behind it takes its upstream live, the pieces pass as they come.

    Raises:
        FlowBuildError: what cannot run is refused when the graph is built, with all that is wrong: a node that
            nothing leads to or whose value nobody uses, a cycle, an unknown name, no edge to the output.
    """

    nodes: Mapping[str, Step[Any, Any]] = MappingProxyType({})
    constants: Mapping[str, Any] = MappingProxyType({})
    edges: Sequence[Edge] = ()
    steps: tuple[Step[Any, Any], ...] = ()
    _layout: Layout | None = None
    concurrency: int | None = None
    on_error: OnError = "raise"

    def __init__(
        self: Graph[Any, Any],
        nodes: Mapping[str, Step[Any, Any] | Callable[..., Any]] | None = None,
        edges: Iterable[tuple[Places, str]] = (),
        *,
        constants: Mapping[str, Any] | None = None,
        concurrency: int | None = None,
        on_error: OnError = "raise",
        name: str | None = None,
    ) -> None:
        check_concurrency(concurrency, "Graph")
        check_on_error(on_error, "Graph")
        self.freeze(name=name, concurrency=concurrency, on_error=on_error)
        if nodes is not None and not isinstance(nodes, Mapping):
            raise FlowBuildError("Graph takes a dict of steps by name: Graph({'a': load}, edges=[...])")
        made = {name: as_step(thing) for name, thing in (nodes or {}).items()}
        fixed = dict(constants or {})
        self.freeze(constants=MappingProxyType(fixed) if fixed else None)
        for label in (*made, *fixed):
            self._check_name(label)
        written: list[Edge] = []
        self._scope()
        for pair in edges:
            if not isinstance(pair, tuple) or len(pair) != 2:
                raise FlowBuildError(f"{pair!r} is no edge; an edge is ('a', 'b') or (('a', 'b'), 'c')")
            self._add_edge(written, made, *pair)
        if made or written:
            self._build_graph(made, written)

    if TYPE_CHECKING:
        scope: object

    def _scope(self) -> None:
        """Gives the graph a key of its own, for references to it."""
        self.freeze(scope=object())

    @property
    def _title(self) -> str:
        return f"the graph {self.name}" if self.name else "this Graph"

    def _check_name(self, label: str) -> None:
        if not isinstance(label, str) or not label or label in (INPUT, OUTPUT):
            raise FlowBuildError(
                f"{self._title}: nothing in it can be called {label!r}; a name is a text, and not 'input' or 'output'"
            )

    def _add_edge(self, edges: list[Edge], nodes: Mapping[str, Any], source: Any, target: Any) -> None:
        edge = edge_of(self.scope, self._title, (*nodes, *self.constants), source, target)
        if edge.target in self.constants:
            raise FlowBuildError(f"{self._title}: nothing can go into the constant {edge.target!r}")
        check_new(edge, edges, self._title)
        edges.append(edge)

    def _build_graph(self, nodes: Mapping[str, Step[Any, Any]], edges: Sequence[Edge]) -> None:
        both = [name for name in nodes if name in self.constants]
        if both:
            raise FlowBuildError(
                f"{self._title}: {both[0]!r} is a node and a constant; give one another name"
            )
        layout = lay_out(self.scope, self._title, nodes, self.constants, edges)
        last = layout.last
        self.freeze(
            nodes=MappingProxyType(dict(nodes)),
            edges=tuple(edges),
            steps=tuple(nodes.values()),
            _layout=layout,
            live=bool(layout.units[0].readers),
            gathers=bool(layout.units[0].readers),
            streams=last is not None and last.links[-1].step.streams,
        )
        refuse_misfits(self)

    def in_order(self) -> Iterator[tuple[str, Step[Any, Any]]]:
        """The nodes with their names, each after all that it needs."""
        for unit in self._layout.units if self._layout is not None else ():
            yield from ((str(link.name), link.step) for link in unit.links)

    def children(self) -> Sequence[Step[Any, Any]]:
        return self.steps

    @property
    def last(self) -> Step[Any, Any] | None:
        """The node that gives the output; None where that is made of several values."""
        last = self._layout.last if self._layout is not None else None
        return last.links[-1].step if last is not None else None

    def __enter__(self) -> OpenGraph[In, Out]:
        from .builders import OpenGraph

        return OpenGraph.opened(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from .builders import close_block

        close_block(self, kind is None)

    # ------------------------------------------------------------ running

    async def execute(self, x: Any, run: Run | None, path: Path, output: bool) -> Any:
        assert run is not None
        outer = SCOPE.get()
        try:
            nodes = self._at_work(x, run, path)
            await nodes.run()
            last = nodes.enter_last()
            if last is None:
                return nodes.layout.output.take(nodes.found)
            x, link = nodes.input_of(last), last.links[0]
            if len(last.links) > 1:
                return await run_chain(last.links, x, run, path, output)
            return await perform(link.step, x, run, path, link.name, output)
        finally:
            SCOPE.set(outer)

    def _at_work(self, x: Any, run: Run, path: Path) -> Nodes:
        layout = self._layout
        if layout is None:
            raise FlowCallError(f"{self._title} has no nodes; its block has not been written")
        nodes = Nodes(layout, self.constants, x, run, path, self.concurrency, self.on_error)
        if layout.referenced:
            SCOPE.set({**SCOPE.get(), self.scope: nodes.found})
        return nodes

    # ------------------------------------------------------------ the output node's pieces, as they come

    def open(
        self, x: Any, run: Run, path: Path, output: bool = False, keep: Keep | None = None
    ) -> AsyncIterator[Any]:
        if not self.streams:
            return super().open(x, run, path, output, keep)
        return framed(self._stream(x, run, path, output, keep), run, path)

    async def _stream(
        self, x: Any, run: Run, path: Path, output: bool, keep: Keep | None
    ) -> AsyncIterator[Any]:
        nodes = self._at_work(x, run, path)  # `framed` keeps the scope to this flow
        await nodes.run()
        last = nodes.enter_last()
        assert last is not None
        stream = stream_chain(last.links, nodes.input_of(last), run, path, output, keep)
        try:
            async for item in stream:
                yield item
        finally:
            await close(stream)
