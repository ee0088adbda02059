"""What an empty chat says: the name of the flow, a line about it, questions to click."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...flow.steps import Step

__all__ = ["Welcome", "welcome_for"]


@dataclass(frozen=True, slots=True)
class Welcome:
    """`title` is the name in the page's head, `line` says what this is, `examples` are sent by a click."""

    title: str
    line: str = ""
    examples: tuple[str, ...] = ()


DEMO = Welcome(
    "millrace",
    "A tiny language model that runs on this machine. It has learned what millrace's words mean, "
    "and declines what it does not know.",
    ("What is a Warp?", "How do I stop a run?", "What is a Session?", "What is the capital of France?"),
)


def welcome_for(
    flow: Step[Any, Any], title: str | None = None, examples: Sequence[str] | None = None
) -> Welcome:
    """The welcome of a flow; the bundled demo has one of its own."""
    demo = sys.modules.get(
        f"{__package__.rpartition('.')[0]}.demo"
    )  # looked for, not imported: it is not cheap
    known = DEMO if demo is not None and flow is demo.flow else Welcome(flow.name or "millrace")
    return Welcome(title or known.title, known.line, known.examples if examples is None else tuple(examples))
