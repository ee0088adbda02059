"""Identities: what a step is, the same in every process, so that a cache on disk knows its own values.

A function is its module and name, its code, its defaults and what it closes over; a module of ours its class and its
settings; a flow its steps. What a function calls, and the globals that it reads, are not looked into.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable, Hashable, Iterable, Iterator
from functools import partial
from typing import Any

from ..args import Args
from ..functions import FunctionStep
from ..references import Reference, parts_of
from ..steps import Step
from ..wiring import references_in
from .keys import Unkeyable, digest
from .wrapping import PolicyStep

__all__ = ["identity_of", "outer_references", "same", "steps_in"]

PACKAGE = __name__.partition(".")[0]

DERIVED = frozenset(("scope", "shallow"))
"""Attributes of steps that say nothing of what they do."""


def identity_of(step: Step[Any, Any]) -> str:
    """256 bits in hex.

    Raises:
        Unkeyable: a part of it, such as an object that a function closes over, cannot be told in another process.
    """
    return digest(_Description().of(step, ""))


class Same:
    """Stands for a thing in a key: equal to itself alone, whatever the thing says of itself."""

    __slots__ = ("thing",)

    def __init__(self, thing: object) -> None:
        self.thing = thing

    def __eq__(self, other: object) -> bool:
        return type(other) is Same and other.thing is self.thing

    def __hash__(self) -> int:
        return id(self.thing)


def same(step: Step[Any, Any]) -> Hashable:
    """What a step is in this process: the function, the module or the flow itself, not what it is made of."""
    if isinstance(step, PolicyStep):
        inside = tuple(same(child) for child in step.children())
        return inside if len(inside) > 1 else inside[0]
    function = vars(step).get("function") if isinstance(step, FunctionStep) else None
    if function is None:
        return Same(step)
    if inspect.ismethod(function):  # a new one is made each time that it is asked for
        return (Same(function.__self__), Same(function.__func__))
    return Same(function)


def steps_in(step: Step[Any, Any]) -> Iterator[Step[Any, Any]]:
    """A step and all that it is made of, each once."""
    todo, seen = [step], set()
    while todo:
        part = todo.pop()
        if id(part) not in seen:
            seen.add(id(part))
            yield part
            todo.extend(part.children())


def outer_references(step: Step[Any, Any]) -> tuple[Reference, ...]:
    """What a step refers to in flows around it."""
    scopes = [vars(part).get("scope") for part in steps_in(step)]
    return tuple(one for one in references_in(step) if not any(parts_of(one)[0] is scope for scope in scopes))


class _Description:
    """Takes a step apart into values that are keys."""

    def __init__(self) -> None:
        self.seen: dict[int, int] = {}
        self.held: list[Any] = []  # nothing in `seen` may be freed, or its id would be given out again

    def of(self, thing: Any, place: str) -> Any:
        kind = type(thing)
        if thing is None or kind in (bool, int, float, str, bytes):
            return thing
        if kind in (list, tuple, Args, set, frozenset):
            parts = [self.of(part, f"{place}[{i}]") for i, part in enumerate(thing)]
            return (kind.__name__, sorted(map(digest, parts)) if kind in (set, frozenset) else parts)
        if kind is dict:
            return (
                "dict",
                [(self.of(k, place), self.of(v, f"{place}[{k!r:.40}]")) for k, v in thing.items()],
            )
        if id(thing) in self.seen:
            return ("again", self.seen[id(thing)])
        self.seen[id(thing)] = len(self.seen)
        self.held.append(thing)
        if isinstance(thing, Step):
            return self._step(thing, place)
        if isinstance(thing, Reference):
            return ("reference", repr(thing))
        if callable(thing) or isinstance(thing, types.CellType):
            return self._callable(thing, place)
        return self._value(thing, place)

    # ------------------------------------------------------------ steps

    def _step(self, step: Step[Any, Any], place: str) -> Any:
        if isinstance(step, PolicyStep):
            inside = [self.of(child, place) for child in step.children()]
            return inside[0] if len(inside) == 1 else ("policy", inside)
        if isinstance(step, FunctionStep) and "function" in vars(step):
            return ("step", self.of(step.function, place), self.of(step.resolve, place))
        configuration = getattr(step, "configuration", None)
        state = configuration() if callable(configuration) else _public(step)
        return ("step", _class(type(step)), self._named(state, f"{place}{step.name or type(step).__name__}"))

    def _named(self, state: Any, place: str) -> Any:
        if type(state) is not dict:
            return self.of(state, place)
        return [(name, self.of(value, f"{place}.{name}")) for name, value in sorted(state.items())]

    # ------------------------------------------------------------ functions

    def _callable(self, thing: Any, place: str) -> Any:
        if isinstance(thing, types.CellType):
            try:
                return self.of(thing.cell_contents, place)
            except ValueError:
                return "an empty cell"
        if isinstance(thing, partial):
            return ("partial", *(self.of(part, place) for part in (thing.func, thing.args, thing.keywords)))
        if inspect.ismethod(thing):
            return ("method", self.of(thing.__func__, place), self.of(thing.__self__, f"{place}self of it"))
        if inspect.isfunction(thing):
            return self._function(thing, place)
        if inspect.isclass(thing):
            return _class(thing)
        if isinstance(thing, types.BuiltinFunctionType) and not inspect.ismodule(thing.__self__):
            return ("builtin", thing.__qualname__, self.of(thing.__self__, place))
        if inspect.isroutine(thing):
            owner = getattr(thing, "__objclass__", None)
            return ("builtin", owner.__module__ if owner else thing.__module__, thing.__qualname__)
        wrapped = getattr(thing, "__wrapped__", None)  # functools.cache
        return self._value(thing, place) if wrapped is None else self.of(wrapped, place)

    def _function(self, function: types.FunctionType, place: str) -> Any:
        name = function.__qualname__
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        return (
            "function",
            function.__module__,
            name,
            _code(function.__code__),
            self.of(function.__defaults__, f"{place}the defaults of {name}"),
            self.of(function.__kwdefaults__, f"{place}the defaults of {name}"),
            [self.of(cell, f"{place}what {name} closes over: {variable}") for variable, cell in cells],
        )

    # ------------------------------------------------------------ other values

    def _value(self, thing: Any, place: str) -> Any:
        if isinstance(thing, types.ModuleType):
            return ("module", thing.__name__)
        if isinstance(thing, re.Pattern):
            return ("pattern", thing.pattern, thing.flags)
        try:
            return digest(thing)
        except Unkeyable:
            pass
        state = getattr(thing, "__dict__", None)
        if state is None:
            slots = getattr(type(thing), "__slots__", None)
            if not slots or isinstance(slots, str):
                raise Unkeyable(thing, place)
            state = {name: getattr(thing, name) for name in slots if hasattr(thing, name)}
        return ("object", _class(type(thing)), self._named(dict(state), place))


def _public(step: Step[Any, Any]) -> dict[str, Any]:
    """The settings of a step, as its attributes say them."""
    return {
        name: value for name, value in vars(step).items() if not name.startswith("_") and name not in DERIVED
    }


def _class(cls: type) -> Any:
    """A class by its name and, where it is not ours or the language's, by the code of its methods."""
    codes = []
    for base in cls.__mro__:
        if base.__module__.partition(".")[0] not in (PACKAGE, "builtins", "typing", "abc"):
            codes += [(name, _code(code)) for name, code in sorted(_methods(base))]
    return ("class", cls.__module__, cls.__qualname__, codes)


def _methods(cls: type) -> Iterable[tuple[str, types.CodeType]]:
    for name, member in vars(cls).items():
        if isinstance(member, property):
            member = member.fget
        function: Callable[..., Any] = getattr(member, "__func__", member)
        if inspect.isfunction(function):
            yield name, function.__code__


def _code(code: types.CodeType) -> str:
    """The code itself: neither file and line nor what the interpreter has learned of it."""
    constants = [
        _code(constant) if isinstance(constant, types.CodeType) else _constant(constant)
        for constant in code.co_consts
    ]
    counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    return digest((code.co_code, constants, code.co_names, code.co_varnames, code.co_freevars, counts))


def _constant(constant: Any) -> str:
    if isinstance(constant, tuple):
        return digest([_constant(part) for part in constant])
    return "..." if constant is ... else digest(constant)
