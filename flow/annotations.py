"""What a function's annotations say of a step: what it takes, the value it gives, and the pieces it streams."""

from __future__ import annotations

import asyncio
import collections.abc
import inspect
import types
import typing
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from ..streaming.events import Event
from .functions import FunctionStep
from .hints import class_of, members_of, union_of
from .kinds import Kind, body_of, hints_of, kind_of, signed
from .steps import Step

__all__ = ["Reading", "read_class", "read_function", "read_step"]


class Reading(NamedTuple):
    """What is known of a callable. Any stands for what is not."""

    signature: inspect.Signature | None
    """With resolved annotations; None where the callable does not tell."""
    value: Any
    """What it gives, once it is over."""
    pieces: Any
    """What it streams; `value` where it does not."""
    vague: bool
    """Whether a name in its annotations could not be found (yet)."""


KEPT = "_reading"
READ: WeakKeyDictionary[types.FunctionType, Reading] = WeakKeyDictionary()
"""What is known of plain functions, for all steps that they are."""


def read_step(step: Step[Any, Any], again: bool = False) -> Reading:
    """The reading of a step that is no flow, read once; `again`: once more where names could not be found."""
    found: Reading | None = vars(step).get(KEPT)
    if found is None or (again and found.vague):
        found = vars(step)[KEPT] = _read(step)
    return found


def _read(step: Step[Any, Any]) -> Reading:
    if not isinstance(step, FunctionStep) or getattr(step, "body", "__call__") != "__call__":
        return read_class(type(step))
    function = step.function
    if type(function) is not types.FunctionType:
        return read_function(function, step.kind)
    found = READ.get(function)
    if found is None or found.vague:
        found = READ[function] = read_function(function, step.kind)
    return found


def read_class(cls: type) -> Reading:
    """What a class of steps says of itself by its base: `class Model(Module[Question, str])`."""
    for owner in cls.__mro__:
        for base in getattr(owner, "__orig_bases__", ()):
            args = typing.get_args(base)
            if len(args) == 2 and issubclass(class_of(base) or object, Step):
                slot = inspect.Parameter("x", inspect.Parameter.POSITIONAL_ONLY, annotation=args[0])
                return Reading(inspect.Signature([slot]), args[1], args[1], False)
    return Reading(None, Any, Any, False)


def read_function(function: Callable[..., Any], kind: Kind | None = None) -> Reading:
    """Reads a callable; `kind` where that is known already."""
    function = _uncached(function)
    bare = _without_arguments(function)
    if hasattr(bare, "__wrapped__"):  # what the decorator takes and gives need not be what it wraps
        return Reading(_signature(function, {}), Any, Any, False)
    source = _source_of(bare)
    found = hints_of(source) if source is not None else {}
    said = getattr(source, "__annotations__", {})
    vague = any(found.get(name) is None and hint is not None for name, hint in said.items())
    hints = {name: Any if hint is None else hint for name, hint in found.items()}
    if inspect.isclass(bare):
        value = pieces = _made_by(bare)
    else:
        value, pieces = _given_by(kind or kind_of(body_of(function)), hints.get("return", Any))
    return Reading(_signature(function, hints), value, pieces, vague)


CACHED = type(lru_cache(int))


def _uncached(function: Any) -> Any:
    return function.__wrapped__ if isinstance(function, CACHED) else function


def _without_arguments(function: Any) -> Any:
    while isinstance(function, partial):
        function = _uncached(function.func)
    return function


def _source_of(function: Any) -> Any:
    """Where the annotations of a call stand; None where they stand nowhere."""
    if not inspect.isclass(function):
        return body_of(function)
    if type(function).__call__ is not type.__call__:
        return None  # a metaclass decides
    for method in (function.__init__, function.__new__):
        if isinstance(method, types.FunctionType):
            return method
    return None


def _signature(function: Callable[..., Any], hints: dict[str, Any]) -> inspect.Signature | None:
    """The signature with resolved annotations, Any where there are none."""
    try:
        signature = inspect.signature(signed(function), follow_wrapped=False)
    except (TypeError, ValueError):  # a C function that does not tell
        return None
    slots = signature.parameters.values()
    return signature.replace(
        parameters=[slot.replace(annotation=hints.get(slot.name, Any)) for slot in slots]
    )


# ---------------------------------------------------------------- what a call gives


def _made_by(cls: type) -> Any:
    if type(cls).__call__ is not type.__call__ or cls is type:
        return Any
    own = any("__new__" in vars(base) for base in cls.__mro__[:-1])
    return cls if not own or cls.__module__ == "builtins" else Any


def _given_by(kind: Kind, hint: Any) -> tuple[Any, Any]:
    """Value and pieces of a call that is annotated to return `hint`."""
    if kind == "generator" or kind == "async generator":
        return _streamed(hint)
    value = union_of(_settled(member) for member in members_of(hint))
    return value, value


AWAITED = (collections.abc.Coroutine, asyncio.Future, asyncio.Task)
"""The last thing in the brackets is what awaiting gives."""

UNSETTLED = (
    collections.abc.Awaitable,
    collections.abc.Iterator,
    collections.abc.AsyncIterator,
    collections.abc.AsyncIterable,
)


def _settled(hint: Any) -> Any:
    """A plain function may return a coroutine or a generator, which the flow runs; what else has these types stays."""
    kind, args = class_of(hint), typing.get_args(hint)
    if kind in AWAITED:
        return union_of(_settled(member) for member in members_of(args[-1])) if args else Any
    if kind is not None and kind.__module__ in ("collections.abc", "types") and issubclass(kind, UNSETTLED):
        return Any
    return hint


def _streamed(hint: Any) -> tuple[Any, Any]:
    """Value and pieces of a generator: joined text, or the list; what it returns goes before."""
    args = typing.get_args(hint)
    if not args or class_of(hint) is None:
        return Any, Any
    pieces = [member for member in members_of(args[0]) if not _is_event(member)]
    item = union_of(pieces)
    returned = args[2] if len(args) == 3 else None
    if returned is None or returned is type(None):
        return _joined(pieces), item
    parts = [member for member in members_of(returned) if member is not type(None)]
    if len(parts) < len(members_of(returned)):
        parts.append(_joined(pieces))
    return union_of(parts), item


def _joined(pieces: list[Any]) -> Any:
    kinds = [kind for kind in map(class_of, pieces) if kind is not None]
    if not kinds or len(kinds) < len(pieces):
        return Any
    texts = [issubclass(kind, str) for kind in kinds]
    if all(texts):
        return str
    items = types.GenericAlias(list, (union_of(pieces),))
    return union_of([str, items]) if any(texts) else items


def _is_event(hint: Any) -> bool:
    kind = class_of(hint)
    return kind is not None and issubclass(kind, Event)
