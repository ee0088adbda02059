"""Whether a value annotated as one type can be what another annotation asks for.

The answer is no only where no value could be both: what type checkers call disjoint. Everything that is not known to
be disjoint fits: Any, type variables, protocols, a base class where a derived one is asked for, an int for a float
(PEP 484's numeric tower, in both directions), one member of a union.
"""

from __future__ import annotations

import collections.abc
import inspect
import typing
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from .hints import BYTES, CONTAINERS, Named, class_of, elements_of, members_of, pair_of, row_of

__all__ = ["fits"]

CALLABLE: Any = collections.abc.Callable
NUMBERS = (int, float, complex)


def fits(given: Any, wanted: Any) -> bool:
    """Whether some value of the type `given` is one of the type `wanted`."""
    if given is Any or wanted is Any or given is wanted:
        return True
    try:
        if _fits(given, wanted):
            return True
    except TypeError:  # not hashable, as Annotated and Literal may be
        pass
    return _fits.__wrapped__(given, wanted)  # a no may be from before there was a class that is both


@lru_cache(2048)
def _fits(given: Any, wanted: Any) -> bool:
    return any(_one_fits(g, w) for g in members_of(given) for w in members_of(wanted))


def _one_fits(given: Any, wanted: Any) -> bool:
    if given is Any or wanted is Any:
        return True
    if typing.get_origin(given) is typing.Literal or typing.get_origin(wanted) is typing.Literal:
        return _literals_fit(given, wanted)
    g, w = class_of(given), class_of(wanted)
    if g is None or w is None:
        return True
    return _classes_fit(g, w) and _insides_fit(given, wanted, g, w)


# ---------------------------------------------------------------- classes


def _classes_fit(given: type, wanted: type) -> bool:
    try:
        if issubclass(given, wanted) or issubclass(wanted, given):
            return True
    except TypeError:
        return True
    if issubclass(wanted, NUMBERS):  # a number of numpy's, a Decimal
        return any(hasattr(given, name) for name in ("__index__", "__float__", "__complex__"))
    if issubclass(given, BYTES) and issubclass(wanted, BYTES):
        return True
    return _may_meet(given, wanted)


def _may_meet(a: type, b: type) -> bool:
    """Whether a class derived from both is likely, or there is one."""
    if inspect.isabstract(a) or inspect.isabstract(b):
        return "builtins" not in (a.__module__, b.__module__)
    known, found = [a], {a}
    while known:
        new: set[type] = set(type.__subclasses__(known.pop())) - found
        if any(issubclass(one, b) for one in new):
            return True
        found |= new
        known += new
    return False


def _literals_fit(given: Any, wanted: Any) -> bool:
    given_values, wanted_values = _literal_values(given), _literal_values(wanted)
    if given_values is not None and wanted_values is not None:
        return any(value in wanted_values for value in given_values)
    if given_values is not None:
        return any(fits(type(value), wanted) for value in given_values)
    return any(fits(given, type(value)) for value in wanted_values or ())


def _literal_values(hint: Any) -> tuple[Any, ...] | None:
    return typing.get_args(hint) if typing.get_origin(hint) is typing.Literal else None


# ---------------------------------------------------------------- what is inside


def _insides_fit(given: Any, wanted: Any, g: type, w: type) -> bool:
    if issubclass(g, Mapping) and issubclass(w, Mapping):
        pairs = [(str, value) for _, value in given.items] if isinstance(given, Named) else [pair_of(given)]
        return all(all(map(fits, pair, pair_of(wanted))) for pair in pairs)
    row, wanted_row = row_of(given), row_of(wanted)
    if row is not None and wanted_row is not None:
        return len(row) == len(wanted_row) and all(map(fits, row, wanted_row))
    if w in CONTAINERS:
        items = row if row is not None else (elements_of(given),)
        return all(fits(item, elements_of(wanted)) for item in items)
    if g is w and len(typing.get_args(given)) == len(typing.get_args(wanted)) and g is not CALLABLE:
        return all(map(fits, typing.get_args(given), typing.get_args(wanted)))
    return True
