"""References: while a flow is written, `p.search` stands for what the step `search` will give."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, NoReturn

from ..streaming.errors import FlowBuildError

__all__ = ["SCOPE", "Reference", "Tail", "follow", "parts_of", "value_of"]

Tail = tuple[tuple[bool, Any], ...]
"""What a reference takes of a value, one after the other: (true, a key) or (false, an attribute's name)."""

SCOPE: ContextVar[Mapping[object, Mapping[str, Any]]] = ContextVar(
    "millrace_scope", default=MappingProxyType({})
)
"""For each flow that is running around this code and keeps its steps' values: those values, by name."""


class Reference:
    """What a named step, or the flow's input, will give; `[key]` and `.attribute` of it are references too.

    It has no value yet: no truth value, no iteration, no arithmetic. Give it to `bind`.
    """

    __slots__ = ("_flow", "_key", "_name", "_steps")

    def __init__(self, flow: str, key: object, name: str, steps: Tail = ()) -> None:
        self._flow = flow
        self._key = key
        self._name = name
        self._steps = steps

    def __getitem__(self, key: Any) -> Reference:
        return Reference(self._flow, self._key, self._name, (*self._steps, (True, key)))

    def __getattr__(self, name: str) -> Reference:
        if name.startswith("_"):
            raise AttributeError(name)
        return Reference(self._flow, self._key, self._name, (*self._steps, (False, name)))

    def __repr__(self) -> str:
        tail = "".join(f"[{key!r}]" if item else f".{key}" for item, key in self._steps)
        return f"{self._flow}.{self._name}{tail}"

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise FlowBuildError(
            f"{self!r} has no value while the flow is being written; give it to bind(), "
            "or compute with it inside of a step"
        )

    __bool__ = __iter__ = __call__ = __len__ = __contains__ = __int__ = __float__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __mod__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = _refuse
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> NoReturn:
        self._refuse()

    def __ne__(self, other: object) -> NoReturn:
        self._refuse()


def value_of(reference: Reference) -> Any:
    """The value of a reference while its flow runs.

    Raises:
        FlowBuildError: the step has not run before this one, or the flow is not running around it.
    """
    scope = SCOPE.get()
    values = scope.get(reference._key)
    if values is None or reference._name not in values:
        raise FlowBuildError(
            f"{reference!r} is not known here: the step {reference._name!r} must come before the one that "
            "refers to it, in the same flow or in one around it; and a step whose pieces the next one takes live "
            "has no value of its own"
        )
    return follow(values[reference._name], reference._steps)


def follow(value: Any, tail: Tail) -> Any:
    """What a reference with this tail takes of the value."""
    for item, key in tail:
        value = value[key] if item else getattr(value, key)
    return value


def parts_of(reference: Reference) -> tuple[object, str, Tail]:
    """Whose reference it is (the flow's key), the name of the step, and the tail."""
    return reference._key, reference._name, reference._steps
