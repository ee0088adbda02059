"""Abilities: what can be asked of a flow beyond text, read off its steps once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from ..flow.steps import Step
from ..modules.base import Module
from ..modules.language_models import LanguageModel
from .inputs import answering_models, begins_with_model, ends_of, takes_messages

__all__ = ["Abilities"]


@dataclass(frozen=True, slots=True)
class Abilities:
    """What the service may take for a flow; `lack` says why it is not more.

    `tools`: some model that gives its answers may be offered tools. `logprobs`: some such model tells
    log-probabilities. `demands`: every answer comes from a model, so that a form of it, or a tool call, can be
    demanded. `results`: it takes the result of a tool call as its input. `settings`: some model that gives its
    answers, or another Module that looks at a run's sampling (`sees_history`), keeps to what a request asks of them.
    """

    tools: bool = False
    logprobs: bool = False
    demands: bool = False
    results: bool = False
    settings: bool = False
    lack: str = "this flow ends in no model"

    @classmethod
    def of(cls, flow: Step[Any, Any]) -> Self:
        """Those of a flow."""
        models, ends = answering_models(flow), list(ends_of(flow))
        every = bool(models) and all(isinstance(end, LanguageModel) for end in ends)
        settings = any(isinstance(end, Module) and end.sees_history for end in ends)
        lack = "not every way through this flow ends in a model" if models else cls().lack
        results = takes_messages(flow) or begins_with_model(flow)
        return cls(bool(models), bool(models), every, results, settings, lack)
