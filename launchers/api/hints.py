"""Hints: what a flow takes and gives, by its annotations, as JSON schemas; and inputs checked against them."""

from __future__ import annotations

import functools
import inspect
import json
import operator
import types
import typing
import warnings
from typing import Annotated, Any, Literal

from ...flow.annotations import read_step
from ...flow.arguments import UNKNOWN
from ...flow.checks import Walk
from ...flow.functions import FunctionStep
from ...flow.graph import Graph
from ...flow.hints import Named, Several
from ...flow.kinds import body_of
from ...flow.loop import If, Loop
from ...flow.parallel import Diverter
from ...flow.pipeline import Pipeline
from ...flow.policies import bare
from ...flow.steps import Step
from ...flow.switch import Switch
from ...flow.warps import Warp
from ...modules.language_models import LanguageModel
from ...streaming.messages import Message
from .refusals import Refusal
from .values import with_whole_numbers

__all__ = ["Hint", "given_by", "taken_by"]


def taken_by(flow: Step[Any, Any]) -> Hint:
    """What a flow takes."""
    return Hint(_taken(flow))


def given_by(flow: Step[Any, Any]) -> Hint:
    """What a flow gives."""
    return Hint(Walk(whole=True).through(flow, UNKNOWN).value, "serialization")


def _taken(flow: Step[Any, Any]) -> Any:
    """Any where that is not known, or where parts of the flow do not agree."""
    flow = bare(flow)
    match flow:
        case LanguageModel():
            return str | list[Message]
        case Pipeline():
            return _taken(flow.steps[0]) if flow.steps else Any
        case Loop():
            return _taken(flow.body)
        case Warp():
            return list[_taken(flow.inner)]  # type: ignore[misc]
        case Diverter():
            return _each(flow)
        case Switch() | If():
            return _common(flow)
        case Graph():
            return Any
    if flow.children():
        return _common(flow)
    reading = read_step(flow)
    if getattr(flow, "resolve", None) is not None or reading.signature is None:
        return Any
    first = next(iter(reading.signature.parameters.values()), None)
    return Any if first is None else _with_metadata(flow, first)


def _with_metadata(step: Step[Any, Any], slot: inspect.Parameter) -> Any:
    """A parameter's annotation, with what `Annotated` says beside the type: the flow's checks look at types alone."""
    if isinstance(step, FunctionStep):
        try:
            hints = typing.get_type_hints(body_of(step.function), include_extras=True)
        except Exception:
            return slot.annotation  # a name in it is not known there
        return hints.get(slot.name, slot.annotation)
    return slot.annotation


def _each(flow: Diverter[Any, Any]) -> Any:
    """One item for each branch."""
    items = tuple(_taken(branch) for branch in flow.steps)
    return Several(items) if flow.keys is None else Named(tuple(zip(flow.keys, items, strict=True)))


def _common(flow: Step[Any, Any]) -> Any:
    hints = [_taken(child) for child in flow.children()]
    return hints[0] if hints and all(hint == hints[0] for hint in hints) else Any


class Hint:
    """An annotation, and what pydantic knows about it; what pydantic cannot read passes unchecked.

    `mode` says which way values go: in, to be checked, or out.
    """

    def __init__(self, annotation: Any, mode: Literal["validation", "serialization"] = "validation") -> None:
        self.annotation = annotation
        self.mode = mode
        self._adapter = _adapter(annotation)

    @property
    def schema(self) -> dict[str, Any]:
        """Its JSON schema, with all definitions inside; `{}` for anything."""
        if self._adapter is None:
            return {}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                schema: dict[str, Any] = self._adapter.json_schema(mode=self.mode)
        except Exception:
            return {}
        return schema

    def check(self, value: Any, name: str) -> Any:
        """The value, which is JSON, as the flow takes it: models and dataclasses from objects, dates from text, and so
        on. As the schema says: a number that is written as text is none.

        Raises:
            Refusal: 422, naming the part that does not fit.
        """
        if self._adapter is None or self.annotation is Any:
            return value
        from pydantic import ValidationError

        try:
            return self._parsed(value)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            where = name + "".join(
                f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]
            )
            raise Refusal(422, f"{where}: {first['msg'][:300]}", "invalid_value", where[:200]) from None
        except Exception as error:
            message = f"{name} does not fit what the flow takes ({type(error).__name__})"
            raise Refusal(422, message, "invalid_value", name) from None

    def _parsed(self, value: Any) -> Any:
        from pydantic import ValidationError

        try:
            return self._adapter.validate_json(json.dumps(value), strict=True)
        except ValidationError:
            return self._adapter.validate_json(json.dumps(with_whole_numbers(value)), strict=True)


def _adapter(annotation: Any) -> Any:
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticUserError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return TypeAdapter(_plain(annotation))
    except (PydanticUserError, NameError, TypeError, RecursionError):  # the last: a TypedDict within itself
        return None


def _plain(annotation: Any) -> Any:
    """What an annotation of flows is in Python's own words, as pydantic reads them."""
    from typing_extensions import TypedDict

    if isinstance(annotation, Several):
        return tuple[tuple(map(_plain, annotation.items))]  # type: ignore[misc]
    if isinstance(annotation, Named):
        fields = {name: _plain(hint) for name, hint in annotation.items}
        return TypedDict("Named", fields)  # type: ignore[operator]
    if typing.is_typeddict(annotation) and type(annotation).__module__ == "typing":
        return _own_typed_dict(annotation)
    if typing.get_origin(annotation) is Annotated:
        return Annotated[(_plain(annotation.__origin__), *annotation.__metadata__)]
    parts = typing.get_args(annotation)
    plain = tuple(map(_plain, parts))
    if plain == parts or typing.get_origin(annotation) is Literal:
        return annotation
    if isinstance(annotation, types.UnionType):
        return functools.reduce(operator.or_, plain)
    return annotation.copy_with(plain) if hasattr(annotation, "copy_with") else annotation.__origin__[plain]


def _own_typed_dict(annotation: Any) -> Any:
    """A TypedDict of `typing` as one of typing_extensions: before Python 3.12 pydantic reads no other."""
    from typing import NotRequired, Required

    from typing_extensions import TypedDict

    fields = {}
    for name, hint in typing.get_type_hints(annotation, include_extras=True).items():
        needed = Required if name in annotation.__required_keys__ else NotRequired
        if typing.get_origin(hint) in (
            Required,
            NotRequired,
        ):  # annotations that are text hide that from Python
            needed, hint = typing.get_origin(hint), typing.get_args(hint)[0]
        fields[name] = needed[_plain(hint)]
    return TypedDict(annotation.__name__, fields)  # type: ignore[operator]
