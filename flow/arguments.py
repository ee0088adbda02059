"""Whether what reaches a function can be its arguments: how many there are, what they are called, and of what types."""

from __future__ import annotations

import typing
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator, Mapping, Sequence
from functools import lru_cache
from inspect import Parameter, Signature
from typing import Any, NamedTuple

from .args import Args
from .fitting import fits
from .hints import Named, Several, class_of, describe, elements_of, members_of

__all__ = ["UNKNOWN", "Given", "bound_problems", "incoming", "plain_problems"]

EMPTY = Parameter.empty
BY_POSITION = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
LIVE = (AsyncIterator, AsyncIterable, AsyncGenerator)
"""Types by which one may ask for pieces as they come; the first one, with an item's type, is how."""


class Given(NamedTuple):
    """What reaches a step, as far as it is known; Any where it is not."""

    value: Any
    """Its type."""
    pieces: Any
    """The type of its items, where it comes live."""
    by: str | None
    """Who gives it, for messages; None where it is what the flow is called with."""


UNKNOWN = Given(Any, Any, None)


def incoming(given: Given) -> list[Given] | None:
    """The arguments that a value becomes; None where it may be Args of any length."""
    if isinstance(given.value, Several):
        return [Given(item, item, given.by) for item in given.value.items]
    try:
        several = _may_be_args(given.value)
    except TypeError:  # an annotation that cannot be hashed
        several = _may_be_args.__wrapped__(given.value)
    return None if several else [given]


@lru_cache(2048)
def _may_be_args(hint: Any) -> bool:
    kinds = [class_of(member) for member in members_of(hint)]
    return any(kind is None or issubclass(Args, kind) for kind in kinds)


def plain_problems(
    name: str, signature: Signature, given: Given, live: bool = False, unpacked: bool = True
) -> Iterator[str]:
    """What is wrong when a step is called with what comes in.

    `live`: its first parameter takes the pieces as they come; `unpacked`: Args become several arguments.
    """
    yield from _names_missing(name, signature, ())
    slots = [p for p in signature.parameters.values() if p.kind in BY_POSITION]
    rest = next((p for p in signature.parameters.values() if p.kind is Parameter.VAR_POSITIONAL), None)
    if not slots and rest is None:
        yield (
            f"{name} takes no value, and a step is called with one: give it a parameter, `_` if it needs none"
        )
        return
    values = [given] if live or not unpacked else incoming(given)
    if values is None:
        return
    wrong = _wrong_number(name, slots, rest is not None, len(values), given)
    if wrong is not None:
        yield wrong
        return
    for i, value in enumerate(values):
        slot = slots[i] if i < len(slots) else rest
        if slot is not None and not (live and _live_fits(value, slot)):
            yield from _type_problem(name, slot, value, several=len(values) > 1)


def _wrong_number(name: str, slots: Sequence[Parameter], more: bool, count: int, given: Given) -> str | None:
    needed = sum(slot.default is EMPTY for slot in slots)
    if needed <= count and (more or count <= len(slots)):
        return None
    names = f" ({', '.join(slot.name for slot in slots)})"
    takes = f"{needed if count < needed else len(slots)}{names}"
    gives = _said(given, f"{count} value{'' if count == 1 else 's'}")
    if count == 1:
        left = ", ".join(f"{slot.name}=..." for slot in slots[1:needed])
        cure = f"give the others ahead, bind({name}, {left}), or let a Parallel give several"
    else:
        cure = "give it as many parameters, or make one value of the results with collect="
    return f"{gives}, and {name} takes {takes}: {cure}"


def _names_missing(name: str, signature: Signature, given: Sequence[str]) -> Iterator[str]:
    missing = [
        p.name
        for p in signature.parameters.values()
        if p.kind is Parameter.KEYWORD_ONLY and p.default is EMPTY and p.name not in given
    ]
    if missing:
        words = ", ".join(f"{one}=..." for one in missing)
        needs = ", ".join(missing)
        yield f"{name} needs {needs} by keyword, and a flow gives values by position: bind({name}, {words})"


