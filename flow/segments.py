"""Segments: which neighbours in a pipeline are run together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from .functions import FunctionStep
from .steps import Step

__all__ = ["Segment", "plan"]


class Segment(NamedTuple):
    """Neighbours that are run together: plain functions in one hop, a stream through live steps, or one step.

    `await` is a step that is a coroutine function and nothing more.
    """

    kind: Literal["hop", "live", "step", "await"]
    start: int
    end: int


def plan(steps: Sequence[Step[Any, Any]]) -> tuple[Segment, ...]:
    """The segments of a pipeline, in order."""
    found: list[Segment] = []
    for i, step in enumerate(steps):
        last = found[-1] if found else None
        if step.live and last is not None and (steps[i - 1].live or steps[i - 1].streams):
            found[-1] = Segment("live", last.start, i + 1)
        elif type(step) is FunctionStep and step.plain and not step.inline:
            if last is not None and last.kind == "hop":
                found[-1] = Segment("hop", last.start, i + 1)
            else:
                found.append(Segment("hop", i, i + 1))
        elif step.live:
            found.append(Segment("live", i, i + 1))
        else:
            bare = type(step) is FunctionStep and step.is_bare_coroutine()
            found.append(Segment("await" if bare else "step", i, i + 1))
    return tuple(found)
