from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace import Args, Diverter, Parallel, Pipeline, Warp, bind
from millrace.streaming import FlowBuildError, FlowCallError, StepStarted, TextDelta, status
from tests.flow.parts import add, double, every_way
from tests.support.leaks import eventually


def test_results() -> None:
    assert every_way(Parallel(add, double), 3) == Args(4, 6)
    assert every_way(Parallel(a=add, b=double), 3) == {"a": 4, "b": 6}
    assert every_way(Parallel(add, double, collect=sum), 3) == 10
    assert every_way(Parallel(add, double, collect=list), 3) == [4, 6]
    assert every_way(Parallel(str, str, collect=" ".join), 3) == "3 3"
    assert every_way(Parallel(a=add, b=double, collect=lambda d: d["a"]), 3) == 4
    assert every_way(Pipeline(Parallel(add, double), lambda a, b: a + b), 3) == 10
    assert every_way(Parallel(), 3) == ()


def test_the_order_written_is_kept() -> None:
    async def late(x: int) -> str:
        for _ in range(x):
            await asyncio.sleep(0)
        return f"late {x}"

    assert every_way(Parallel(late, lambda x: "soon", late), 20) == ("late 20", "soon", "late 20")


@given(st.lists(st.integers(), max_size=20), st.sampled_from([None, 1, 3]))
def test_warp_is_a_list_of_its_step(xs: list[int], concurrency: int | None) -> None:
    assert Warp(double, concurrency=concurrency)(xs) == [x * 2 for x in xs]
    assert Warp(add, collect=sum)(xs) == sum(x + 1 for x in xs)


def test_warp_takes_any_iterable_of_items() -> None:
    assert Warp(add)(iter((1, 2))) == [2, 3]
    assert Warp(add)(range(3)) == [1, 2, 3]
    assert Warp(lambda a, b: a + b)([Args(1, 2), Args(3, 4)]) == [3, 7]
    for wrong in ("text", 5, b"bytes"):
        with pytest.raises(FlowCallError, match="wrap it in a list"):
            Warp(add)(wrong)


def test_diverter() -> None:
    assert every_way(Diverter(add, double), Args(1, 2)) == (2, 4)
    assert every_way(Diverter(add, double), [1, 2]) == (2, 4)
    assert every_way(Diverter(a=add, b=double), {"b": 2, "a": 1}) == {"a": 2, "b": 4}
    with pytest.raises(FlowCallError, match="2 branches, not 3 items"):
        Diverter(add, double)([1, 2, 3])
    with pytest.raises(FlowCallError, match="2 branches, not int"):
        Diverter(add, double)(1)
    with pytest.raises(FlowCallError, match="the names a, b"):
        Diverter(a=add, b=double)({"a": 1})


def test_a_block_and_references() -> None:
    with Pipeline() as p:
        p.text = str
        with Parallel() as p.notes:
            p.notes.size = len
            p.notes.twice = bind(lambda text, given: (text * 2, given), p.text, p.notes.input)
        with Diverter() as p.split:
            p.split.size = add
            p.split.twice = len
        p.last = bind(lambda d, text, n: (d, text, n), p.split, p.text, p.notes["size"])
    assert every_way(p, 12) == ({"size": 3, "twice": 2}, "12", 2)
    with pytest.raises(FlowBuildError, match="run at once"), Parallel() as q:
        q.a = add
        q.b = bind(add, q.a)


def test_wrong_writing() -> None:
    with pytest.raises(FlowBuildError, match="all branches or none"):
        Parallel(add, b=double)
    with pytest.raises(FlowBuildError, match="concurrency=0"):
        Parallel(add, concurrency=0)
    with pytest.raises(FlowBuildError, match="'raise' or 'keep'"):
        Parallel(add, on_error="drop")  # type: ignore[arg-type]
    with pytest.raises(FlowBuildError, match=r"Parallel\(\*\*"):
        Parallel({"a": add})  # type: ignore[arg-type]


def test_paths_tell_branches_and_items_apart() -> None:
    def paths(flow: Any, x: Any) -> set[tuple[Any, ...]]:
        return {event.path for event in flow.stream(x) if isinstance(event, StepStarted)}

    assert paths(Parallel(add, add, Pipeline(add, double)), 1) == {
        ("add",),
        ("add-2",),
        (2,),
        (2, "add"),
        (2, "double"),
    }
    assert paths(Warp(add), [5, 6]) == {("add", 0), ("add", 1)}


