"""Failures among branches: one is raised at once, and whatever else was at work is cleaned up, or abandoned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from millrace import Args, Diverter, Graph, If, Loop, Parallel, Pipeline, Switch, Warp
from millrace.streaming import status
from tests.flow.failing_parts import Branch, Failure
from tests.support.leaks import eventually

SOON = 0.05
"""Seconds, within which a failure is raised."""


def graph(other: Any, fails: Any, after: Any) -> Graph[Any, Any]:
    with Graph() as g:
        g.other, g.fails, g.after = other, fails, after
        g.end = lambda a, b: a
        g.edge(g.input, g.other)
        g.edge(g.input, g.fails)
        g.edge(g.other, g.after)
        g.edge((g.after, g.fails), g.end)
        g.edge(g.end, g.output)
    return g


def either(first: Any, second: Any) -> Any:
    return If(lambda x: x == 0, first, second)


PLACES: dict[str, Callable[[Any, Any, Any], tuple[Any, Any]]] = {
    "parallel": lambda other, fails, after: (Parallel(Pipeline(other, after), fails), 0),
    "named": lambda other, fails, after: (Parallel(a=fails, b=Pipeline(other, after)), 0),
    "limited": lambda other, fails, after: (Parallel(Pipeline(other, after), fails, after, concurrency=2), 0),
    "diverter": lambda other, fails, after: (Diverter(Pipeline(other, after), fails), Args(0, 0)),
    "warp": lambda other, fails, after: (Warp(either(Pipeline(other, after), fails)), [0, 1]),
    "graph": lambda other, fails, after: (graph(other, fails, after), 0),
    "in branches": lambda other, fails, after: (
        Parallel(Parallel(Pipeline(other, after), str), Parallel(str, Loop(fails, count=1))),
        0,
    ),
    "in a switch": lambda other, fails, after: (
        Switch({0: Parallel(Pipeline(Loop(other, count=2), after), fails)}),
        0,
    ),
    "called": lambda other, fails, after: (
        Parallel(lambda x: Pipeline(other, after)(x), lambda x: Pipeline(fails)(x)),
        0,
    ),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("fails", ["fails", "fails_in_a_thread"])
@pytest.mark.parametrize("other", ["sleeps", "streams"])
def test_it_is_raised_at_once_and_the_other_is_cleaned_up(place: str, fails: str, other: str) -> None:
    def once(way: Callable[[Any, Any], Any]) -> float:
        branch = Branch()
        flow, x = PLACES[place](getattr(branch, other), getattr(branch, fails), branch.after)
        with pytest.raises(Failure) as raised:
            way(flow, x)
        since = branch.since()
        assert len(raised.value.__notes__) == 1
        if place == "called":  # a function that called it may still be waiting for its end
            eventually(lambda: branch.cleaned)
        assert (branch.cleaned, branch.later) == (1, 0)
        eventually(lambda: status() == type(status())(0, 0))
        return since

    for way in (lambda flow, x: flow(x), lambda flow, x: flow.stream(x).result):
        assert any(once(way) < SOON for _ in range(5))  # the machine may be busy with others


@pytest.mark.parametrize("place", [place for place in PLACES if place != "called"])
@pytest.mark.parametrize("other", ["blocks", "blocks_in_pieces"])
def test_a_function_that_cannot_be_stopped_is_abandoned(place: str, other: str) -> None:
    branch = Branch()
    flow, x = PLACES[place](getattr(branch, other), branch.fails, branch.after)
    with pytest.raises(Failure):
        flow(x)
    assert branch.since() < 1
    assert (status().abandoned, branch.cleaned) == (1, 0)
    branch.go_on.set()
    eventually(lambda: status().abandoned == 0)
    assert (branch.cleaned, branch.later) == (1, 0)


def test_in_a_batch() -> None:
    branch = Branch()
    flow = either(Pipeline(branch.sleeps, branch.after), branch.fails)
    with pytest.raises(Failure) as raised:
        flow.batch([0, 1])
    assert branch.since() < 1
    assert len(raised.value.__notes__) == 1
    eventually(lambda: branch.cleaned == 1 and status().runs == 0)
    assert branch.later == 0
