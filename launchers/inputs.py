"""What a flow takes, what it is made of, and what gives its answer."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..flow.arguments import Given
from ..flow.bindings import BoundFlow
from ..flow.checks import Walk
from ..flow.fans import Fan
from ..flow.functions import FunctionStep, as_step
from ..flow.graph import Graph
from ..flow.hints import Several
from ..flow.loop import Loop
from ..flow.pipeline import Pipeline
from ..flow.policies import PolicyStep, bare
from ..flow.policies.wrapping import show_of
from ..flow.steps import Step
from ..flow.switch import Switch
from ..modules.base import Module
from ..modules.embedding_models import Embedding
from ..modules.language_models import LanguageModel
from ..streaming.messages import Message

__all__ = [
    "answering_flow",
    "answering_models",
    "begins_with_model",
    "ends_of",
    "first_of",
    "gives_embeddings",
    "modules_of",
    "takes_messages",
]


def answering_flow(flow: Any) -> Step[Any, Any]:
    """A flow as a step that can be called as requests do: with one value.

    Raises:
        FlowBuildError: it cannot be, whatever the value is; says why.
    """
    checked = as_step(flow).check()
    first = first_of(checked)
    if isinstance(first, FunctionStep):
        walk = Walk()
        walk.through(first, Given(Several((Any,)), Any, None))
        walk.complain(checked)
    return checked


def takes_messages(flow: Step[Any, Any]) -> bool:
    """Whether its input is annotated `list[Message]`: it then gets the whole conversation, not the last text."""
    first = first_of(flow)
    if not isinstance(first, FunctionStep):
        return False
    hint = _first_hint(first.function)
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


def begins_with_model(flow: Step[Any, Any]) -> bool:
    """Whether what goes in goes to a model as it is: it can then be a Message, such as a tool's result."""
    first = first_of(flow)
    while isinstance(first, Loop):
        first = first_of(first.body)
    return isinstance(first, LanguageModel)


def first_of(flow: Step[Any, Any]) -> Step[Any, Any]:
    """The step that gets what goes in."""
    flow = bare(flow)
    while isinstance(flow, Pipeline) and flow.steps:
        flow = bare(flow.steps[0])
    return flow


def ends_of(flow: Step[Any, Any]) -> Iterator[Step[Any, Any]]:
    """The steps that may give a flow's answer: one of them does, whichever way a run takes through the flow."""
    if show_of(flow) not in (None, "output"):
        yield flow  # its pieces are none of the answer, so its settings are its own
    elif isinstance(flow, (PolicyStep, BoundFlow)):
        for child in flow.children():  # a fallback too
            yield from ends_of(child)
    elif isinstance(flow, Pipeline) and flow.steps:
        yield from ends_of(flow.steps[-1])
    elif isinstance(flow, Switch):
        for branch in flow.branches:
            yield from ends_of(branch)
    elif isinstance(flow, Loop):
        yield from ends_of(flow.body)
    elif isinstance(flow, Graph) and (last := flow.last) is not None:
        yield from ends_of(last)
    elif isinstance(flow, Fan) and flow.post is not None:
        yield from ends_of(flow.post)
    else:
        yield flow


def answering_models(flow: Step[Any, Any]) -> list[LanguageModel]:
    """The models that may give a flow's answer."""
    return [step for step in ends_of(flow) if isinstance(step, LanguageModel) and step.shows_output(True)]


def gives_embeddings(flow: Step[Any, Any]) -> bool:
    """Whether what comes out are the vectors of an embedding model, whichever way a run takes."""
    return all(isinstance(step, Embedding) for step in ends_of(flow))


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