def test_branches_stream_apart_and_at_once() -> None:
    async def say(x: str) -> AsyncIterator[str]:
        for i in range(3):
            yield f"{x}{i}"
            await asyncio.sleep(0)

    events = [e for e in Parallel(left=say, right=say).stream("") if isinstance(e, TextDelta)]
    assert [e.text for e in events if e.path == ("left",)] == ["0", "1", "2"]
    assert [e.path[0] for e in events[:3]] not in (["left"] * 3, ["right"] * 3)
    assert not any(e.output for e in events)


@pytest.mark.parametrize("limit", [1, 2, None])
def test_concurrency(limit: int | None) -> None:
    now, most = 0, 0

    async def count(x: int) -> int:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001)
        now -= 1
        return x

    assert Parallel(*[count] * 6, concurrency=limit)(1) == (1,) * 6
    assert most == (limit or 6)
    most = 0
    assert Warp(count, concurrency=limit)(range(6)) == list(range(6))
    assert most == (limit or 6)


# ---------------------------------------------------------------- failing


class Slow:
    def __init__(self) -> None:
        self.cleaned = 0
        self.later = 0

    async def asynchronous(self, x: Any) -> None:
        try:
            await asyncio.sleep(3)
        finally:
            await asyncio.sleep(0)
            self.cleaned += 1

    def after(self, *x: Any) -> None:
        self.later += 1


def test_what_a_branch_sets_stays_in_it_also_where_it_made_room_for_another() -> None:
    seen: ContextVar[str] = ContextVar("seen", default="nothing")

    async def mark(x: str) -> str:
        before = seen.get()
        seen.set(x)
        await asyncio.sleep(0)
        return before

    assert Warp(mark, concurrency=1)(["a", "b", "c"]) == ["nothing"] * 3


async def fails(x: Any) -> None:
    await asyncio.sleep(0)
    raise LookupError("gone")


def test_the_earliest_failure_stops_the_siblings_at_once() -> None:
    slow = Slow()
    flow = Pipeline(Parallel(slow.asynchronous, fails, Pipeline(slow.asynchronous, slow.after)), slow.after)
    started = time.perf_counter()
    with pytest.raises(LookupError) as raised:
        flow(0)
    assert time.perf_counter() - started < 0.5
    assert slow.cleaned == 2
    assert slow.later == 0
    assert len(raised.value.__notes__) == 1
    assert raised.value.__notes__[0].startswith("in fails (test_parallel.py:")


def test_a_blocked_sibling_is_abandoned() -> None:
    go_on, began = threading.Event(), threading.Event()

    def blocked(x: Any) -> None:
        began.set()
        go_on.wait(10)

    async def fails_then(x: Any) -> None:
        await asyncio.to_thread(began.wait, 5)
        raise LookupError("gone")

    with pytest.raises(LookupError):
        Parallel(blocked, fails_then)(0)
    assert status().abandoned == 1
    go_on.set()
    eventually(lambda: status().abandoned == 0)


def test_others_that_failed_go_into_the_note() -> None:
    async def fails_on_cancel(x: Any) -> None:
        try:
            await asyncio.sleep(3)
        finally:
            raise KeyError("secret")

    with pytest.raises(LookupError) as raised:
        Parallel(fails_on_cancel, fails, name="both")(0)
    (note,) = raised.value.__notes__
    assert note.startswith("in both > fails (")
    assert note.endswith("; also failed: fails_on_cancel (KeyError)")
    assert "secret" not in note


def test_ties_go_by_the_order_written() -> None:
    def make(name: str) -> Any:
        async def fails_at_once(x: Any) -> None:
            raise LookupError(name)

        return fails_at_once

    with pytest.raises(LookupError, match="first"):
        Parallel(make("first"), make("second"))(0)


def test_keep() -> None:
    slow: list[Any] = []

    async def patient(x: int) -> int:
        for _ in range(10):
            await asyncio.sleep(0)
        slow.append(x)
        return x

    first, error, last = Parallel(patient, fails, add, on_error="keep")(1)
    assert (first, last, slow) == (1, 2, [1])
    assert isinstance(error, LookupError)
    kept = Warp(lambda x: 1 / x, on_error="keep")([1, 0, 2])
    assert [type(value) for value in kept] == [float, ZeroDivisionError, float]


