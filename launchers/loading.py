"""How far the models of a flow are with loading, for whoever waits."""

from __future__ import annotations

import re
from typing import Any

from ..flow.steps import Step
from .inputs import modules_of

__all__ = ["loading_stage", "stage_name"]


def loading_stage(flow: Step[Any, Any]) -> tuple[str, float] | None:
    """A word and a fraction about the first model that loads right now; None when none does."""
    for module in modules_of(flow):
        status = module.status()
        if getattr(status, "state", None) == "loading":
            return f"loading {module.name}: {stage_name(status.stage)}", status.progress
    return None


def stage_name(words: str) -> str:
    """The words of a Progress without a percentage of their own: its fraction is told beside them."""
    return re.sub(r"\s*\d+ ?%$", "", words) or "working"
