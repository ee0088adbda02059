"""What a flow takes, and what it is made of."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..flow.functions import FunctionStep
from ..flow.pipeline import Pipeline
from ..flow.policies import bare
from ..flow.steps import Step
from ..modules.base import Module
from ..streaming.messages import Message

__all__ = ["modules_of", "takes_messages"]


def takes_messages(flow: Step[Any, Any]) -> bool:
    """Whether its input is annotated `list[Message]`: it then gets the whole conversation, not the last text."""
    flow = bare(flow)
    while isinstance(flow, Pipeline) and flow.steps:
        flow = bare(flow.steps[0])
    if not isinstance(flow, FunctionStep):
        return False
    hint = _first_hint(flow.function)
    if isinstance(hint, str):  # its names are imported for type checkers alone
        return hint in ("list[Message]", "Sequence[Message]")
    return typing.get_origin(hint) in (list, Sequence) and typing.get_args(hint) == (Message,)


def _first_hint(function: Callable[..., Any]) -> Any:
    """The annotation of the first parameter; as text where it cannot be resolved."""
    for resolved in (True, False):
        try:
            signature = inspect.signature(function, eval_str=resolved)
        except Exception:
            continue
        return next((parameter.annotation for parameter in signature.parameters.values()), None)
    return None


def modules_of(flow: Step[Any, Any]) -> Iterator[Module[Any, Any]]:
    """The Modules in a flow, each once, in the order of the flow."""
    seen: set[int] = set()
    todo: list[Step[Any, Any]] = [flow]
    while todo:
        step = todo.pop()
        if id(step) in seen:
            continue
        seen.add(id(step))
        if isinstance(step, Module):
            yield step
        todo.extend(reversed(step.children()))
