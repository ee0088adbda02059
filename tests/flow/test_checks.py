"""Flows are checked when they are built: what does not fit is refused by a message that names all of it."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from time import process_time
from typing import Any, TypeVar

import pytest

from millrace import (
    Args,
    Diverter,
    Graph,
    If,
    LocalModel,
    Loop,
    Message,
    Parallel,
    Pipeline,
    Switch,
    Warp,
    arg,
    bind,
    step,
)
from millrace.flow.checks import KNOWN
from millrace.streaming import FlowBuildError
from tests.flow.annotated import both, count, shout, show, words

T = TypeVar("T")


async def lengths(text: str) -> AsyncIterator[int]:
    for word in text.split():
        yield len(word)


async def live(pieces: AsyncIterator[str]) -> str:
    return "".join([piece async for piece in pieces])


def live_numbers(pieces: Iterator[int]) -> int:
    return sum(pieces)


async def both_live(pieces: AsyncIterator[str], times: str) -> str:
    return times.join([piece async for piece in pieces])


async def asked_otherwise(pieces: AsyncIterable[str]) -> str:
    return "".join([piece async for piece in pieces])


async def asks_wrongly(pieces: Iterator[str]) -> str:
    return "".join(pieces)


def with_reference(kind: str = "value") -> Any:
    with Pipeline() as p:
        p.shout = shout
        p.said = bind(both_live, p.shout, "a") if kind == "value" else bind(both_live, times=p.input)
    return p


def with_attribute() -> Any:
    with Pipeline() as p:
        with Parallel() as p.found:
            p.found.words = words
        p.shown = bind(count, p.found.words)
    return p


def named(notes: dict[str, Any]) -> str:
    return " ".join(notes)


def said(text: str) -> None: ...
def nothing() -> str: ...
def by_keyword(text: str, *, k: int) -> str: ...
def many(*texts: str) -> str: ...
def optional(text: str, more: str = "") -> str: ...
def same(x: T) -> T: ...
def any_args(text: str) -> Args: ...
def is_long(text: str) -> bool: ...


# ---------------------------------------------------------------- refused, by a message that names all


REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: Pipeline(count, count), r"count gives int, and count-2 takes str: mend one"),
    (lambda: step(count) | words, r"count gives int, and words takes str"),
    (lambda: Pipeline(words, count), r"words gives list\[str\], and count takes str: .*Warp\(count\)"),
    (lambda: Pipeline(lengths, count), r"lengths gives list\[int\], and count takes str"),
    (lambda: Pipeline(lengths, live), r"lengths gives list\[int\], and live takes AsyncIterator\[str\]"),
    (lambda: Pipeline(lengths, live), r"live takes AsyncIterator\[str\]: mend one of the two"),
    (lambda: Pipeline(shout, asked_otherwise), r"take the pieces as they come, annotate it AsyncIterator\[str\]"),
    (lambda: Pipeline(shout, bind(both_live, "a", arg[0])), r"as pieces: only what comes in .*bind\(both_live"),
    (lambda: with_reference(), r"as pieces: only what comes in can be taken live: bind\(said, arg\[0\]\)"),
    (lambda: with_attribute(), r"refers to p\.found\.words, and found gives a dict with words: write \[\"words\"\]"),
    (lambda: with_reference("live"), r"missing .*'pieces'.*beside a reference, what comes in is given as arg\[0\]"),
    (lambda: Pipeline(asks_wrongly), r"asks_wrongly is asynchronous and takes what comes in live as an AsyncIterator"),
    (lambda: Pipeline(shout, live_numbers), r"shout gives str, and live_numbers takes Iterator\[int\]"),
    (lambda: Pipeline(said, count), r"said gives None, and count takes str: said returns nothing"),
    (lambda: Pipeline(nothing), r"nothing takes no value, and a step is called with one: give it a parameter"),
    (lambda: Pipeline(by_keyword), r"by_keyword needs k by keyword.*bind\(by_keyword, k=\.\.\.\)"),
    (lambda: Pipeline(show, both), r"show gives 1 value, and both takes 2 \(left, right\): .*bind\(both, right="),
    (
        lambda: Pipeline(Parallel(shout, shout, shout), both),
        r"Parallel\(shout, shout, shout\) gives 3 values, and both takes 2 \(left, right\): .*collect=",
    ),
    (lambda: Pipeline(Parallel(shout, count), both), r"gives int, and both takes str as right"),
    (lambda: Pipeline(Parallel(a=shout, b=count), count), r"a dict with a, b, and count takes str: .*bind\(count"),
    (lambda: Pipeline(Parallel(a=shout), LocalModel("x")), r"and LocalModel takes str \| Message \| Seq"),
    (lambda: Pipeline(count, LocalModel("x")), r"count gives int, and LocalModel takes str"),
    (lambda: Pipeline(LocalModel("x"), show), r"LocalModel gives str, and show takes int"),
    (lambda: Pipeline(count, Parallel(shout, words)), r"2 problems:\n  1\. .*shout takes str.*\n  2\. .*words takes"),
    (lambda: Pipeline(count, Pipeline(words, name="in")), r"in in: count gives int, and words takes str"),
    (lambda: Parallel(shout, count, collect="\n".join), r"gives tuple\[str, int\], and join takes Iterable\[str\]"),
    (lambda: Pipeline(show, Warp(count)), r"show gives str, and Warp\(count\) takes an iterable of items: .*list"),
    (lambda: Pipeline(count, Warp(show)), r"count gives int, and Warp\(show\) takes an iterable"),
    (lambda: Pipeline(words, Warp(show)), r"an item of words gives str, and show takes int"),
    (lambda: Pipeline(Warp(count), Warp(count)), r"an item of Warp\(count\) gives int, and count takes str"),
    (lambda: Pipeline(words, Diverter(count, show)), r"an item of words gives str, and show takes int"),
    (
        lambda: Pipeline(Parallel(show, show, show), Diverter(count, count)),
        r"gives Args\(str, str, str\), and Diverter\(count, count\) takes one item for each of its 2 branches",
    ),
    (
        lambda: Pipeline(Parallel(a=show), Diverter(a=count, b=count)),
        r"gives a dict with a, and Diverter\(count, count\) takes a dict with a, b",
    ),
    (lambda: Pipeline(count, Switch({is_long: show})), r"count gives int, and is_long takes str"),
    (lambda: Pipeline(count, Switch({1: words}, default=shout)), r"words \(case 1\) takes str"),
    (lambda: Switch({is_long: shout}, key=count), r"count gives int, and is_long takes str"),
    (lambda: Pipeline(count, If(lambda n: n > 1, words, shout)), r"words \(case <lambda>\) takes str"),
    (lambda: Loop(count, count=2), r"count, in the turn before, gives int, and count takes str"),
    (lambda: Loop(show, until=is_long), r"show, in the turn before, gives str, and show takes int"),
    (lambda: Loop(shout, count=1, until=show), r"shout gives str, and show takes int"),
    (lambda: Pipeline(show, bind(both, 3)), r"bind\(both, 3\) gives int, and both takes str as right"),
    (lambda: Pipeline(show, bind(both, middle=1)), r"middle=\.\.\.\): .*no such parameter; it has: left, right"),
    (lambda: Pipeline(show, bind(both, arg[0], arg[1])), r"arg\[1\]\): only 1 come in, from show"),
    (lambda: Pipeline(show, bind(both, "a", "b")), r"calls it wrongly: too many positional arguments.*left, right"),
    (lambda: Pipeline(count, bind(Pipeline(count), arg[0])), r"count gives int, and count takes str"),
]  # fmt: skip


@pytest.mark.parametrize(("build", "message"), REFUSED)
def test_refused_when_it_is_built(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(FlowBuildError, match=message):
        build()


# ---------------------------------------------------------------- let through


def int_or_text(x: int | str) -> int | str: ...
def to_float(x: float) -> float: ...
def wants_messages(x: list[Message]) -> str: ...
def gives_any(x: Any) -> Any: ...
def gives_object(x: object) -> object: ...
def later(x: str) -> Undefined: ...  # type: ignore[name-defined]  # noqa: F821


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(x: Any) -> Any:
        return [function(x)]

    return wrapper


class Callee:
    def method(self, text: str) -> str: ...
    def __call__(self, text: str) -> str: ...


ALLOWED: list[Callable[[], Any]] = [
    lambda: Pipeline(),
    lambda: Pipeline(count, show, words, Warp(count), sum, str),
    lambda: Pipeline(shout, live, count),
    lambda: Pipeline(shout, bind(both_live, "a"), count),
    lambda: Pipeline(shout, bind(both_live, arg[0], times="a")),
    lambda: Pipeline(show, live),
    lambda: Pipeline(lengths, live_numbers),
    lambda: Pipeline(lengths, Warp(show), "\n".join, count),
    lambda: Pipeline(gives_any, count),
    lambda: Pipeline(gives_object, count),
    lambda: Pipeline(count, int_or_text, count),
    lambda: Pipeline(count, to_float, show),
    lambda: Pipeline(same, count, same, count),
    lambda: Pipeline(count, lambda n: n, count),
    lambda: Pipeline(later, count),
    lambda: Pipeline(show, decorated(count), words),
    lambda: Pipeline(show, functools.partial(both, right="x"), words),
    lambda: Pipeline(show, Callee(), Callee().method, count),
    lambda: Pipeline(str.strip, int, float, str, len),
    lambda: Pipeline(show, optional, many),
    lambda: Pipeline(both),  # it may be given Args
    lambda: Pipeline(any_args, both),
    lambda: Pipeline(lambda x: Args(x, x), both),
    lambda: Pipeline(Parallel(shout, live), both),
    lambda: Pipeline(Parallel(shout, shout, shout), many),
    lambda: Pipeline(Parallel(shout, shout), Parallel(both, many), both),
    lambda: Pipeline(Parallel(shout, shout, on_error="keep"), both),
    lambda: Pipeline(Parallel(shout, shout, choose=lambda x: [0]), count),
    lambda: Pipeline(Parallel(shout, shout, shout).skip(1), both),
    lambda: Pipeline(Parallel(count, count, collect=sum), show),
    lambda: Pipeline(Parallel(shout, shout, collect="\n".join), LocalModel("x"), count),
    lambda: Pipeline(Parallel(count, count, collect=list), Warp(show)),
    lambda: Pipeline(Parallel(a=shout, b=count), named),
    lambda: Pipeline(Parallel(shout, count), Diverter(words, show)),
    lambda: Pipeline(Parallel(a=shout, b=count), Diverter(a=words, b=show)),
    lambda: Pipeline(Parallel(shout, shout), Warp(count)),
    lambda: Pipeline(wants_messages, count),
    lambda: Pipeline(lambda t: [Message.user(t)], LocalModel("x"), count),
    lambda: Switch({is_long: shout, "faq": words, 3: show}, default=gives_any),
    lambda: Pipeline(show, If(is_long, count), to_float),
    lambda: Pipeline(show, If(is_long, count), count),
    lambda: Pipeline(show, Loop(shout, count=3), count),
    lambda: Loop(count, count=1),
    lambda: Pipeline(show, bind(both, right="x"), bind(count), show),
    lambda: Pipeline(Parallel(show, show), bind(both, arg[1], arg[0])),
]  # fmt: skip


@pytest.mark.parametrize("build", ALLOWED)
def test_let_through(build: Callable[[], Any]) -> None:
    flow = build()
    assert flow.check() is flow


# ---------------------------------------------------------------- graphs and policies


def test_graphs() -> None:
    def graph(*join: Any) -> Graph[Any, Any]:
        with Graph(name="g") as g:
            g.a, g.b, g.join = count, words, join[0]
            g.edge(g.input, g.a)
            g.edge(g.input, g.b)
            g.edge((g.a, g.b), g.join)
            g.edge(g.join, g.output)
        return g

    def takes_both(n: int, texts: list[str]) -> str: ...

    assert graph(takes_both).check(str)
    with pytest.raises(FlowBuildError, match="g: a and b give 2 values, and join takes 1"):
        graph(show)
    with pytest.raises(FlowBuildError, match=r"g: a and b give list\[str\], and join takes str as right"):
        graph(both_numbers)
    with pytest.raises(
        FlowBuildError, match=r"2 problems:.*\n.*given int, and a takes str.*\n.*given int, and b"
    ):
        graph(takes_both).check(int)
    with pytest.raises(FlowBuildError, match="join gives str, and show takes int"):
        Pipeline(graph(takes_both), show)


def both_numbers(left: int, right: str) -> str: ...


def test_constants_of_a_graph_and_parts_of_its_nodes() -> None:
    nodes = {"a": Parallel(x=count, y=words), "b": both_numbers}
    edges: list[Any] = [("input", "a"), (("limit", "limit"), "b"), ("b", "output"), ("a", "output")]
    with pytest.raises(FlowBuildError, match="the constant limit gives int, and b takes str as right"):
        Graph(nodes, edges, constants={"limit": 5})
    with (
        pytest.raises(FlowBuildError, match=r"b refers to g.a\['z'\], and a gives a dict with x, y"),
        Graph() as g,
    ):
        g.a, g.b = Parallel(x=count, y=words), both_numbers
        g.edge(g.input, g.a)
        g.edge((g.a["x"], g.a["z"]), g.b)
        g.edge(g.b, g.output)


def test_through_policies() -> None:
    def backup(text: str) -> int: ...

    assert Pipeline(show, step(count, retry=3, fallback=backup, timeout=1), show)
    with pytest.raises(FlowBuildError, match="show gives str, and show-2 takes int"):
        Pipeline(show, step(show, timeout=2))
    with pytest.raises(
        FlowBuildError, match=r"words gives list\[str\], and backup \(fallback of lambda-2\) takes str"
    ):
        Pipeline(words, step(lambda x: x, fallback=backup))


# ---------------------------------------------------------------- the whole


def test_check_lists_everything_at_once() -> None:
    with pytest.raises(FlowBuildError) as raised:
        Pipeline(count, words, count, nothing, by_keyword, name="rag")
    lines = str(raised.value).splitlines()
    assert lines[0] == "rag has 4 problems:"
    assert [line[:5] for line in lines[1:]] == ["  1. ", "  2. ", "  3. ", "  4. "]


def test_check_with_the_type_of_the_input() -> None:
    flow = Pipeline(count, show)
    assert flow.check(str) is flow
    with pytest.raises(FlowBuildError, match="the flow is given int, and count takes str"):
        flow.check(int)
    with pytest.raises(FlowBuildError, match=r"its caller gives int, and Warp\(count\) takes an iterable"):
        Warp(count).check(int)


def of_later(x: Later) -> int:  # type: ignore[name-defined]  # noqa: F821
    return 1


def test_check_reads_again_what_was_defined_later() -> None:
    flow = Pipeline(show, of_later)
    flow.check()
    globals()["Later"] = list
    try:
        with pytest.raises(FlowBuildError, match="show gives str, and of_later takes list"):
            flow.check()
    finally:
        del globals()["Later"]


def test_three_hundred_nested_build_fast_and_are_checked() -> None:
    def nested(n: int) -> Pipeline[Any, Any]:
        flow: Pipeline[Any, Any] = Pipeline(count, name="p")
        for _ in range(n):
            flow = Pipeline(flow, show, count, name="p")
        return flow

    def seconds(n: int) -> float:
        started = process_time()
        nested(n)
        return process_time() - started

    once, twice = (min(seconds(n) for _ in range(3)) for n in (150, 300))
    assert twice < 5 * once  # not with the square of the depth
    flow = nested(300)
    assert flow.check(str) is flow
    with pytest.raises(FlowBuildError, match="gives int, and words takes str"):
        Pipeline(flow, words)
    nested_deeply = Pipeline(flow)
    del flow, nested_deeply


def test_nothing_is_kept_of_flows_that_are_gone() -> None:
    flow = Pipeline(count, show, name="gone")
    before = len(KNOWN)
    assert flow in KNOWN
    del flow
    assert len(KNOWN) == before - 1
