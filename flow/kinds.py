"""What a callable is as a step, read from its `__call__` and its annotations."""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any, Literal

__all__ = ["Kind", "body_of", "hints_of", "kind_of", "live_as", "name_of", "signed"]

Kind = Literal["sync", "async", "generator", "async generator"]


def body_of(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function that runs when `function` is called."""
    function = _without_arguments(function)
    if inspect.isroutine(function) or inspect.isclass(function):
        return function
    call: Callable[..., Any] = type(function).__call__
    return call


def kind_of(call: Callable[..., Any]) -> Kind:
    code = getattr(getattr(call, "__func__", call), "__code__", None)
    if code is not None and code.co_flags & inspect.CO_ITERABLE_COROUTINE:  # types.coroutine
        return "async"
    if inspect.isasyncgenfunction(call):
        return "async generator"
    if inspect.isgeneratorfunction(call):
        return "generator"
    return "async" if inspect.iscoroutinefunction(call) else "sync"


def live_as(function: Callable[..., Any], hints: dict[str, Any], place: int | str | None) -> Any:
    """AsyncIterator or Iterator, where the parameter at `place` takes a stream as one of them; else None."""
    streams = {
        name: kind for name, hint in hints.items() if (kind := typing.get_origin(hint) or hint) in LIVE
    }
    streams.pop("return", None)
    if not streams or place is None or inspect.isclass(_without_arguments(function)):
        return None
    name = place if isinstance(place, str) else _parameter(function, place)
    return streams.get(name) if name is not None else None


LIVE = (AsyncIterator, Iterator)


def _parameter(function: Callable[..., Any], place: int) -> str | None:
    """The name of a parameter by its position in a call."""
    names = [
        parameter.name
        for parameter in inspect.signature(signed(function)).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    return names[place] if place < len(names) else None


def signed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Whose signature tells how `function` is called."""
    call = inspect.getattr_static(type(function), "__call__", None)
    if isinstance(call, (classmethod, staticmethod)):  # inspect would leave its first parameter out
        return function.__call__  # type: ignore[no-any-return,operator]
    return function


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
    function = _without_arguments(function)
    return getattr(function, "__name__", None) or type(function).__name__


def _without_arguments(function: Callable[..., Any]) -> Callable[..., Any]:
    while isinstance(function, partial):
        function = function.func
    return function
