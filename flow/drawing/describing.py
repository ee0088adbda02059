"""From a flow to its diagram: each step at the path of its events, with what is to be known of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..bindings import BoundFlow
from ..flows import Flow, label_of
from ..functions import WholeStep
from ..graph import Graph
from ..loop import If, Loop
from ..parallel import Parallel
from ..pipeline import Pipeline
from ..policies.wrapping import PolicyStep
from ..steps import Step
from ..switch import Switch
from ..warps import Warp
from ..wiring import INPUT, OUTPUT, Inputs
from .diagrams import ANY, Branch, Chain, Fork, Group, Leaf, Link, Net, Part, clean, shorten
from .wording import WIDEST, arguments_of, count_of, leaf_of, line_of, name_of, policies_of, words_of

__all__ = ["diagram_of", "heading_of"]

Where = tuple[str, ...]

DEEPEST = 20
"""How many flows in each other are drawn; what is deeper inside is counted."""


def heading_of(flow: Step[Any, Any]) -> str:
    """What stands over a drawing: the flow's name, if it has one."""
    return shorten(clean(flow.name or ""), WIDEST)


def diagram_of(flow: Step[Any, Any]) -> Part:
    """The diagram of a flow, from its input to its output."""
    inner = _Describer().part(flow, (), None, flow.name, False)
    parts = inner.parts if isinstance(inner, Chain) else (inner,)
    live = inner.live if isinstance(inner, Chain) else (False,)
    return Chain((_end("input"), *parts, _end("output")), (False, *live, False))


def _end(title: str) -> Leaf:
    return Leaf(title, kind="end")


