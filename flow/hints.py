"""Annotations, looked into: members of unions, classes, items, and how they are written.

Any stands for what is not known.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import inspect
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

__all__ = [
    "BYTES",
    "CONTAINERS",
    "MISSING",
    "Named",
    "Several",
    "attribute_of",
    "class_of",
    "describe",
    "elements_of",
    "item_of",
    "members_of",
    "pair_of",
    "row_of",
    "union_of",
]


class Several(NamedTuple):
    """Args with known items, as an annotation cannot say it."""

    items: tuple[Any, ...]


class Named(NamedTuple):
    """A dict with known keys."""

    items: tuple[tuple[str, Any], ...]


BYTES = (bytes, bytearray, memoryview)

MISSING = object()
"""Instead of an annotation: what was asked for is certainly not there."""


def members_of(hint: Any) -> tuple[Any, ...]:
    """The members of a union, plain: aliases, Annotated and NewType are looked through, what is unknown is Any."""
    hint = _plain(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return tuple(member for part in typing.get_args(hint) for member in members_of(part))
    return (hint,)


LOOKED_THROUGH = (typing.Annotated, typing.Final, typing.ClassVar, typing.Required, typing.NotRequired)


def _plain(hint: Any) -> Any:
    while True:
        if hint is None:
            return type(None)
        if isinstance(hint, (Several, Named)):
            return hint
        if isinstance(hint, typing.NewType):
            hint = hint.__supertype__
        elif typing.get_origin(hint) in LOOKED_THROUGH:
            hint = typing.get_args(hint)[0]
        elif type(hint).__name__ == "TypeAliasType" or hasattr(typing.get_origin(hint), "__value__"):
            return Any if typing.get_args(hint) else _plain(hint.__value__)
        elif hint is typing.LiteralString:
            return str
        elif hint is object or isinstance(hint, (str, typing.TypeVar, typing.ForwardRef)):
            return Any  # anything may be in an object; the others are not known here
        else:
            return hint


def class_of(hint: Any) -> type | None:
    """The class behind an annotation; None where it does not say one."""
    if hint is Any:
        return None
    if isinstance(hint, Several):
        return tuple
    if isinstance(hint, Named):
        return dict
    origin = typing.get_origin(hint) or hint
    if not inspect.isclass(origin) or getattr(origin, "_is_protocol", False) or _is_stand_in(origin):
        return None
    return dict if typing.is_typeddict(origin) else origin


def _is_stand_in(cls: type) -> bool:
    """Whether values of other classes pass for its own, as files do for `typing.IO`; or its own for all, as mocks."""
    return cls in FILES or any(base.__module__ == "unittest.mock" for base in cls.__mro__)


FILES: tuple[Any, ...] = (typing.IO, typing.TextIO, typing.BinaryIO)


# ---------------------------------------------------------------- what is inside

CONTAINERS = (
    list,
    tuple,
    set,
    frozenset,
    collections.deque,
    collections.abc.Iterable,
    collections.abc.Iterator,
    collections.abc.Collection,
    collections.abc.Container,
    collections.abc.Reversible,
    collections.abc.Sequence,
    collections.abc.MutableSequence,
    collections.abc.Set,
    collections.abc.MutableSet,
)

MAPPINGS = (
    dict,
    collections.Counter,
    collections.OrderedDict,
    collections.defaultdict,
    collections.abc.Mapping,
    collections.abc.MutableMapping,
    types.MappingProxyType,
)
"""Where the first thing in the brackets is the key; other classes order theirs as they like."""


def elements_of(hint: Any) -> Any:
    """What iterating over a value of this type gives; Any where that is not known."""
    if isinstance(hint, Several):
        return union_of(hint.items)
    if isinstance(hint, Named):
        return str
    kind, args = class_of(hint), typing.get_args(hint)
    if kind is None:
        return Any
    if kind is str:
        return str
    if kind in BYTES:
        return int
    if kind is tuple:
        rows = row_of(hint)
        return args[0] if rows is None and len(args) == 2 and args[1] is Ellipsis else union_of(rows or ())
    return args[0] if args and (kind in CONTAINERS or kind in MAPPINGS) else Any


def union_of(hints: Iterable[Any]) -> Any:
    """One annotation for any of these; Any when there is none, or one of them is not known."""
    found = tuple(dict.fromkeys(member for hint in hints for member in members_of(hint)))
    if not found or Any in found:
        return Any
    if any(isinstance(member, (Several, Named)) for member in found):
        return found[0] if len(found) == 1 else Any
    return typing.Union[found]  # noqa: UP007


def row_of(hint: Any) -> tuple[Any, ...] | None:
    """The items of a tuple whose length is known."""
    if isinstance(hint, Several):
        return hint.items
    args = typing.get_args(hint)
    if typing.get_origin(hint) is not tuple or Ellipsis in args or any(_is_unpacked(arg) for arg in args):
        return None
    return args


def _is_unpacked(hint: Any) -> bool:
    return (
        typing.get_origin(hint) is typing.Unpack
        or getattr(hint, "__typing_unpacked_tuple_args__", None) is not None
    )


def pair_of(hint: Any) -> tuple[Any, Any]:
    """Key and value of a mapping."""
    if isinstance(hint, Named):
        return str, union_of(value for _, value in hint.items)
    args = typing.get_args(hint)
    return (args[0], args[1]) if len(args) == 2 and class_of(hint) in MAPPINGS else (Any, Any)


def item_of(hint: Any, key: Any) -> Any:
    """The type of `value[key]`; MISSING where there is no such key."""
    if isinstance(hint, Named):
        return dict(hint.items).get(key, MISSING)
    row = row_of(hint)
    if row is not None and isinstance(key, int):
        return row[key] if -len(row) <= key < len(row) else MISSING
    if typing.is_typeddict(hint):
        return _fields_of(hint).get(key, Any if key in hint.__annotations__ else MISSING)
    kind = class_of(hint)
    if kind is None:
        return Any
    if issubclass(kind, Mapping):
        return pair_of(hint)[1]
    return elements_of(hint) if kind in CONTAINERS and isinstance(key, int) else Any


def attribute_of(hint: Any, name: str) -> Any:
    """The type of `value.name`; MISSING where there is no such attribute."""
    kind = class_of(hint)
    if isinstance(hint, Named):
        return Any if hasattr(dict, name) else MISSING
    if kind is None:
        return Any
    if kind in BARE:
        return Any if hasattr(kind, name) else MISSING
    return _fields_of(kind).get(name, Any) if dataclasses.is_dataclass(kind) else Any


BARE = (str, int, float, complex, bool, *BYTES, list, set, frozenset, type(None))
"""What has no attributes of its own; a tuple, a dict or an exception may well be of a class that has."""


def _fields_of(kind: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(kind)
    except Exception:  # a name in its annotations that cannot be found
        return {}


# ---------------------------------------------------------------- in words


def describe(hint: Any) -> str:
    """An annotation as one writes it, without the modules of its names."""
    if isinstance(hint, Several):
        return f"Args({', '.join(map(describe, hint.items))})"
    if isinstance(hint, Named):
        return f"a dict with {', '.join(key for key, _ in hint.items)}"
    if hint is None or hint is type(None):
        return "None"
    if hint is Ellipsis:
        return "..."
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " | ".join(map(describe, args))
    if origin is typing.Literal:
        return f"Literal[{', '.join(map(repr, args))}]"
    if origin is typing.Annotated:
        return describe(args[0])
    if isinstance(hint, list):
        return f"[{', '.join(map(describe, hint))}]"
    if origin is not None and args:
        return f"{getattr(origin, '__name__', origin)}[{', '.join(map(describe, args))}]"
    name = getattr(hint, "__qualname__", None) or getattr(hint, "__name__", None)
    return str(name).rpartition("<locals>.")[2] if name else str(hint).replace("typing.", "")
