"""Several values at once, and arguments bound ahead: what a step is called with."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["Args", "Call", "apply"]


class Args(tuple[Any, ...]):
    """Several values that the next step receives as separate arguments; the only value that unpacks.

    `Args(1, 2)` is a tuple, and what Parallel gives.
    """

    __slots__ = ()

    def __new__(cls, *values: Any) -> Args:
        return tuple.__new__(cls, values)

    def __getnewargs__(self) -> tuple[Any, ...]:
        return tuple(self)

    def __repr__(self) -> str:
        return f"Args({', '.join(map(repr, self))})"


class Call:
    """What a bound step is called with, once the references are known."""

    __slots__ = ("args", "kwargs")

    def __init__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self.args = args
        self.kwargs = kwargs


def apply(function: Callable[..., Any], x: Any) -> Any:
    """`function(x)`; Args are unpacked, a Call gives all its arguments."""
    kind = type(x)
    if kind is Args:
        return function(*x)
    if kind is Call:
        return function(*x.args, **x.kwargs)
    return function(x)


STREAMS = (types.GeneratorType, types.AsyncGeneratorType)

UNSETTLED = frozenset((types.CoroutineType, asyncio.Future, asyncio.Task, *STREAMS))
"""Types of what a plain function may return that is no value yet."""

ODD = UNSETTLED | {Args}
"""Types of values that the shortest way through a pipeline cannot pass on as they are."""


def dispose(value: Any) -> None:
    """Ends what a function returned and nobody will await or read."""
    if isinstance(value, (types.CoroutineType, types.GeneratorType)):
        value.close()
