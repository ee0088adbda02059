from __future__ import annotations

from typing import Any

import pytest

from millrace import Diverter, Graph, If, Loop, Parallel, Pipeline, Switch, Warp, arg, bind, step
from millrace.flow.drawing.describing import diagram_of
from millrace.flow.drawing.diagrams import Chain, Fork, Group, Leaf, Net, Part
from tests.flow.drawing.examples import clean, dotted, is_short, shout


def inside(flow: Any) -> tuple[Part, ...]:
    """The parts of a flow's diagram between its input and its output."""
    diagram = diagram_of(flow)
    assert isinstance(diagram, Chain)
    assert [part.title for part in diagram.parts[:: len(diagram.parts) - 1] if isinstance(part, Leaf)] == [
        "input",
        "output",
    ]
    return diagram.parts[1:-1]


def leaf(flow: Any) -> Leaf:
    (part,) = inside(flow)
    assert isinstance(part, Leaf)
    return part


def test_kinds_of_steps() -> None:
    assert leaf(step(clean)).kind == "step"
    assert leaf(step(shout)).kind == "stream"
    assert leaf(Pipeline(step(clean, name="search"))).title == "search"
    assert leaf(Pipeline(step(clean, name="search"))).details == ()


def test_what_a_step_is_called_and_what_it_is() -> None:
    with Pipeline() as p:
        p.first = clean
    assert (leaf(p).title, leaf(p).details) == ("first", ("clean",))
    assert [part.title for part in inside(Pipeline(clean, clean)) if isinstance(part, Leaf)] == [
        "clean",
        "clean-2",
    ]
    assert [part.details for part in inside(Pipeline(clean, clean)) if isinstance(part, Leaf)] == [(), ()]


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (step(clean, retry=3), ("retry 3",)),
        (step(clean, timeout=0.5), ("timeout 0.5 s",)),
        (step(clean, fallback=shout), ("fallback shout",)),
        (step(clean, cache=True), ("cache",)),
        (step(clean, cache="shared"), ("cache, shared",)),
        (step(clean, concurrency=8), ("8 at once",)),
        (step(clean, rate="60/m"), ("60 in 60 s",)),
        (step(shout, show="silent"), ("show silent",)),
        (bind(clean, arg[0]), ("arg[0]",)),
        (bind(lambda x, k: x, k=3), ("k=3",)),
    ],
    ids=str,
)  # fmt: skip
def test_policies_and_bound_arguments_are_said(made: Any, words: tuple[str, ...]) -> None:
    assert leaf(made).details == words


@pytest.mark.parametrize(
    ("flow", "title"),
    [
        (Loop(clean, count=3), "loop · 3×"),
        (Loop(clean, count=3, until=is_short), "loop · at most 3× · until is_short"),
        (Loop(clean, until=is_short, name="draft"), "draft · until is_short"),
        (Warp(clean, concurrency=4, on_error="keep"), "warp · each item · 4 at once · keeps errors"),
        (Parallel(clean, concurrency=2), "parallel · 2 at once"),
    ],
    ids=str,
)
def test_settings_of_flows_are_said(flow: Any, title: str) -> None:
    (group,) = inside(flow)
    assert isinstance(group, Group)
    assert group.title == title


def test_live_edges() -> None:
    diagram = diagram_of(Pipeline(shout, dotted, clean, dotted))
    assert isinstance(diagram, Chain)
    assert diagram.live == (False, False, True, False, False, False)
    (_, fork) = inside(Pipeline(shout, Parallel(dotted, clean)))
    assert isinstance(fork, Fork)
    assert [branch.live for branch in fork.branches] == [True, False]


def test_live_edges_of_a_graph() -> None:
    with Graph() as g:
        g.a, g.b = shout, dotted
        g.edge(g.input, g.a)
        g.edge(g.a, g.b)
        g.edge(g.b, g.output)
    (net,) = inside(g)
    assert isinstance(net, Net)
    assert [(link.source, link.target, link.live) for link in net.links] == [
        (-1, 0, False),
        (0, 1, True),
        (1, 2, False),
    ]


def test_parts_of_nodes_and_constants_are_said_in_the_node_that_takes_them() -> None:
    with Graph(constants={"limit": 5}) as g:
        g.a, g.b = Parallel(x=clean, y=clean), lambda x, limit: x
        g.edge(g.input, g.a)
        g.edge((g.a["x"], g.limit), g.b)
        g.edge(g.b, g.output)
    (net,) = inside(g)
    assert isinstance(net, Net)
    taker = net.nodes[1]
    assert isinstance(taker, Leaf)
    assert taker.details == ("g.a['x']", "g.limit")


def test_choices() -> None:
    decision, fork = inside(Switch({is_short: clean, "faq": shout}, key=len, default=clean))
    assert isinstance(decision, Leaf)
    assert isinstance(fork, Fork)
    assert decision.title == "len?"
    assert [branch.label for branch in fork.branches] == ["is_short", "faq", "else"]
    decision, fork = inside(If(is_short, clean))
    assert isinstance(fork, Fork)
    assert [branch.label for branch in fork.branches] == ["yes", "no"]
    assert fork.branches[1].part == Leaf("as it is", kind="end", place=("default",))


def test_a_key_that_is_a_flow_is_drawn() -> None:
    parts = inside(Switch({"faq": clean}, key=Pipeline(clean, shout, name="classify")))
    assert isinstance(parts[0], Group) or parts[0] != parts[1]
    assert [part.kind for part in parts if isinstance(part, Leaf)] == ["decision"]


def test_branches_left_out_are_not_drawn() -> None:
    flow = Parallel(a=clean, b=shout, c=clean)
    (fork,) = inside(flow.skip("b"))
    assert isinstance(fork, Fork)
    assert [branch.part.place for branch in fork.branches if isinstance(branch.part, Leaf)] == [
        ("a",),
        ("c",),
    ]


def test_a_diverter_says_which_item() -> None:
    (fork,) = inside(Diverter(clean, clean))
    assert isinstance(fork, Fork)
    assert [branch.label for branch in fork.branches] == ["[0]", "[1]"]


def test_choose_and_post_are_steps() -> None:
    parts = inside(Parallel(a=clean, b=clean, choose=lambda x: "a", post=shout, collect=list))
    assert [part.place for part in parts if isinstance(part, Leaf)] == [("choose",), ("post",)]
    (fork,) = (part for part in parts if isinstance(part, Fork))
    assert fork.joined == "collect list"
