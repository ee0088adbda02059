"""What all flows share: they are steps made of steps, and immutable once built."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from ..streaming.errors import FlowBuildError
from .steps import In, Out, Step

__all__ = ["Flow"]


class Flow(Step[In, Out]):
    """Steps composed. Immutable once built, re-entrant, and itself a step."""

    def freeze(self, **state: Any) -> None:
        """Sets the flow's state, once; what is None keeps the class's default."""
        vars(self).update(
            {
                name: value
                for name, value in state.items()
                if value is not None or name in ("functions", "coroutines")
            }
        )

    def is_written(self) -> bool:
        """Whether it has steps, so that no `with` block can write it."""
        for name in ("steps", "branches"):
            if vars(self).get(name):
                return True
        body = vars(self).get("inner", vars(self).get("body"))
        return body is not None and bool(body.children() or not isinstance(body, Flow))

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise FlowBuildError(
            f"{self!r} is built and cannot be changed (assigning {name!r}); make a new flow, "
            f"or assign inside of `with {kind_of(self)}() as flow:`"
        )

    def __delattr__(self, name: str) -> NoReturn:
        raise FlowBuildError(f"{self!r} is built and cannot be changed (deleting {name!r})")

    def _repr_svg_(self) -> str:
        """For notebooks."""
        return self.draw("svg")

    def __repr__(self) -> str:
        inside = ", ".join(label_of(child) for child in self.children())
        return f"<{kind_of(self)}{f' {self.name}' if self.name else ''}({inside})>"

    @staticmethod
    def unique_names(steps: Sequence[Step[Any, Any]]) -> tuple[str | None, ...]:
        """Names of neighbours in a flow: a second `f` is `f-2`, a lambda goes by its position."""
        seen: dict[str, int] = {}
        names: list[str | None] = []
        for i, step in enumerate(steps):
            name = step.name
            if name == "<lambda>":
                name = f"lambda-{i + 1}"
            if name is not None:
                seen[name] = count = seen.get(name, 0) + 1
                name = name if count == 1 else f"{name}-{count}"
            names.append(name)
        return tuple(names)


def kind_of(flow: Step[Any, Any]) -> str:
    """What kind of flow or step it is, also where it was written in a block."""
    return type(flow).__name__.removeprefix("Open")


def label_of(step: Step[Any, Any]) -> str:
    return step.name or kind_of(step)
