"""What is refused when it is built cannot run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace import Loop, Parallel, Pipeline, Step, Warp
from millrace.streaming import FlowBuildError, FlowCallError

SAMPLES: dict[Any, Any] = {int: 3, str: "three", bytes: b"3", dict: {"a": 1}}


def typed(takes: Any, gives: Any) -> Callable[[Any], Any]:
    """A function that keeps to its annotations."""

    def function(x: Any) -> Any:
        if not isinstance(x, takes):
            raise TypeError(f"{x!r} is no {takes}")
        return SAMPLES[gives]

    function.__annotations__ = {"x": takes, "return": gives}
    return function


KINDS = st.sampled_from(list(SAMPLES))
LEAVES = st.builds(typed, KINDS, KINDS) | st.sampled_from([lambda x: x, str, repr])


def composed(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    some = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        some.map(lambda steps: ("Pipeline", steps)),
        some.map(lambda steps: ("Parallel", steps)),
        st.tuples(st.just("Loop"), inner),
        st.tuples(st.just("Warp"), inner),
    )


def built(plan: Any) -> Step[Any, Any] | Callable[..., Any]:
    match plan:
        case ("Pipeline", steps):
            return Pipeline(*map(built, steps), name="p")
        case ("Parallel", steps):
            return Parallel(**{f"b{i}": built(one) for i, one in enumerate(steps)})
        case ("Loop", body):
            return Loop(built(body), count=2)
        case ("Warp", body):
            return Pipeline(lambda x: [x], Warp(built(body)))
        case function:
            return function  # type: ignore[no-any-return]


@given(st.recursive(LEAVES, composed, max_leaves=6), KINDS)
def test_what_is_refused_fails_without_the_check_too(plan: Any, kind: Any) -> None:
    try:
        Pipeline(built(plan)).check(kind)
    except FlowBuildError:
        bare = Pipeline(built(without_annotations(plan)))
        with pytest.raises((TypeError, FlowCallError), match=r"is no|takes an iterable"):
            bare(SAMPLES[kind])


def without_annotations(plan: Any) -> Any:
    match plan:
        case ("Pipeline" | "Parallel" as kind, steps):
            return kind, [without_annotations(one) for one in steps]
        case (str() as kind, *parts):
            return (kind, *map(without_annotations, parts))
        case function:
            return lambda x: function(x)
