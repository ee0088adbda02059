"""Steps that are tried again: as long as they have said nothing, with all of their input, and after a wait."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace import Loop, Module, Parallel, Pipeline, step
from millrace.flow.policies import Retry
from millrace.streaming import Event, FlowBuildError, Overloaded, Progress, RunTimeout, TextDelta, status
from tests.support.leaks import eventually_async

AT_ONCE = Retry(3, wait=0)


class Flaky:
    """A step in many forms that fails so many times, then gives what it was given."""

    def __init__(self, failures: int, error: BaseException | None = None, pieces_before: int = 0) -> None:
        self.failures = failures
        self.error = error
        self.pieces_before = pieces_before
        self.calls = 0
        self.cleaned = 0

    def fail(self) -> None:
        self.calls += 1
        if self.calls <= self.failures:
            raise ConnectionError(f"attempt {self.calls}") if self.error is None else self.error

    def plain(self, x: str) -> str:
        self.fail()
        return x

    async def coroutine(self, x: str) -> str:
        await asyncio.sleep(0)
        self.fail()
        return x

    def generator(self, x: str) -> Iterator[str]:
        try:
            yield from x[: self.pieces_before]
            self.fail()
            yield from x[self.pieces_before :]
        finally:
            self.cleaned += 1

    async def stream(self, x: str) -> AsyncIterator[str]:
        try:
            for piece in x[: self.pieces_before]:
                yield piece
            self.fail()
            for piece in x[self.pieces_before :]:
                yield piece
        finally:
            self.cleaned += 1

    async def live(self, pieces: AsyncIterator[str]) -> AsyncIterator[str]:
        async for piece in pieces:
            if piece == "c":
                self.fail()
        yield "whole"

    async def live_value(self, pieces: AsyncIterator[str]) -> str:
        items = [piece async for piece in pieces]
        self.fail()
        return "".join(items)


KINDS = ["plain", "coroutine", "generator", "stream"]
CALLS: list[Callable[[Any, Any], Any]] = [
    lambda flow, x: flow(x),
    lambda flow, x: asyncio.run(flow.acall(x)),
    lambda flow, x: flow.stream(x).result,
    lambda flow, x: flow.start(x).result(5),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("call", CALLS)
def test_it_is_tried_again(kind: str, call: Any) -> None:
    for wrap in (lambda s: s, lambda s: Pipeline(s), lambda s: Pipeline(str, s, str)):
        flaky = Flaky(2)
        assert call(wrap(step(getattr(flaky, kind), retry=AT_ONCE)), "abc") == "abc"
        assert flaky.calls == 3


@pytest.mark.parametrize("kind", KINDS)
def test_after_the_last_attempt_the_error_is_raised_as_it_is(kind: str) -> None:
    flaky = Flaky(9)
    flow = Pipeline(step(getattr(flaky, kind), retry=AT_ONCE, name="ask"), name="rag")
    with pytest.raises(ConnectionError, match="attempt 3") as caught:
        flow("abc")
    assert flaky.calls == 3
    (note,) = caught.value.__notes__
    assert note.startswith("in rag > ask (test_retries.py:")


def test_one_error_object_has_one_trail() -> None:
    error = ValueError("the same again")
    inner = Pipeline(Flaky(9, error).plain, name="inner")
    with pytest.raises(ValueError, match="the same again") as caught:
        step(inner, retry=AT_ONCE)("x")
    (note,) = caught.value.__notes__
    assert note.startswith("in inner > plain (")


def test_retry_of_one_attempt_and_the_number_alone() -> None:
    flaky = Flaky(1)
    with pytest.raises(ConnectionError):
        step(flaky.plain, retry=1)("x")
    assert flaky.calls == 1


@pytest.mark.parametrize("kind", ["generator", "stream"])
@pytest.mark.parametrize("listened", [True, False])
def test_only_before_the_first_piece(kind: str, listened: bool) -> None:
    flaky = Flaky(1, pieces_before=1)
    flow = step(getattr(flaky, kind), retry=AT_ONCE)
    heard: list[str] = []
    with pytest.raises(ConnectionError, match="attempt 1"):
        heard.extend(flow.stream("abc").text()) if listened else flow("abc")
    assert flaky.calls == 1
    assert flaky.cleaned == 1


@pytest.mark.parametrize("kind", ["generator", "stream"])
def test_pieces_are_said_once(kind: str) -> None:
    flaky = Flaky(2)
    events = list(step(getattr(flaky, kind), retry=AT_ONCE, name="say").stream("abc"))
    assert [event.text for event in events if isinstance(event, TextDelta)] == ["a", "b", "c"]
    assert flaky.cleaned == 3
    assert [type(event).__name__ for event in events[1:3]] == ["Progress", "Progress"]


def test_a_function_that_turns_out_to_stream_is_not_tried_again_after_a_piece() -> None:
    flaky = Flaky(1, pieces_before=1)
    with pytest.raises(ConnectionError):
        step(lambda x: flaky.stream(x), retry=AT_ONCE).stream("abc").result  # noqa: B018
    assert flaky.calls == 1
    flaky = Flaky(1)
    assert list(step(lambda x: flaky.stream(x), retry=AT_ONCE).stream("abc").text()) == ["a", "b", "c"]


def test_a_loop_is_not_tried_again_after_the_text_of_a_turn() -> None:
    turns: list[str] = []

    async def turn(x: str) -> AsyncIterator[str]:
        turns.append(x)
        if len(turns) == 2:
            raise ConnectionError
        yield x + "."

    with pytest.raises(ConnectionError):
        step(Loop(turn, until=lambda x: len(x) > 4), retry=AT_ONCE).stream("a").result  # noqa: B018
    assert turns == ["a", "a."]
    turns.clear()
    flow = Pipeline(step(Loop(turn, until=lambda x: len(x) > 4), retry=AT_ONCE), str.upper)
    assert flow.stream("a").result == "A...."  # on the way to another step nobody has taken it for the answer


def test_whole_flows_and_modules() -> None:
    flaky = Flaky(2)

    class Ask(Module[str, str]):
        ready_count = closed_count = 0

        async def setup(self) -> None:
            self.ready_count += 1

        async def __call__(self, x: str) -> str:
            return flaky.plain(x)

        async def aclose(self) -> None:
            self.closed_count += 1

    module = Ask()
    flow = step(Pipeline(str.strip, module), retry=AT_ONCE, name="ask")
    assert flow(" x ") == "x"
    flaky.calls = 0
    bare = step(module, retry=AT_ONCE)
    assert asyncio.run(bare.acall("x")) == "x"
    assert (flow.name, bare.name) == ("ask", "Ask")

    async def life() -> None:
        await flow.release()
        assert module.closed_count == 1
        await bare.ready()
        assert module.ready_count == 2
        await flow.release()

    asyncio.run(life())


def test_inside_of_branches_each_on_its_own() -> None:
    one, other = Flaky(1), Flaky(2)
    flow = Parallel(a=step(one.plain, retry=AT_ONCE), b=step(other.stream, retry=AT_ONCE))
    assert flow("xy") == {"a": "xy", "b": "xy"}
    assert (one.calls, other.calls) == (2, 3)


# ---------------------------------------------------------------- live input


async def letters(x: str) -> AsyncIterator[str]:
    for letter in x:
        yield letter


@pytest.mark.parametrize("kind", ["live", "live_value"])
@pytest.mark.parametrize("call", CALLS)
def test_a_live_step_gets_its_upstream_from_the_start(kind: str, call: Any) -> None:
    flaky = Flaky(2)
    runs: list[str] = []

    async def upstream(x: str) -> AsyncIterator[str]:
        runs.append(x)
        async for letter in letters(x):
            yield letter

    flow = Pipeline(upstream, step(getattr(flaky, kind), retry=AT_ONCE))
    assert call(flow, "abcd") in ("whole", "abcd")
    assert (flaky.calls, runs) == (3, ["abcd"])


def test_a_live_step_alone_is_given_its_value_each_time() -> None:
    flaky = Flaky(2)
    assert step(flaky.live_value, retry=AT_ONCE)("abc") == "abc"


def test_a_broken_upstream_is_no_failure_of_the_step() -> None:
    flaky = Flaky(0)

    async def broken(x: str) -> AsyncIterator[str]:
        yield "a"
        raise OSError("the upstream")

    with pytest.raises(OSError, match="the upstream"):
        Pipeline(broken, step(flaky.live_value, retry=AT_ONCE))("x")
    assert flaky.calls == 0


# ---------------------------------------------------------------- waits


@given(st.integers(1, 200), st.floats(0, 100), st.floats(0, 1000))
def test_waits_double_up_to_the_most_and_lose_up_to_a_half(attempt: int, wait: float, most: float) -> None:
    pause = Retry(wait=wait, most=most).pause(attempt, ValueError())
    whole = min(most, wait * 2.0 ** (attempt - 1))
    assert whole / 2 <= pause <= whole


def test_waits_differ() -> None:
    retry = Retry(wait=1.0)
    assert len({retry.pause(1, ValueError()) for _ in range(20)}) > 10


def test_a_wait_of_ones_own_and_what_a_server_asks_for() -> None:
    retry = Retry(wait=lambda attempt: attempt * 10.0)
    assert [retry.pause(attempt, ValueError()) for attempt in (1, 2)] == [10.0, 20.0]
    assert Retry(wait=0).pause(1, Overloaded("full", retry_after=7.0)) == 7.0


@pytest.mark.anyio
async def test_a_cancel_ends_the_wait_at_once() -> None:
    flaky = Flaky(9)
    flow = step(flaky.coroutine, retry=Retry(3, wait=600, most=600))
    task = asyncio.create_task(flow.acall("x"))
    await eventually_async(lambda: flaky.calls == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually_async(lambda: status().runs == 0)
    assert flaky.calls == 1


def test_leaving_a_stream_ends_the_wait_at_once() -> None:
    flaky = Flaky(9)
    flow = step(flaky.stream, retry=Retry(3, wait=600, most=600))
    for event in flow.stream("x"):
        if isinstance(event, Progress):
            break
    with pytest.raises(RunTimeout):
        flow("x", timeout=0.05)
    assert flaky.calls == 2


# ---------------------------------------------------------------- what is said


def test_each_retry_is_said_without_values(caplog: pytest.LogCaptureFixture) -> None:
    flaky = Flaky(2, ValueError("secret"))
    with caplog.at_level(logging.WARNING, "millrace.flow"):
        events: list[Event] = list(Pipeline(step(flaky.plain, retry=AT_ONCE), name="flow").stream("hidden"))
    said = [event for event in events if isinstance(event, Progress)]
    assert [event.message for event in said] == [
        "attempt 2 of 3 in 0.00 s, after ValueError",
        "attempt 3 of 3 in 0.00 s, after ValueError",
    ]
    assert {event.path for event in said} == {("plain",)}
    assert [record.getMessage() for record in caplog.records] == [
        "step plain failed with ValueError; attempt 2 of 3 follows in 0.00 s",
        "step plain failed with ValueError; attempt 3 of 3 follows in 0.00 s",
    ]


@pytest.mark.parametrize(
    ("make", "cure"),
    [
        (lambda: step(str, retry=0), "retry=0: give how often to try in all"),
        (lambda: step(str, retry=True), "retry=True"),
        (lambda: step(str, retry="3"), "retry='3'"),  # type: ignore[arg-type]
        (lambda: step(str, retry=2.5), r"retry=2\.5"),  # type: ignore[arg-type]
        (lambda: Retry(0), "retry=0"),
        (lambda: Retry(wait=-1), r"Retry\(wait=-1\): give seconds"),
        (lambda: Retry(wait="1s"), "wait='1s'"),  # type: ignore[arg-type]
        (lambda: Retry(most=float("nan")), "most=nan"),
        (lambda: Retry(most=lambda a: 1), "most="),  # type: ignore[arg-type]
        (lambda: Retry(on=()), r"on=\(\)"),
        (lambda: Retry(on=BaseException), "derived from Exception"),  # type: ignore[arg-type]
        (lambda: Retry(on="ValueError"), "on='ValueError'"),  # type: ignore[arg-type]
    ],
)
def test_settings_that_cannot_be(make: Callable[[], Any], cure: str) -> None:
    with pytest.raises(FlowBuildError, match=cure):
        make()


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 5), st.integers(1, 5), st.sampled_from(KINDS), st.sampled_from([0, 1, 2, 3]))
def test_attempts_are_counted_whatever_the_form_and_the_call(
    failures: int, attempts: int, kind: str, call: int
) -> None:
    flaky = Flaky(failures)
    flow = step(getattr(flaky, kind), retry=Retry(attempts, wait=0))
    if failures < attempts:
        assert CALLS[call](flow, "ab") == "ab"
    else:
        with pytest.raises(ConnectionError):
            CALLS[call](flow, "ab")
    assert flaky.calls == min(attempts, failures + 1)
