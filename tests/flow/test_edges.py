"""Corners where cancels, threads, loops and contexts meet."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from millrace import Args, If, Loop, Module, Parallel, Pipeline, Switch, Warp, bind, session, step
from millrace.streaming import (
    FlowBuildError,
    Progress,
    RunCancelled,
    TokenUsage,
    Usage,
    current_run,
    emit,
    status,
)
from tests.support.leaks import eventually


async def add(x: int) -> int:
    await asyncio.sleep(0)
    return x + 1


async def add_none(x: int) -> None:
    await asyncio.sleep(0)


def plus(x: int) -> int:
    return x + 1


# ---------------------------------------------------------------- stopping


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: Parallel(s), lambda s: Parallel(Parallel(s))])
@pytest.mark.parametrize("how", ["stop_when", "cancel"])
def test_a_stop_from_inside_does_not_hit_the_cleanup(wrap: Callable[[Any], Any], how: str) -> None:
    log: list[str] = []

    async def body(x: Any) -> AsyncIterator[str]:
        try:
            for i in range(1000):
                if i == 3 and how == "cancel":
                    run = current_run()
                    assert run is not None
                    run.cancel("enough")
                yield "a"
        finally:
            log.append("begin")
            for _ in range(20):
                await asyncio.sleep(0)
            log.append("clean")

    flow = Pipeline(wrap(step(body, show="output")), lambda x: x)
    with flow.stream(0, stop_when=(lambda text: text == "aaa") if how == "stop_when" else None) as stream:
        try:
            list(stream)
        except RunCancelled:
            assert how == "cancel"
    assert log == ["begin", "clean"]


def test_a_task_of_the_users_is_not_parked_for_ever() -> None:
    async def body(x: Any) -> None:
        task = asyncio.create_task(Pipeline(endless).acall(x))
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.wait([task])

    async def endless(x: Any) -> AsyncIterator[str]:
        while True:
            yield "x"
            await asyncio.sleep(0)

    with pytest.raises(TimeoutError):
        Pipeline(body)(0, timeout=0.05)
    assert status().runs == 0


def test_a_joined_flow_ends_with_its_branch() -> None:
    began, ended = threading.Event(), threading.Event()

    async def inner(x: Any) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def fails(x: Any) -> None:
        await asyncio.to_thread(began.wait, 5)
        raise LookupError("gone")

    with pytest.raises(LookupError):
        Parallel(lambda x: Pipeline(inner)(x), fails)(0)
    assert ended.wait(5)
    eventually(lambda: status().abandoned == 0)


def exits(x: Any) -> None:
    sys.exit(3)


async def exits_async(x: Any) -> None:
    sys.exit(3)


@pytest.mark.parametrize(
    "flow",
    [
        Parallel(exits, add),
        Parallel(exits_async, add),
        Pipeline(lambda x: Pipeline(exits_async)(x), add),
        Parallel(exits, add, on_error="keep"),
    ],
)
def test_an_exit_in_a_step_reaches_the_caller_and_harms_nobody(flow: Any) -> None:
    other = Pipeline(lambda x: threading.Event().wait(0.3)).start(0)
    with pytest.raises(SystemExit):
        flow(1)
    with pytest.raises(SystemExit):
        flow.batch([1, 2])
    assert other.result(5) is False
    assert Pipeline(add)(1) == 2


def test_a_branch_that_raises_cancelled_error_is_kept_apart() -> None:
    async def cancelled(x: Any) -> None:
        raise asyncio.CancelledError

    kept = Parallel(cancelled, add, plus, on_error="keep")(1)
    assert isinstance(kept[0], asyncio.CancelledError)
    assert kept[1:] == (2, 2)


def test_one_failing_cleanup_leaves_no_other_open() -> None:
    log: list[str] = []

    async def head(x: Any) -> AsyncIterator[str]:
        try:
            while True:
                yield "x"
        finally:
            log.append("head")

    async def middle(xs: AsyncIterator[str]) -> AsyncIterator[str]:
        try:
            async for x in xs:
                yield x
        finally:
            raise KeyError("cleanup")

    async def first(xs: AsyncIterator[str]) -> str:
        return await anext(xs)

    with pytest.raises(KeyError):
        Pipeline(head, middle, first)(0)
    assert log == ["head"]


# ---------------------------------------------------------------- values and calls


def test_args_pass_through_switches() -> None:
    def even(*pair: int) -> bool:
        return sum(pair) % 2 == 0

    def total(*pair: int) -> int:
        return sum(pair)

    for flow in (
        Parallel(plus, plus) | If(even, total),
        Parallel(plus, plus) | Switch({Args(2, 2): total}),
        Parallel(plus, plus) | Switch({4: total}, key=total),
        Parallel(plus, plus) | If(lambda *pair: False, total) | total,
    ):
        assert flow(1) == flow.stream(1).result == 4


def test_a_plain_flow_with_bindings_inside_of_a_function() -> None:
    with Pipeline() as p:
        p.a = plus
        p.b = bind(lambda a, x: (a, x), p.a, p.input)
    nested = Pipeline(plus, Pipeline(plus, name="inner"), bind(lambda x, y: x + y, 10))
    for run in (lambda f: f(1), lambda f: f.stream(1).result, lambda f: asyncio.run(f.acall(1))):
        assert run(Pipeline(lambda x: p(x))) == (2, 1)
        assert run(Pipeline(lambda x: nested(x))) == 13


def test_a_loop_over_a_function_that_returns_a_coroutine() -> None:
    assert Loop(lambda x: add(x), count=4)(1) == 5
    assert Loop(Pipeline(lambda x: add(x), plus), count=3)(1) == 7
    assert Pipeline(Loop(lambda x: add(x), count=2), plus)(1) == 4


def test_more_waiting_functions_than_the_pool_has_threads() -> None:
    outer = Pipeline(lambda x: Parallel(plus, plus)(x))
    assert Warp(outer).start(range(300)).result(60) == [Args(i + 1, i + 1) for i in range(300)]


def test_a_predicate_that_forgot_to_be_async() -> None:
    for flow in (
        Switch({(lambda x: add(x)): plus}),
        Switch({2: plus}, key=lambda x: add(x)),
        Switch({(lambda x: add_none(x)): str, (lambda x: add(x)): plus}),
        Pipeline(plus, plus, If(lambda x: add_none(x), str, plus), lambda x: x - 2),
    ):
        assert flow(1) == flow.stream(1).result == asyncio.run(flow.acall(1)) == 2


@pytest.mark.parametrize("asynchronously", [False, True])
def test_stop_async_iteration_is_an_error(asynchronously: bool) -> None:
    async def empty() -> AsyncIterator[str]:
        return
        yield

    async def reads(x: Any) -> str:
        return await anext(empty())

    def generates(x: Any) -> Iterator[str]:
        yield "a"
        raise StopAsyncIteration

    for function in (reads, generates):
        with pytest.raises(RuntimeError, match="raised StopAsyncIteration"):
            if asynchronously:
                list(Pipeline(function).stream(0).text())
            else:
                Pipeline(function)(0)


def test_nothing_runs_inside_of_an_open_block() -> None:
    for call in (lambda p: p.batch([1]), lambda p: p.start(1), lambda p: p.stream(1), lambda p: p(1)):
        with pytest.raises(FlowBuildError, match="inside of the block"), Pipeline() as p:
            p.a = plus
            call(p)


# ---------------------------------------------------------------- what is said


def test_what_a_live_function_emits() -> None:
    def total(pieces: Iterator[str]) -> int:
        count = 0
        for _ in pieces:
            count += 1
            emit(Progress(count / 3))
        emit(Usage(1, count))
        return count

    async def three(x: Any) -> AsyncIterator[str]:
        for piece in "abc":
            yield piece

    with Pipeline(three, total).stream(0) as stream:
        said = [event.fraction for event in stream if isinstance(event, Progress)]
    assert said == [1 / 3, 2 / 3, 1]
    assert stream.usage == TokenUsage(1, 3)


def test_what_a_generator_emits_does_not_wait_for_its_next_item() -> None:
    go_on = threading.Event()

    def waits(x: Any) -> Iterator[str]:
        yield "a"
        emit(Progress(0.5))
        go_on.wait(10)
        yield "b"

    with Pipeline(waits).stream(0) as stream:
        for event in stream:
            if isinstance(event, Progress):
                go_on.set()
        assert go_on.is_set()


def test_the_same_event_twice_has_two_places() -> None:
    def twice(x: Any) -> None:
        event = Progress(0.5)
        emit(event)
        emit(event)

    events = list(Pipeline(twice).stream(0))
    assert [event.seq for event in events] == list(range(1, len(events) + 1))


# ---------------------------------------------------------------- sessions, contexts, errors


def test_a_run_keeps_its_session_and_its_id() -> None:
    run = Pipeline(plus).start(1)
    run.result(5)
    with session("alice"):
        assert run.session != "alice"
    assert run.session == run.session

    async def inside(x: Any) -> str:
        run = current_run()
        assert run is not None
        with session("bob"):
            return run.session

    assert Pipeline(inside)(0, session="alice") == "alice"
    for _ in range(50):
        run, ids = Pipeline(plus).start(1), set()
        threads = [threading.Thread(target=lambda run=run, ids=ids: ids.add(run.id)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(5)
        assert len(ids) == 1
        run.result(5)


VARIABLE: contextvars.ContextVar[int] = contextvars.ContextVar("edge", default=0)


def test_a_finished_thread_carries_back_only_what_it_set() -> None:
    def source(x: Any) -> Iterator[str]:
        yield "a"

    async def sets(pieces: AsyncIterator[str]) -> str:
        VARIABLE.set(7)
        return "".join([piece async for piece in pieces])

    assert Pipeline(source, sets, lambda _: VARIABLE.get())(0) == 7


def test_a_result_and_an_error_that_cannot_be_shown() -> None:
    class Unshown:
        def __repr__(self) -> str:
            raise ValueError

    @dataclass(frozen=True)
    class Frozen(Exception):
        word: str = "x"

    assert isinstance(Pipeline(lambda x: Unshown()).start(0).result(5), Unshown)

    def fails(x: Any) -> None:
        raise Frozen

    for call in (lambda: Pipeline(fails)(0), lambda: Pipeline(fails).start(0).result(5)):
        with pytest.raises(Frozen):
            call()


def test_the_run_of_a_direct_call_ends() -> None:
    runs: list[Any] = []
    assert Pipeline(lambda x: runs.append(current_run()))(0) is None
    assert (runs[0].status, runs[0].result()) == ("done", None)


def test_a_setup_whose_loop_ended_before_it_began_is_tried_again() -> None:
    class Slow(Module[int, int]):
        async def setup(self) -> None:
            await asyncio.sleep(0)

        async def __call__(self, x: int) -> int:  # type: ignore[override]
            return x

    for ticks in range(6):
        module = Slow()

        async def begins(module: Slow = module, ticks: int = ticks) -> None:
            task = asyncio.create_task(module.ready())
            for _ in range(ticks):
                await asyncio.sleep(0)
            task.cancel()

        asyncio.run(begins())
        assert Pipeline(module)(5, timeout=5) == 5
