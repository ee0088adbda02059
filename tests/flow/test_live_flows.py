"""Live streaming through flows in flows: pieces pass pipelines, branches, loops and switches while they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from millrace import Diverter, If, Loop, Parallel, Pipeline, Switch, bind, step
from millrace.streaming import Event, StepFinished, StepStarted, TextDelta, status
from tests.support.leaks import eventually

MANY = 1_000_000


class Source:
    def __init__(self) -> None:
        self.made = 0
        self.closed = 0

    async def letters(self, n: int) -> AsyncIterator[str]:
        try:
            for i in range(n):
                self.made += 1
                yield "abcdefghij"[i % 10]
                await asyncio.sleep(0)
        finally:
            self.closed += 1


async def dotted(pieces: AsyncIterator[str]) -> AsyncIterator[str]:
    async for piece in pieces:
        yield piece + "."


def dashed(pieces: Iterator[str]) -> Iterator[str]:
    for piece in pieces:
        yield piece + "-"


async def count(pieces: AsyncIterator[str]) -> int:
    return len([piece async for piece in pieces])


async def first(pieces: AsyncIterator[str]) -> str:
    return await anext(pieces)


async def letters(n: int) -> AsyncIterator[str]:
    for i in range(n):
        yield "abcdefghij"[i % 10]


def length(text: str) -> int:
    return len(text)


FLOWS: dict[str, tuple[Callable[[], Any], Any]] = {
    "a pipeline as the head": (lambda: Pipeline(Pipeline(int, letters, name="head"), count), 3),
    "a pipeline in the middle": (lambda: Pipeline(letters, Pipeline(dotted, dashed, name="sub"), count), 3),
    "a pipeline at the end": (lambda: Pipeline(letters, Pipeline(dotted, count, name="sub")), 3),
    "an empty pipeline between": (lambda: Pipeline(letters, Pipeline(name="none"), count), 3),
    "three deep": (
        lambda: Pipeline(
            Pipeline(Pipeline(letters, name="a"), dotted, name="b"),
            Pipeline(Pipeline(count, name="c"), name="d"),
        ),
        3,
    ),
    "branches": (lambda: Pipeline(letters, Parallel(n=count, text=dotted)), {"n": 3, "text": "a.b.c."}),
    "branches of which one is not live": (
        lambda: Pipeline(letters, Parallel(count, length, dotted)),
        (3, 3, "a.b.c."),
    ),
    "branches one at a time": (
        lambda: Pipeline(letters, Parallel(count, dashed, concurrency=1)),
        (3, "a-b-c-"),
    ),
    "one branch leaves early": (lambda: Pipeline(letters, Parallel(first, count)), ("a", 3)),
    "branches in a pipeline in branches": (
        lambda: Pipeline(letters, Parallel(Pipeline(dotted, Parallel(count, dashed)), count)),
        ((3, "a.-b.-c.-"), 3),
    ),
    "a post step of branches": (lambda: Pipeline(Parallel(int, int, collect=sum, post=letters), count), 6),
    "turns of a loop": (lambda: Pipeline(letters, Loop(dotted, count=2), count), 3),
    "turns of a loop, as text": (lambda: Pipeline(letters, Loop(dotted, count=3)), "a...b...c..."),
    "a loop that decides": (
        lambda: Pipeline(letters, Loop(dashed, until=lambda text: len(text) > 6)),
        "a-b-c--",
    ),
    "the last turn of a loop": (
        lambda: Pipeline(Loop(Pipeline(length_or_number, letters), count=2), count),
        3,
    ),
    "the branch of a switch": (lambda: Pipeline(Switch({3: letters}, default=str), count), 3),
    "the other branch of a switch": (lambda: Pipeline(Switch({4: letters}, default=str), count), 1),
    "the branch of an if": (lambda: Pipeline(If(bool, letters), dotted, count), 3),
    "a bound flow": (lambda: Pipeline(letters, bind(Pipeline(dotted, count))), 3),
    "a diverter takes no stream": (
        lambda: Pipeline(lambda n: ["x", "y"], Diverter(count, dotted)),
        (1, "y."),
    ),
}


def length_or_number(x: Any) -> int:
    return len(x) if isinstance(x, str) else int(x)


@pytest.mark.parametrize("name", FLOWS)
def test_they_compose(name: str) -> None:
    make, result = FLOWS[name]
    flow = make()
    assert flow(3) == result
    assert asyncio.run(flow.acall(3)) == result
    assert flow.stream(3).result == result


@pytest.mark.parametrize(
    "make",
    [
        lambda letters: Pipeline(Pipeline(letters, name="head"), dotted),
        lambda letters: Pipeline(letters, Pipeline(dashed, dotted, name="tail")),
        lambda letters: Pipeline(letters, Loop(dotted, count=3)),
        lambda letters: Pipeline(Switch({MANY: letters}), dotted),
        lambda letters: Pipeline(Parallel(int, collect=sum, post=letters), dotted),
        lambda letters: Pipeline(letters, Parallel(Pipeline(dotted, step(dashed, show="output")), count)),
    ],
)
def test_pieces_come_while_the_source_is_at_work_and_a_stop_reaches_it(make: Any) -> None:
    source = Source()
    pieces = []
    for piece in make(source.letters).stream(MANY).text():
        pieces.append(piece)
        if len(pieces) == 20:
            break
    assert [piece[0] for piece in pieces] == list("abcdefghij" * 2)
    eventually(lambda: source.closed == 1 and status() == type(status())(0, 0))
    assert source.made < 2000


def test_pieces_are_labelled_with_their_path() -> None:
    flow = Pipeline(letters, Parallel(left=Pipeline(dotted, dashed), right=count), name="flow")
    events = list(flow.stream(2))
    heard = [(event.path, event.text) for event in events if isinstance(event, TextDelta)]
    assert sorted(heard) == [
        (("left", "dashed"), "a.-"),
        (("left", "dashed"), "b.-"),
        (("left", "dotted"), "a."),
        (("left", "dotted"), "b."),
        (("letters",), "a"),
        (("letters",), "b"),
    ]
    started = [event.path for event in events if isinstance(event, StepStarted)]
    assert sorted(started) == sorted(event.path for event in events if isinstance(event, StepFinished))
    assert len(set(started)) == len(started)


def test_only_the_last_turn_of_a_chained_loop_is_output() -> None:
    pieces = list(Pipeline(letters, Loop(dotted, count=2)).stream(2).text())
    assert pieces == ["a..", "b.."]


def test_a_slow_branch_holds_back_the_upstream() -> None:
    """Nothing is dropped, and the fast branch runs ahead only so far."""
    source, seen = Source(), []

    async def main() -> None:
        go = asyncio.Event()

        async def slow(pieces: AsyncIterator[str]) -> int:
            await go.wait()
            return len([piece async for piece in pieces])

        async def fast(pieces: AsyncIterator[str]) -> int:
            async for piece in pieces:
                seen.append(piece)
            return len(seen)

        task = asyncio.ensure_future(Pipeline(source.letters, Parallel(slow, fast)).acall(1000))
        for _ in range(500):
            await asyncio.sleep(0)
        assert 32 <= len(seen) <= 80
        go.set()
        assert await task == (1000, 1000)

    asyncio.run(main())
    assert source.closed == 1


def test_references_know_what_went_on_live() -> None:
    with Pipeline() as p:
        p.words = letters
        p.dotted = dotted
        p.count = count
        p.all = bind(lambda *values: values, p.input, p.words, p.dotted, p.count)
    assert p(3) == (3, "abc", "a.b.c.", 3)

    with Pipeline(name="inner") as inner:
        inner.dotted = dotted
        inner.both = bind(lambda *values: values, inner.input, inner.dotted)
    assert Pipeline(letters, inner)(2) == ("ab", "a.b.")


def test_an_error_names_the_step_it_arose_in() -> None:
    async def fails(pieces: AsyncIterator[str]) -> AsyncIterator[str]:
        yield await anext(pieces)
        raise LookupError("gone")

    for flow in (
        Pipeline(letters, Pipeline(dotted, fails, name="sub"), dashed, count, name="flow"),
        Pipeline(letters, dotted, Pipeline(fails, dotted, name="sub"), count, name="flow"),
        Pipeline(Pipeline(letters, fails, name="sub"), dashed, name="flow"),
    ):
        with pytest.raises(LookupError) as raised:
            flow(3)
        (note,) = raised.value.__notes__
        assert note.startswith("in flow > sub > fails ("), note
    assert status().runs == 0


def test_the_failing_step_says_so() -> None:
    async def fails(pieces: AsyncIterator[str]) -> AsyncIterator[str]:
        yield await anext(pieces)
        raise LookupError("gone")

    events: list[Event] = []
    with pytest.raises(LookupError):
        events.extend(Pipeline(letters, fails, count).stream(3))
    failed = [event for event in events if isinstance(event, StepFinished) and event.error is not None]
    assert [(event.path, type(event.error)) for event in failed] == [(("fails",), LookupError)]


def test_an_upstream_that_fails_fails_every_branch_once() -> None:
    async def fails(n: int) -> AsyncIterator[str]:
        yield "a"
        raise LookupError("gone")

    with pytest.raises(LookupError) as raised:
        Pipeline(fails, Parallel(count, dashed))(3)
    assert len(raised.value.__notes__) == 1
    kept = Pipeline(fails, Parallel(count, dashed, on_error="keep"))(3)
    assert [type(value) for value in kept] == [LookupError, LookupError]


def test_a_branch_may_catch_what_the_upstream_raised() -> None:
    async def fails(n: int) -> AsyncIterator[str]:
        yield "a"
        raise LookupError("gone")

    async def patient(pieces: AsyncIterator[str]) -> list[str]:
        seen = []
        try:
            async for piece in pieces:
                seen.append(piece)
        except LookupError:
            seen.append("?")
        return seen

    assert Pipeline(fails, Parallel(patient))(3) == (["a", "?"],)
    assert Pipeline(Pipeline(fails), patient)(3) == ["a", "?"]


@pytest.mark.parametrize(
    "behind",
    [
        lambda: [dotted],
        lambda: [Parallel(dotted, count)],
        lambda: [Parallel(a=dotted, b=count, name="both")],
        lambda: [Pipeline(dotted, dotted, name="inner"), count],
        lambda: [Loop(dotted, count=2)],
    ],
)
def test_an_error_is_named_where_it_arose_and_not_where_it_passed(behind: Callable[[], list[Any]]) -> None:
    async def breaks(n: int) -> AsyncIterator[str]:
        yield "a"
        await asyncio.sleep(0)
        raise ConnectionError

    for flow in (Pipeline(breaks, *behind()), Pipeline(Pipeline(breaks), *behind())):
        with pytest.raises(ConnectionError) as caught:
            flow(1)
        (note,) = caught.value.__notes__
        assert note.startswith("in breaks (test_live_flows.py:")
        finished = []
        with pytest.raises(ConnectionError):
            finished.extend(e.path for e in flow.stream(1) if isinstance(e, StepFinished) and e.error)
        assert ("breaks",) in finished


@pytest.mark.parametrize("policy", [{}, {"retry": 2}, {"timeout": 60}, {"concurrency": 1}, {"fallback": str}])
def test_branches_that_refer_to_their_input_share_what_a_step_with_a_policy_gives(policy: Any) -> None:
    def letters(text: str) -> Iterator[str]:
        yield from text

    with Pipeline() as p:
        p.dots = dotted
        p.both = bind(lambda whole, dots: f"{whole} {dots}", p.input, p.dots)
    assert Pipeline(step(letters, **policy), Parallel(p, len))("ab") == ("ab a.b.", 2)
