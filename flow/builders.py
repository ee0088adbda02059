"""The open form of a flow: what the block of `with Pipeline() as p:` writes into."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

from ..streaming.errors import FlowBuildError
from .checks import refuse_misfits
from .flows import Flow
from .functions import as_step
from .graph import Graph
from .loop import If, Loop
from .parallel import Diverter, Parallel
from .pipeline import Pipeline
from .references import Reference
from .steps import In, Out, Step
from .switch import Switch
from .warps import Warp

__all__ = [
    "OpenDiverter",
    "OpenForm",
    "OpenGraph",
    "OpenIf",
    "OpenLoop",
    "OpenParallel",
    "OpenPipeline",
    "OpenSwitch",
    "OpenWarp",
    "close_block",
]

_OPEN = "_open"


class OpenForm(Flow[In, Out]):
    """A flow that is being written, and after its block a flow like any other.

    Inside of the block, assigning adds a step, and reading gives a reference to what the step will give;
    afterwards reading gives the step.
    """

    ordered = True
    """Whether a step may refer to the ones before it."""
    letter = "p"
    """What messages call the flow where it has no name."""

    if TYPE_CHECKING:
        steps: tuple[Step[Any, Any], ...]

    @classmethod
    def opened(cls, outer: Any) -> Self:
        if _OPEN in vars(outer):
            raise FlowBuildError(f"{outer!r}: its block has been entered already")
        if outer.is_written():
            raise FlowBuildError(
                f"{outer!r} has steps already; write a flow in the constructor or in a block"
            )
        made = cls.__new__(cls)
        vars(made).update(
            {**vars(outer), "scope": object(), "building": {}, "referenced": False, "unfinished": True}
        )
        vars(outer)[_OPEN] = made
        return made

    @property
    def input(self) -> Reference:
        """What the flow is called with, as a reference."""
        return self._refer("input")

    def _refer(self, name: str) -> Reference:
        if not vars(self)["unfinished"]:
            raise FlowBuildError(f"{self!r} is built; references are made inside of its block")
        vars(self)["referenced"] = True
        return Reference(self.name or self.letter, vars(self)["scope"], name)

    def __setattr__(self, name: str, value: Any) -> None:  # type: ignore[override]
        state = vars(self)
        if not state["unfinished"]:
            super().__setattr__(name, value)
        if name.startswith("_") or hasattr(type(self), name) or name in state:
            raise FlowBuildError(f"a step cannot be named {name!r}: that name belongs to the flow itself")
        if name in state["building"]:
            raise FlowBuildError(f"a step named {name!r} is there already; every name is assigned once")
        if isinstance(value, Reference):
            raise FlowBuildError(f"{name} = {value!r}: a reference is no step; bind a function to it")
        state["building"][name] = _part(value)

    def __getattr__(self, name: str) -> Any:
        state = vars(self)
        building: dict[str, Step[Any, Any]] = state.get("building", {})
        if name in building:
            step = building[name]
            if not state["unfinished"] or (isinstance(step, OpenForm) and vars(step)["unfinished"]):
                return step
            if not self.ordered:
                raise FlowBuildError(
                    f"the branches of {self!r} run at once; {name!r} has no value for another one"
                )
            return self._refer(name)
        known = ", ".join(building) or "none yet"
        if state.get("unfinished") and not name.startswith("_"):
            raise FlowBuildError(f"there is no step {name!r} in this flow; there is: {known}")
        raise AttributeError(
            f"{type(self).__name__} has no attribute and no step {name!r}; its steps: {known}"
        )

    def __call__(self, x: Any, /, **options: Any) -> Any:
        self._refuse_while_open()
        return super().__call__(x, **options)

    async def acall(self, x: Any, /, **options: Any) -> Any:
        self._refuse_while_open()
        return await super().acall(x, **options)

    def stream(self, x: Any, /, **options: Any) -> Any:
        self._refuse_while_open()
        return super().stream(x, **options)

    def start(self, x: Any, /, **options: Any) -> Any:
        self._refuse_while_open()
        return super().start(x, **options)

    async def abatch(self, xs: Any, /, **options: Any) -> Any:
        self._refuse_while_open()
        return await super().abatch(xs, **options)

    def _refuse_while_open(self) -> None:
        if vars(self)["unfinished"]:
            raise FlowBuildError("a flow cannot be called inside of the block that writes it")

    def _close(self) -> None:
        state = vars(self)
        building: dict[str, Step[Any, Any]] = state["building"]
        state["unfinished"] = False
        if state["referenced"]:
            state["kept"] = True
        self._build(tuple(building.values()), tuple(building), self.name)


class OpenPipeline(OpenForm[In, Out], Pipeline[In, Out]):
    """A Pipeline while it is written."""


class OpenParallel(OpenForm[In, Out], Parallel[In, Out]):
    """A Parallel while it is written; its branches are named, and cannot refer to each other."""

    ordered = False


class OpenDiverter(OpenForm[In, Out], Diverter[In, Out]):
    """A Diverter while it is written."""

    ordered = False


class OpenBody(OpenForm[In, Out]):
    """A flow that repeats one step, while that is written: as a pipeline."""

    def _build(
        self, steps: Sequence[Step[Any, Any]], names: Sequence[str | None] | None, name: str | None
    ) -> None:
        body: Pipeline[Any, Any] = Pipeline.__new__(Pipeline)
        state = vars(self)
        vars(body).update(scope=state["scope"], kept=state.get("kept", False))
        body._build(steps, names, None)
        self._set_body(body)

    def _set_body(self, body: Step[Any, Any]) -> None:
        raise NotImplementedError


class OpenWarp(OpenBody[In, Out], Warp[In, Out]):
    """A Warp while it is written; `input` is the item."""

    def _set_body(self, body: Step[Any, Any]) -> None:
        vars(self)["inner"] = body
        refuse_misfits(self)


class OpenLoop(OpenBody[In, Out], Loop[In, Out]):
    """A Loop while it is written; `input` is what the turn begins with."""

    def _set_body(self, body: Step[Any, Any]) -> None:
        Loop._set_body(self, body)


class OpenSwitch(OpenForm[In, Out], Switch[In, Out]):
    """A Switch while it is written: `switch[case] = branch`, and `switch.default = branch`."""

    ordered = False

    def __setitem__(self, case: Any, branch: Any) -> None:
        state = vars(self)
        if not state["unfinished"]:
            raise FlowBuildError(f"{self!r} is built and cannot be changed (the case {case!r})")
        cases = state.setdefault("cases", {})
        if not isinstance(case, Hashable):
            raise FlowBuildError(f"{case!r} is no case: a case is a predicate, or a value that can be hashed")
        if case in cases:
            raise FlowBuildError(f"the case {case!r} is there already; every case is given once")
        cases[case] = _part(branch)

    def __getitem__(self, case: Any) -> Step[Any, Any]:
        try:
            found: Step[Any, Any] = vars(self).get("cases", {})[case]
        except KeyError:
            raise FlowBuildError(f"{self!r} has no case {case!r}") from None
        return found

    def __setattr__(self, name: str, value: Any) -> None:  # type: ignore[override]
        if name != "default" or not vars(self)["unfinished"]:
            if vars(self)["unfinished"]:
                raise FlowBuildError(
                    f"a branch of a Switch has a case: switch[{name!r}] = ..., or switch.default"
                )
            super().__setattr__(name, value)
        if "default" in vars(self)["building"]:
            raise FlowBuildError("the default of this Switch is there already")
        vars(self)["building"]["default"] = _part(value)

    def __getattribute__(self, name: str) -> Any:
        if name == "default" and "building" in (state := object.__getattribute__(self, "__dict__")):
            return state["building"].get("default", state.get("default"))
        return super().__getattribute__(name)

    @property
    def input(self) -> Reference:
        raise FlowBuildError(
            "each branch of a Switch is given its input; refer to `input` of a pipeline in it"
        )

    def _close(self) -> None:
        state = vars(self)
        state["unfinished"] = False
        self._build(state.get("cases", {}), state["building"].get("default"), self.key)


class OpenIf(OpenForm[In, Out], If[In, Out]):
    """An If while it is written: `branch.then = ...`, and `branch.otherwise = ...`."""

    ordered = False

    def __setattr__(self, name: str, value: Any) -> None:  # type: ignore[override]
        if vars(self)["unfinished"] and name not in ("then", "otherwise"):
            raise FlowBuildError(f"an If has two branches, `then` and `otherwise`, and no {name!r}")
        super().__setattr__(name, value)

    @property
    def input(self) -> Reference:
        raise FlowBuildError("each branch of an If is given its input; refer to `input` of a pipeline in it")

    def _close(self) -> None:
        state = vars(self)
        building = state["building"]
        if "then" not in building:
            raise FlowBuildError("this If has no `then`")
        state["unfinished"] = False
        self._build({self.condition: building["then"]}, building.get("otherwise", Pipeline()), None)


class OpenGraph(OpenForm[In, Out], Graph[In, Out]):
    """A Graph while it is written: nodes are assigned, and `edge` says what goes into them."""

    letter = "g"

    @classmethod
    def opened(cls, outer: Any) -> Self:
        made = super().opened(outer)
        vars(made).update(constants=dict(outer.constants), edges=[])
        return made

    @property
    def output(self) -> Reference:
        """The graph's value, as the end of an edge."""
        return self._refer("output")

    def edge(self, source: Any, target: Any) -> None:
        """Lets what `source` gives go into `target`.

        Args:
            source: a node, a part of what it gives (`g.a["key"]`, `g.a.name`), `g.input`, a constant, a step of a flow
                around the graph; or a tuple of those, whose values go in as Args.
            target: a node, or `g.output`. Several edges to one place give Args, in the order written.

        Raises:
            FlowBuildError: an end of it is no place in this graph, or the edge is there already.
        """
        state = vars(self)
        if not state["unfinished"]:
            raise FlowBuildError(f"{self._title} is built; edges are drawn inside of its block")
        self._add_edge(state["edges"], state["building"], source, target)

    def constant(self, name: str, value: Any) -> Reference:
        """A fixed value that edges can begin at, here or as `g.name` later on.

        Raises:
            FlowBuildError: the name is taken.
        """
        state = vars(self)
        if not state["unfinished"]:
            raise FlowBuildError(f"{self._title} is built; constants are given inside of its block")
        self._check_name(name)
        if name in state["constants"] or name in state["building"] or hasattr(type(self), name):
            raise FlowBuildError(f"{self._title}: the name {name!r} is taken; every name is given once")
        state["constants"][name] = value
        return self._refer(name)

    def __getattr__(self, name: str) -> Any:
        constants = vars(self).get("constants", {})
        if name not in constants:
            return super().__getattr__(name)
        return self._refer(name) if vars(self)["unfinished"] else constants[name]

    def _close(self) -> None:
        state = vars(self)
        state["unfinished"] = False
        nodes, edges = state["building"], state["edges"]
        self.freeze(constants=MappingProxyType(state["constants"]))
        self._build_graph(nodes, edges)


def _part(value: Any) -> Step[Any, Any]:
    """A step of a flow that is being written; that may be in writing itself, in a block inside."""
    return value if isinstance(value, OpenForm) else as_step(value)


def close_block(outer: Any, whole: bool) -> None:
    """Ends the block; when it raised, nothing is checked and nothing is built."""
    made: OpenForm[Any, Any] = vars(outer)[_OPEN]
    if not whole:
        return
    state = vars(made)
    for part in (*state["building"].values(), *state.get("cases", {}).values()):
        if vars(part).get("unfinished"):  # it is around this one, or its own block has raised
            raise FlowBuildError(f"{made!r} contains {part!r}, whose block has not come to its end before")
    made._close()
    writing = ("building", "cases", "referenced", "unfinished")
    vars(outer).update({name: value for name, value in vars(made).items() if name not in writing})
