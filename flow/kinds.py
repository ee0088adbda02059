"""What a callable is as a step, read from its `__call__` and its annotations."""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

__all__ = ["Kind", "body_of", "hints_of", "kind_of", "name_of"]

Kind = Literal["sync", "async", "generator", "async generator"]


def body_of(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function that runs when `function` is called."""
    while isinstance(function, partial):
        function = function.func
    if inspect.isroutine(function) or inspect.isclass(function):
        return function
    call: Callable[..., Any] = type(function).__call__
    return call


def kind_of(call: Callable[..., Any]) -> Kind:
    if inspect.isasyncgenfunction(call):
        return "async generator"
    if inspect.isgeneratorfunction(call):
        return "generator"
    return "async" if inspect.iscoroutinefunction(call) else "sync"


def hints_of(call: Callable[..., Any]) -> dict[str, Any]:
    """Annotations, resolved where they can be; a name that cannot be found makes none of the others useless."""
    try:
        return typing.get_type_hints(call)
    except Exception:
        raw = getattr(call, "__annotations__", {})
        names = {**vars(typing), **vars(sys.modules.get(getattr(call, "__module__", ""), typing))}
        return {name: _resolved(hint, names) for name, hint in raw.items()}


def _resolved(hint: Any, names: dict[str, Any]) -> Any:
    if not isinstance(hint, str):
        return hint
    try:
        return eval(hint, names)
    except Exception:
        return None


def name_of(function: Callable[..., Any]) -> str:
    while isinstance(function, partial):
        function = function.func
    return getattr(function, "__name__", None) or type(function).__name__