@pytest.mark.anyio
async def test_a_stop_reaches_all_branches() -> None:
    slow = Slow()
    async with Parallel(slow.asynchronous, Warp(slow.asynchronous), collect=list).stream([1, 2]) as stream:
        started = 0
        async for event in stream:
            started += isinstance(event, StepStarted)
            if started == 4:
                break
    assert slow.cleaned == 3
    assert status().runs == 0


# ---------------------------------------------------------------- batches


def test_batch() -> None:
    flow = Pipeline(add, double)
    assert flow.batch([1, 2, 3]) == [4, 6, 8]
    assert flow.batch([], concurrency=2) == []
    assert asyncio.run(flow.abatch(range(3), concurrency=2)) == [2, 4, 6]
    kept = Pipeline(lambda x: 1 / x).batch([1, 0], on_error="keep")
    assert kept[0] == 1
    assert isinstance(kept[1], ZeroDivisionError)
    with pytest.raises(ZeroDivisionError) as raised:
        Pipeline(lambda x: 1 / x).batch([1, 0])
    assert len(raised.value.__notes__) == 1
    with pytest.raises(FlowBuildError, match="concurrency=0"):
        flow.batch([1], concurrency=0)


def test_each_item_of_a_batch_is_a_run_of_its_own() -> None:
    from millrace.streaming import current_run, current_session

    async def who(x: Any) -> Any:
        return current_run(), current_session()

    seen = Pipeline(who).batch(range(20))
    assert len({run for run, _ in seen}) == len({name for _, name in seen}) == 20


def test_a_batch_that_fails_stops_its_other_runs() -> None:
    slow = Slow()

    async def either(x: int) -> None:
        await (slow.asynchronous(x) if x else fails(x))

    with pytest.raises(LookupError):
        Pipeline(either).batch([1, 1, 0])
    eventually(lambda: slow.cleaned == 2 and status().runs == 0)


def test_branches_are_chosen_by_name_or_index_for_each_call() -> None:
    named = Parallel(a=lambda x: x, b=lambda x: 2 * x, c=lambda x: 3 * x)
    assert named.keep("a", 2)(1) == {"a": 1, "c": 3}
    assert named.skip("a")(1) == {"b": 2, "c": 3}
    assert named.skip("a").skip(-1)(1) == {"b": 2}
    assert named(1) == {"a": 1, "b": 2, "c": 3}
    unnamed = Parallel(len, str, collect=list)
    assert unnamed.keep("len")([1]) == [1]
    assert unnamed.skip(0)([1]) == ["[1]"]
    assert unnamed.keep()([1]) == []
    diverter = Diverter(lambda x: x + 1, lambda x: x + 2)
    assert diverter.keep(1)([10, 20]) == (22,)
    for wrong in ("d", 3, -4, None, True):
        with pytest.raises(FlowBuildError, match="its branches: a, b, c"):
            named.keep(wrong)


def test_the_value_chooses_the_branches() -> None:
    async def choose(x: Any) -> Any:
        return x["which"]

    flow = Parallel(a=lambda x: 1, b=lambda x: 2, choose=choose)
    assert flow({"which": ["a"]}) == {"a": 1}
    assert flow({"which": "b"}) == {"b": 2}
    assert flow({"which": []}) == {}
    assert flow.skip("a")({"which": ["a", "b"]}) == {"b": 2}
    for wrong in (["c"], None, [7]):
        with pytest.raises(FlowCallError, match="choose= of"):
            flow({"which": wrong})


def test_a_post_step_is_given_the_results() -> None:
    async def words(total: int) -> AsyncIterator[str]:
        for i in range(total):
            yield f"{i} "

    flow = Parallel(len, len, collect=sum, post=words)
    assert flow("ab") == "0 1 2 3 "
    assert list(flow.stream("a").text()) == ["0 ", "1 "]
    assert Warp(len, post=sum)(["a", "bc"]) == 3
    with pytest.raises(FlowBuildError, match="collect=3"):
        Parallel(len, collect=3)  # type: ignore[arg-type]