# ---------------------------------------------------------------- bound arguments


def bound_problems(
    name: str,
    signature: Signature,
    args: Sequence[Given] | None,
    kwargs: Mapping[str, Given],
    live: Given | None = None,
    left: bool = False,
) -> Iterator[str]:
    """What is wrong when a step is called with bound arguments; `args` is None where their number is not known.

    `live` is what comes in, where the step takes the pieces of that as they come; `left`: it is given nowhere.
    """
    parameters = signature.parameters
    open_ended = any(p.kind is Parameter.VAR_KEYWORD for p in parameters.values())
    by_name = [p.name for p in parameters.values() if p.kind in (*BY_POSITION[1:], Parameter.KEYWORD_ONLY)]
    unknown = [key for key in kwargs if key not in by_name and not open_ended]
    if unknown:
        known = ", ".join(by_name) or "none"
        yield f"bind({name}, {', '.join(unknown)}=...): {name} has no such parameter; it has: {known}"
        return
    yield from _names_missing(name, signature, list(kwargs))
    if args is None:
        for key, value in kwargs.items():
            if key in parameters:
                yield from _type_problem(name, parameters[key], value, several=True)
        return
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        if "keyword-only" not in str(error):  # that has been said above
            cure = (
                "; beside a reference, what comes in is given as arg[0]"
                if left and "missing" in str(error)
                else ""
            )
            yield f"bind({name}, ...) calls it wrongly: {error}; its parameters: {', '.join(parameters)}{cure}"
        return
    for key, value in bound.arguments.items():
        slot = parameters[key]
        if slot.kind is Parameter.VAR_POSITIONAL:
            for one in value:
                yield from _type_problem(name, slot, one, several=True)
        elif slot.kind is Parameter.VAR_KEYWORD:
            for one in value.values():
                yield from _type_problem(name, slot, one, several=True)
        elif value is not live or not _live_fits(value, slot):
            yield from _type_problem(name, slot, value, several=len(bound.arguments) > 1)


# ---------------------------------------------------------------- types


def _live_fits(given: Given, slot: Parameter) -> bool:
    (wanted,) = typing.get_args(slot.annotation) or (Any,)
    return fits(given.pieces, wanted) or fits(given.value, wanted)


def _type_problem(name: str, slot: Parameter, given: Given, several: bool) -> Iterator[str]:
    if fits(given.value, slot.annotation):
        return
    where = f" as {slot.name}" if several else ""
    gives = _said(given, describe(given.value))
    yield f"{gives}, and {name} takes {describe(slot.annotation)}{where}: {_cure(name, slot.annotation, given)}"


def _said(given: Given, what: str) -> str:
    if given.by is None:
        return f"the flow is given {what}"
    return f"{given.by} {'give' if ' and ' in given.by else 'gives'} {what}"


def _cure(name: str, wanted: Any, given: Given) -> str:
    value, kind = given.value, class_of(wanted)
    if kind in LIVE and fits(given.pieces, (typing.get_args(wanted) or (Any,))[0]):
        if kind is AsyncIterator and typing.get_args(wanted):
            return f"only what comes in can be taken live: bind({name}, arg[0])"
        return f"to take the pieces as they come, annotate it AsyncIterator[{describe(given.pieces)}]"
    if isinstance(value, Named):
        key = value.items[0][0] if value.items else "name"
        return f'choose one of them, bind({name}, p.{_word(given.by)}["{key}"]), or merge them with collect='
    if value is type(None):
        return f"{given.by or 'it'} returns nothing; return what is to go on"
    container = not isinstance(value, Several) and class_of(value) not in (str, bytes, dict)
    if container and elements_of(value) is not Any and fits(elements_of(value), wanted):
        return f"its items do not go one by one; Warp({name}) runs it on each of them"
    if kind not in (str, bytes) and elements_of(wanted) is not Any and fits(value, elements_of(wanted)):
        return "put the value into a list first"
    return "mend one of the two annotations, or put a step between them that makes one of the other"


def _word(name: str | None) -> str:
    return name if name is not None and name.isidentifier() else "step"
