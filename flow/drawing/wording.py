"""What a drawing says of a step: its name, what it is, its arguments, its policies."""

from __future__ import annotations

import re
from typing import Any

from ..annotations import read_step
from ..bindings import Binding
from ..fans import Fan
from ..flows import Flow, label_of
from ..functions import FunctionStep
from ..graph import Graph
from ..hints import describe
from ..loop import Loop
from ..policies.wrapping import PolicyStep
from ..steps import Step
from ..warps import Warp
from .diagrams import Leaf, Place, clean, shorten

__all__ = ["WIDEST", "arguments_of", "count_of", "leaf_of", "line_of", "name_of", "policies_of", "words_of"]

WIDEST = 36
"""Columns of a line in a box, at most."""


def leaf_of(step: Step[Any, Any], place: Place, title: str | None, words: tuple[str, ...]) -> Leaf:
    own = clean(label_of(step)).strip("<>")
    said = clean(title or own) if title != "<lambda>" else own
    kind = type(step).__name__
    if isinstance(step, FunctionStep) and isinstance(step.resolve, Binding):
        words = (*arguments_of(step.resolve), *words)
    if own not in (re.sub(r"-\d+$", "", said), said, "lambda"):
        words = (own, *words)
    if type(step) is not FunctionStep and kind not in (said, own):
        words = (kind, *words)
    show = getattr(step, "show", None)
    if show is not None:
        words = (*words, f"show {show}")
    reading = read_step(step)
    takes = ""
    if reading.signature is not None:
        takes = ", ".join(describe(slot.annotation) for slot in reading.signature.parameters.values())
    about = f"{own}: ({takes}) -> {describe(reading.value)}"
    return Leaf(
        shorten(said, WIDEST),
        tuple(shorten(clean(word), WIDEST) for word in words),
        "module" if type(step) is not FunctionStep else "stream" if step.streams else "step",
        place,
        clean(about),
    )


def line_of(*words: str) -> str:
    return shorten(" · ".join(clean(word) for word in words), 2 * WIDEST)


def name_of(function: Any) -> str:
    return getattr(function, "__name__", None) or type(function).__name__


def count_of(flow: Step[Any, Any]) -> int:
    """How many steps that are no flows are inside."""
    count, waiting = 0, [flow]
    while waiting:
        children = waiting.pop().children()
        count += sum(not one.children() for one in children)
        waiting += children
    return count


def arguments_of(binding: Binding) -> tuple[str, ...]:
    """What is bound, one argument a line."""
    given = [repr(value) for value in binding.args]
    given += [f"{key}={value!r}" for key, value in binding.kwargs.items()]
    return tuple(given)


def words_of(flow: Flow[Any, Any]) -> tuple[str, ...]:
    """The settings of a flow that its shape does not show."""
    words = []
    if isinstance(flow, Loop):
        words += (
            [f"at most {flow.count}×" if flow.until is not None else f"{flow.count}×"] if flow.count else []
        )
        words += [f"until {label_of(flow.until)}"] if flow.until is not None else []
    if isinstance(flow, Warp):
        words.append("each item")
    if isinstance(flow, (Fan, Graph)):
        words += [f"{flow.concurrency} at once"] if flow.concurrency is not None else []
        words += ["keeps errors"] if flow.on_error == "keep" else []
    return tuple(words)


def policies_of(step: PolicyStep[Any, Any]) -> tuple[str, ...]:
    """The outermost policy of a step, in words."""
    state = vars(step)
    words = []
    if (retry := state.get("retry")) is not None:
        words.append(f"retry {retry.attempts}")
    if (seconds := state.get("seconds")) is not None:
        words.append(f"timeout {seconds:g} s")
    if (fallback := state.get("fallback")) is not None:
        words.append(f"fallback {label_of(fallback)}")
    if state.get("cache") is not None:
        words.append("cache, shared" if state.get("shared") else "cache")
    if (limiter := state.get("limiter")) is not None:
        words.append(f"{limiter.most} at once")
    if (rate := state.get("rate")) is not None:
        words.append(f"{rate.count:g} in {rate.per:g} s")
    if (show := state.get("show")) is not None:
        words.append(f"show {show}")
    return tuple(words)