class _Describer:
    """Walks through a flow; `depth` is how many flows it is in."""

    def __init__(self) -> None:
        self.depth = 0

    def part(
        self,
        step: Step[Any, Any],
        where: Where,
        place: Where | None,
        title: str | None,
        fed: bool,
        words: tuple[str, ...] = (),
    ) -> Part:
        """The part of a diagram for a step whose events, and those of the steps inside, are at `where`.

        `place` is `where`, unless it says nothing of its own; `title` what the flow around calls it; `fed` whether
        pieces come to it; `words` what else is to be said of it.
        """
        while isinstance(step, (PolicyStep, BoundFlow)):
            if isinstance(step, PolicyStep):
                words += policies_of(step)
            else:
                words += arguments_of(step.binding)
            step = step.inner
        if isinstance(step, WholeStep) or (
            place is not None and isinstance(step, Pipeline) and not step.steps
        ):
            return Leaf("as it is", kind="end", place=place)
        if not isinstance(step, Flow):
            return leaf_of(step, place, title, words)
        if self.depth >= DEEPEST:
            return Leaf(f"{count_of(step)} more inside", kind="more", place=place)
        self.depth += 1
        try:
            inner = self._inside(step, where, fed)
        finally:
            self.depth -= 1
        words += words_of(step)
        turns, each = isinstance(step, Loop), isinstance(step, Warp)
        if place is None and not words and not turns and not each:
            return inner
        if title is None and (words or turns or each):
            title = type(step).__name__.removeprefix("Open").lower()
        return Group(None if title is None else line_of(title, *words), inner, place, turns, each)

    def _inside(self, flow: Flow[Any, Any], where: Where, fed: bool) -> Part:
        match flow:
            case Pipeline():
                return self._pipeline(flow, where, fed)
            case Parallel():
                return self._parallel(flow, where, fed)
            case If():
                return self._if(flow, where, fed)
            case Switch():
                return self._switch(flow, where, fed)
            case Loop():
                at = (*where, ANY)
                return self.part(flow.body, at, at, flow.body.name, fed)
            case Warp():
                return self._warp(flow, where)
            case Graph():
                return self._graph(flow, where, fed)
        parts = tuple(self.part(child, where, None, child.name, False) for child in flow.children())
        return Chain(parts, (False,) * len(parts))  # a kind of flow that is not ours

    # ------------------------------------------------------------ one after another

    def _pipeline(self, flow: Pipeline[Any, Any], where: Where, fed: bool) -> Chain:
        parts: list[Part] = []
        live: list[bool] = []
        for step, name in zip(flow.steps, flow.names, strict=True):
            comes = fed and step.live
            at = where if name is None else (*where, name)
            made = self.part(step, at, None if name is None else at, name, comes)
            if isinstance(made, Chain):  # a pipeline without a name
                parts += made.parts
                live += [comes, *made.live[1:]][: len(made.parts)]
            else:
                parts.append(made)
                live.append(comes)
            fed = step.streams
        return Chain(tuple(parts), tuple(live))

    # ------------------------------------------------------------ beside each other

    def _parallel(self, flow: Parallel[Any, Any], where: Where, fed: bool) -> Part:
        branches = []
        for i in flow.chosen:
            step, label = flow.steps[i], flow.labels[i]
            at, comes = (*where, str(label)), fed and flow.shared and step.live
            said = None if flow.shared else f"[{flow.keys[i]!r}]" if flow.keys is not None else f"[{i}]"
            named = label if isinstance(label, str) else None
            branches.append(Branch(said, self.part(step, at, at, named, comes), comes))
        joined = None if flow.collect is None else f"collect {name_of(flow.collect)}"
        fork: Part = Fork(tuple(branches), joined) if branches else Leaf("no branch", kind="more")
        parts, live = [fork], [fed and flow.live]
        if flow.choose is not None:
            at = (*where, "choose")
            parts.insert(0, self.part(flow.choose, at, at, "choose", False))
            live = [False, False]
        self._add_post(flow, where, parts, live)
        return Chain(tuple(parts), tuple(live)) if len(parts) > 1 else fork

    def _add_post(
        self, flow: Parallel[Any, Any] | Warp[Any, Any], where: Where, parts: list[Part], live: list[bool]
    ) -> None:
        if flow.post is not None:
            at = (*where, "post")
            parts.append(self.part(flow.post, at, at, "post", False))
            live.append(False)

    def _warp(self, flow: Warp[Any, Any], where: Where) -> Part:
        at = (*where, label_of(flow.inner), ANY)
        inner = self.part(flow.inner, at, at, flow.inner.name, False)
        parts, live = [inner], [False]
        if flow.collect is not None:
            parts.append(Leaf(f"collect {shorten(name_of(flow.collect), WIDEST)}", kind="end"))
            live.append(False)
        self._add_post(flow, where, parts, live)
        return Chain(tuple(parts), tuple(live)) if len(parts) > 1 else inner

    # ------------------------------------------------------------ one of several

    def _switch(self, flow: Switch[Any, Any], where: Where, fed: bool) -> Part:
        return self._choice(flow, where, fed, flow.names[: len(flow.tests)], "else", None)

    def _if(self, flow: If[Any, Any], where: Where, fed: bool) -> Part:
        return self._choice(flow, where, fed, ("yes",), "no", flow.names[0] if flow.names else None)

    def _choice(
        self,
        flow: Switch[Any, Any],
        where: Where,
        fed: bool,
        labels: Sequence[str],
        otherwise: str,
        question: str | None,
    ) -> Part:
        branches = []
        said = (*labels, otherwise)
        for step, name, label in zip(flow.branches, flow.names, said, strict=False):
            at = (*where, name)
            made = self.part(step, at, at, step.name, False)
            branches.append(Branch(shorten(clean(label), WIDEST), made))
        key, parts = flow.key, list[Part]()
        if key is not None and isinstance(key, Flow):
            parts.append(self.part(key, where, None, label_of(key), fed and key.live))
        elif key is not None:
            question = label_of(key)
        parts.append(Leaf(shorten(f"{clean(question or 'which')}?", WIDEST), kind="decision"))
        parts.append(Fork(tuple(branches)))
        return Chain(tuple(parts), (False,) * len(parts))

    # ------------------------------------------------------------ graphs

    def _graph(self, flow: Graph[Any, Any], where: Where, fed: bool) -> Part:
        order = dict(flow.in_order())
        index = {INPUT: -1, **{name: i for i, name in enumerate(order)}}
        nodes, links = [], list[Link]()
        for name, step in order.items():
            inputs = Inputs.of(flow.edges, name)
            source = inputs.sources[0] if inputs.single else None
            comes = False
            if step.live and source is not None and not source.tail and source.name in index:
                comes = fed if source.name == INPUT else order[source.name].streams
            at = (*where, name)
            nodes.append(self.part(step, at, at, name, comes, _parts_taken(inputs, index)))
            links += _links(inputs, index, index[name], comes)
        output = Inputs.of(flow.edges, OUTPUT)
        net = Net(tuple(nodes), tuple(links + _links(output, index, len(order), False)))
        taken = _parts_taken(output, index)
        return Chain((net, Leaf(line_of(*taken), kind="end")), (False, False)) if taken else net


def _links(inputs: Inputs, index: Mapping[str, int], target: int, live: bool) -> list[Link]:
    sources = dict.fromkeys(source.name for source in inputs.sources if source.name is not None)
    return [Link(index[name], target, live) for name in sources if name in index]


def _parts_taken(inputs: Inputs, index: Mapping[str, int]) -> tuple[str, ...]:
    """What goes into a node and is not just what another one gives: parts of it, constants, steps of outer flows."""
    return tuple(repr(one.reference) for one in inputs.sources if one.name not in index or one.tail)
