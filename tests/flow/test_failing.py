"""Failures: each is raised as itself and with one note that says where, or kept; and so are those of cleanups."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from millrace import Graph, If, Loop, Parallel, Pipeline, Switch, Warp, step
from tests.flow.failing_parts import Branch, Failure
from tests.support.leaks import eventually


async def fails(x: Any) -> Any:
    raise Failure("gone")


def fails_in_a_thread(x: Any) -> Any:
    raise Failure("gone")


async def fails_in_pieces(x: Any) -> AsyncIterator[str]:
    yield "a"
    raise Failure("gone")


def fails_in_pieces_in_a_thread(x: Any) -> Iterator[str]:
    yield "a"
    raise Failure("gone")


async def fails_live(pieces: AsyncIterator[str]) -> AsyncIterator[str]:
    async for piece in pieces:
        yield piece
    raise Failure("gone")


class Called:
    async def __call__(self, x: Any) -> Any:
        raise Failure("gone")


FAILING: list[Any] = [
    fails,
    fails_in_a_thread,
    fails_in_pieces,
    fails_in_pieces_in_a_thread,
    fails_live,
    Called(),
    lambda x: fails(x),
    step(fails, timeout=60),
    step(fails_in_pieces, concurrency=1),
]


def same(x: Any) -> Any:
    return x


async def letters(x: Any) -> AsyncIterator[str]:
    for _ in range(3):
        yield "x"


async def live(pieces: AsyncIterator[str]) -> AsyncIterator[str]:
    async for piece in pieces:
        yield piece


POSITIONS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "alone": (lambda f: Pipeline(f, name="flow"), "flow > {}"),
    "between": (lambda f: Pipeline(same, f, same, name="flow"), "flow > {}"),
    "inside": (lambda f: Pipeline(same, Pipeline(f, same, name="inner"), name="flow"), "flow > inner > {}"),
    "between live ones": (lambda f: Pipeline(letters, live, f, live, name="flow"), "flow > {}"),
    "inside of live ones": (
        lambda f: Pipeline(letters, Pipeline(live, f, name="inner"), live, name="flow"),
        "flow > inner > {}",
    ),
    "branch": (lambda f: Parallel(same, f, name="flow"), "flow > {}"),
    "named branch": (lambda f: Parallel(a=same, b=f, name="flow"), "flow > b"),
    "all branches": (lambda f: Parallel(a=f, b=f, c=f, name="flow"), "flow > [abc]"),
    "branches of a stream": (lambda f: Pipeline(letters, Parallel(live, f), name="flow"), "flow > {}"),
    "post": (lambda f: Parallel(same, collect=lambda found: found[0], post=f, name="flow"), "flow > post"),
    "item": (lambda f: Pipeline(lambda x: [x], Warp(f), name="flow"), r"flow > {}\[0\]"),
    "turn": (lambda f: Loop(f, count=2, name="flow"), r"flow > {}\[0\]"),
    "case": (lambda f: Switch({"x": f}, name="flow"), "flow > x"),
    "predicate": (lambda f: Pipeline(If(f, same), name="flow"), "flow > condition"),
    "case that decides": (
        lambda f: Switch({same: same, f: same}, key=lambda x: 0, name="flow"),
        "flow > case {}",
    ),
    "key": (lambda f: Switch({"x": same}, key=f, name="flow"), "flow > key"),
    "until": (lambda f: Loop(same, until=f, name="flow"), "flow > until"),
    "choose": (lambda f: Parallel(same, choose=f, name="flow"), "flow > choose"),
    "node": (lambda f: Graph({"n": f}, edges=[("input", "n"), ("n", "output")], name="flow"), "flow > n"),
    "called": (lambda f: Pipeline(lambda x: Pipeline(f)(x), name="flow"), "flow > lambda-1 > {}"),
}


def names_of(function: Any) -> str:
    name = getattr(function, "__name__", None) or getattr(function, "name", None) or type(function).__name__
    return "(<lambda>|lambda-[0-9])" if name == "<lambda>" else str(name)


@pytest.mark.parametrize("position", POSITIONS)
def test_one_note_says_where(position: str) -> None:
    make, where = POSITIONS[position]
    for failing in FAILING:
        flow = make(failing)
        names = where.format(names_of(failing))
        pattern = rf"in {names} \(test_failing.py:\d+\) after \S+ s(; also failed.*)?"
        for way in (flow, lambda x: flow.stream(x).result, lambda x: asyncio.run(flow.acall(x))):  # noqa: B023
            with pytest.raises(Failure) as raised:
                way("x")
            assert type(raised.value) is Failure
            (note,) = raised.value.__notes__
            assert re.fullmatch(pattern, note), (failing, note)


def test_an_error_may_be_caught_and_raised_elsewhere() -> None:
    kept: list[Failure] = []

    async def catches(x: Any) -> Any:
        try:
            return await Pipeline(fails, name="inner").acall(x)
        except Failure as error:
            kept.append(error)
            return "caught"

    def raises(x: Any) -> Any:
        raise kept[0]

    assert Pipeline(catches)(0) == "caught"
    with pytest.raises(Failure) as raised:
        Pipeline(raises, name="later")(0)
    (note,) = raised.value.__notes__
    assert note.startswith("in later > raises (")


# ---------------------------------------------------------------- keeping


@pytest.mark.parametrize("concurrency", [None, 1, 2])
def test_kept_failures_stand_where_their_branch_does(concurrency: int | None) -> None:
    async def late(x: Any) -> Any:
        for _ in range(5):
            await asyncio.sleep(0)
        raise Failure("late")

    branches = [late, same, fails, Pipeline(same, fails_in_a_thread), letters]
    flow = Parallel(*branches, on_error="keep", concurrency=concurrency)
    for found in (flow(1), flow.stream(1).result, asyncio.run(flow.acall(1))):
        assert [type(value) for value in found] == [Failure, int, Failure, Failure, str]
        assert not any(getattr(value, "__notes__", None) for value in found)
    items = Warp(If(lambda x: x % 2, fails), on_error="keep", concurrency=concurrency)
    assert [type(value) for value in items(range(5))] == [int, Failure, int, Failure, int]
    named = Parallel(a=fails, b=same, on_error="keep", concurrency=concurrency)
    assert {key: type(value) for key, value in named(1).items()} == {"a": Failure, "b": int}
    live_ones = Pipeline(letters, Parallel(live, fails_live, len, on_error="keep", concurrency=concurrency))
    assert [type(value) for value in live_ones(1)] == [str, Failure, int]


def test_what_is_kept_stops_with_the_run() -> None:
    branch = Branch()
    with Parallel(branch.sleeps, fails, on_error="keep").stream(0) as stream:
        assert branch.begun.wait(5)
    assert stream.run.status == "cancelled"
    assert branch.cleaned == 1


# ---------------------------------------------------------------- failing cleanups


async def messy(x: Any) -> AsyncIterator[str]:
    try:
        for _ in range(1000):
            yield "x"
    finally:
        raise KeyError("secret")


def messy_in_a_thread(x: Any) -> Iterator[str]:
    try:
        for _ in range(1000):
            yield "x"
    finally:
        raise KeyError("secret")


async def takes_one(pieces: AsyncIterator[str]) -> str:
    return await anext(pieces)


async def fails_at_the_first(pieces: AsyncIterator[str]) -> str:
    await anext(pieces)
    raise Failure("gone")


async def fails_at_the_second(pieces: AsyncIterator[str]) -> AsyncIterator[str]:
    yield await anext(pieces)
    raise Failure("gone")


def fails_at_the_first_in_a_thread(pieces: Iterator[str]) -> str:
    next(pieces)
    raise Failure("gone")


@pytest.mark.parametrize(
    ("make", "step"),
    [
        (lambda: Pipeline(messy, fails_at_the_first), "fails_at_the_first"),
        (lambda: Pipeline(messy, live, fails_at_the_second, live), "fails_at_the_second"),
        (lambda: Pipeline(messy, fails_at_the_second), "fails_at_the_second"),
        (lambda: Pipeline(messy, fails_at_the_first_in_a_thread), "fails_at_the_first_in_a_thread"),
        (lambda: Pipeline(messy, Parallel(live, fails_at_the_first)), "fails_at_the_first"),
        (lambda: Pipeline(messy, Loop(fails_at_the_second, count=2)), r"fails_at_the_second\[1\]"),
        (lambda: Pipeline(messy, step(fails_at_the_second, timeout=60), live), "fails_at_the_second"),
    ],
)
def test_what_a_cleanup_raises_behind_a_failure_is_in_its_note(make: Any, step: str) -> None:
    for way in (make(), lambda x: make().stream(x).result):
        with pytest.raises(Failure) as raised:
            way(0)
        (note,) = raised.value.__notes__
        assert re.fullmatch(
            rf"in {step} \(test_failing.py:\d+\) after \S+ s; also failed: messy \(KeyError\)", note
        )
        assert "secret" not in note


def test_what_a_cleanup_raises_alone_is_raised_and_names_its_step() -> None:
    with pytest.raises(KeyError) as raised:
        Pipeline(messy, takes_one, same, name="flow")(0)
    (note,) = raised.value.__notes__
    assert note.startswith("in flow > messy (test_failing.py:")


def test_the_cleanup_in_a_thread_is_not_waited_for_but_its_failure_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, "millrace.flow"):
        assert Pipeline(messy_in_a_thread, takes_one)(0) == "x"
        eventually(lambda: "the cleanup of a generator failed that was stopped" in caplog.messages)


def test_the_cleanup_of_a_stopped_run_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "millrace.streaming"):
        for _ in Pipeline(messy).stream(0).text():
            break
        eventually(lambda: caplog.messages == ["the cleanup of a stopped run failed"])


@pytest.mark.parametrize("on_error", ["raise", "keep"])
def test_each_is_cleaned_up_once_whatever_the_others_do(on_error: Any) -> None:
    cleaned: list[int] = []

    def make(i: int) -> Any:
        async def sleeps(x: Any) -> None:
            try:
                await asyncio.sleep(3)
            finally:
                await asyncio.sleep(0)
                cleaned.append(i)
                if i % 2:
                    raise KeyError(i)

        return sleeps

    flow = Parallel(*[make(i) for i in range(10)], fails, on_error=on_error)
    if on_error == "raise":
        with pytest.raises(Failure) as raised:
            flow(0)
        (note,) = raised.value.__notes__
        assert note.count("(KeyError)") == 5
    else:
        with flow.stream(0) as stream:
            next(iter(stream))
    assert sorted(cleaned) in (list(range(10)), [])


# ---------------------------------------------------------------- groups


def test_a_group_of_errors_is_the_users_or_there_is_none() -> None:
    async def several(x: Any) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fails(x))
            group.create_task(fails(x))

    with pytest.raises(ExceptionGroup) as raised:
        Parallel(several, fails_late)(0)
    assert raised.group_contains(Failure)
    assert len(raised.value.__notes__) == 1
    with pytest.raises(Failure):
        Parallel(*[fails] * 5, Parallel(*[fails] * 5), Pipeline(letters, Parallel(*[fails_live] * 5)))(0)


async def fails_late(x: Any) -> None:
    await asyncio.sleep(3)
    raise Failure("late")
