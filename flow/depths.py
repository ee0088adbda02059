"""How deep flows stand in each other: each takes its part of Python's stack while the one inside it is at work."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from ..streaming.errors import FlowBuildError
from .fans import Fan
from .steps import Step

__all__ = ["refuse_depth"]

FRAMES = 3
"""Frames that a flow takes at most while the one inside of it is at work."""

AROUND = 60
"""Frames that callers, the loop and the innermost step may take."""

SHALLOW = 8
"""How deep flows may stand in one whose run begins on its caller's stack."""

KEPT = "_depth"


def refuse_depth(flow: Step[Any, Any]) -> None:
    """Raises: FlowBuildError, where flows stand too deep in each other to be run."""
    depth, limit = _depth(flow), sys.getrecursionlimit()
    vars(flow)["shallow"] = depth <= SHALLOW
    if depth * FRAMES + AROUND > limit:
        allowed, needed = (limit - AROUND) // FRAMES, depth * FRAMES + 2 * AROUND
        raise FlowBuildError(
            f"{flow!r} has flows nested {depth} deep, and Python's recursion limit of {limit} allows {allowed}; "
            f"write it flatter, or call sys.setrecursionlimit({needed}) first"
        )


def _depth(step: Step[Any, Any]) -> int:
    """What is inside of a flow has been asked when that was built; other steps may stand in each other unasked."""
    around = []
    while KEPT not in vars(step):
        around.append(step)
        inner = _inner(step)
        if len(inner) != 1:
            vars(step)[KEPT] = 1 + max((_depth(child) for child in inner), default=0)
            break
        step = inner[0]
    depth: int = vars(step)[KEPT]
    for outer in reversed(around):
        if KEPT not in vars(outer):
            depth += 1
            vars(outer)[KEPT] = depth
    return depth


def _inner(step: Step[Any, Any]) -> Sequence[Step[Any, Any]]:
    """What is at work on the stack of the step; each branch has a task, and so a stack, of its own.

    Those that begin at once, on the stack of their flow, are functions.
    """
    if isinstance(step, Fan):
        return (step.post,) if step.post is not None else ()
    return step.children()
