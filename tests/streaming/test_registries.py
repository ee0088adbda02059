"""The memory queue: runs by their ids, and what is left of them until it expires."""

from __future__ import annotations

import asyncio
import gc
import os
import weakref
from typing import Any

import pytest

from millrace import Pipeline
from millrace.streaming import (
    EventsExpired,
    MemoryQueue,
    QueueFull,
    RemoteError,
    RunUnknown,
    attach,
    status,
)
from millrace.streaming.registries import AT_ONCE, MEMORY
from tests.streaming.parts import Gate, count, seen
from tests.support.leaks import eventually


class Large:
    """A result that may be of any size."""


def run_of(n: int, **options: Any) -> Any:
    run = Pipeline(count).start(n, **options)
    run.result(5)
    return run


def test_a_run_is_found_once_somebody_asks_for_its_id() -> None:
    gate, before = Gate(), {info.id for info in MEMORY.runs()}
    with Pipeline(gate.pieces).stream(3) as stream:
        assert {info.id for info in MEMORY.runs()} - before == set()
        run_id = stream.run.id
        assert {info.id for info in MEMORY.runs()} - before == {run_id}
        assert attach(run_id).status == "running"
        gate.let(3)
        whole = seen(stream)
    assert attach(run_id).status == "done"
    assert seen(attach(run_id)) == whole


def test_an_id_that_is_asked_for_at_the_end() -> None:
    run = Pipeline(count).start(3)
    run.wait_sync(5)
    assert seen(attach(run.id)) == seen(run.events())


def test_what_is_known() -> None:
    gate = Gate()
    run = Pipeline(gate.pieces, name="gated").start(5, session="alice")
    eventually(lambda: attach(run.id).info.events == 2)
    info = attach(run.id).info
    assert (info.id, info.status, info.session, info.name) == (run.id, "running", "alice", "gated")
    assert (info.writer, info.ended) == (os.getpid(), None)
    assert [one.id for one in MEMORY.runs() if one.id == run.id] == [run.id]
    gate.let(5)
    run.result(5)
    over = attach(run.id).info
    assert (over.status, over.events, over.created) == ("done", 9, pytest.approx(info.created, abs=0.5))
    assert over.ended is not None
    assert over.ended >= over.created
    assert over.size is not None
    assert over.size > 500


def test_what_is_left_of_a_stream_is_its_end() -> None:
    with Pipeline(count).stream(1000) as stream:
        run_id = stream.run.id
        whole = seen(stream)
    assert len(whole) == 1004
    assert seen(attach(run_id, after=1004 - 256)) == whole[-256:]
    with pytest.raises(EventsExpired, match=r"those from \d+ on are"):
        attach(run_id, after=0)
    with pytest.raises(EventsExpired, match="has said 1004 events so far"):
        attach(run_id, after=1005)


def test_a_run_that_is_over_is_freed() -> None:
    def breaks(x: Any) -> str:
        raise ValueError("with a traceback full of frames")

    run = Pipeline(breaks).start(1)
    run_id, there = run.id, weakref.ref(run)
    run.wait_sync(5)
    eventually(lambda: status().runs == 0)
    del run
    eventually(lambda: gc.collect() >= 0 and there() is None)
    with pytest.raises(RemoteError, match="ValueError: with a traceback"):
        attach(run_id).result(5)


def says(result: Any) -> Any:
    """A step that says nothing on its way, and comes to `result`."""

    async def gives(x: Any) -> Any:
        return result

    return Pipeline(gives)


@pytest.mark.parametrize("many", [1, AT_ONCE - 1, AT_ONCE, AT_ONCE + 1, 3 * AT_ONCE + 5])
def test_runs_that_said_little_are_all_found(many: int) -> None:
    queue = MemoryQueue()
    runs = [says(f"result {i}").start(i, queue=queue) for i in range(many)]
    for run in runs:
        run.result(5)
    assert len(queue) == many
    for i, run in enumerate(runs):
        found = attach(run.id, queue)
        assert (found.result(5), found.info.events) == (f"result {i}", 4)
        assert seen(attach(run.id, queue)) == seen(run.events())
        assert run.id in {info.id for info in queue.runs()}


def test_of_those_no_more_are_kept_than_may_be() -> None:
    queue = MemoryQueue(runs=3)
    ids = [run.id for i in range(2 * AT_ONCE) if (run := says(i).start(i, queue=queue)).result(5) == i]
    assert {info.id for info in queue.runs()} == set(ids[-3:])
    with pytest.raises(EventsExpired):
        attach(ids[0], queue)


@pytest.mark.parametrize("result", ["x" * 5000, Large(), ValueError])
def test_whatever_holds_more_is_laid_up_at_once(result: Any) -> None:
    """Nothing but a few short texts waits for others: it would be held after its time, and beyond what may be kept."""

    async def gives(x: Any) -> Any:
        if isinstance(result, type):
            raise result
        return result

    queue = MemoryQueue(max_bytes=1)
    run = Pipeline(gives).start(0, queue=queue)
    run.wait_sync(5)
    eventually(lambda: status().runs == 0)
    assert not queue._fresh
    with pytest.raises(EventsExpired):
        attach(run.id, queue)


def test_in_its_time() -> None:
    queue = MemoryQueue(ttl=0.05)
    run = run_of(3, queue=queue)
    assert attach(run.id, queue).result(5) == "0 1 2 "
    eventually(lambda: queue.sweep() or not len(queue))
    with pytest.raises(EventsExpired, match="no longer kept"):
        attach(run.id, queue)
    assert list(queue.runs()) == []
    assert run.text == "0 1 2 "


def test_so_many() -> None:
    queue = MemoryQueue(runs=3)
    ids = [run_of(1, queue=queue).id for _ in range(5)]
    assert {info.id for info in queue.runs()} == set(ids[-3:])
    for run_id in ids[:2]:
        with pytest.raises(EventsExpired):
            attach(run_id, queue)


def test_so_much() -> None:
    async def says(n: int) -> Any:
        yield "x" * n

    queue = MemoryQueue(max_bytes=100_000)
    ids = []
    for n in (30_000, 30_000, 30_000, 40_000):
        run = Pipeline(says).start(n, queue=queue)
        run.result(5)
        ids.append(run.id)
    assert {info.id for info in queue.runs()} == {ids[-1]}  # its piece and its result


def test_unknown_and_expired_are_different() -> None:
    for unknown in ("", "../x", "a\0b", "x" * 10_000, "0" * 32):
        with pytest.raises(RunUnknown) as caught:
            attach(unknown)
        assert len(str(caught.value)) < 200


def test_one_of_its_own_and_the_processs() -> None:
    queue = MemoryQueue()
    run = run_of(3, queue=queue)
    other = run_of(3)
    assert attach(run.id).queue is queue
    assert attach(other.id).queue is MEMORY
    with pytest.raises(RunUnknown):
        attach(other.id, queue)


def test_cancel_by_id() -> None:
    run = Pipeline(count).start(10_000_000)
    attach(run.id).cancel("enough")
    assert asyncio.run(run.wait()) == "cancelled"
    assert run.reason == "enough"
    attach(run.id).cancel("again")
    assert run.reason == "enough"


def test_a_call_that_is_given_a_queue_keeps_everything() -> None:
    queue = MemoryQueue()
    assert Pipeline(count)(1000, queue=queue)
    (info,) = queue.runs()
    assert (info.status, info.events) == ("done", 1004)
    assert len(list(attach(info.id, queue))) == 1004


def test_too_much_for_memory() -> None:
    async def talks(x: int) -> Any:
        for _ in range(x):
            yield "x" * 100_000

    with pytest.raises(QueueFull, match="queue on disk"):
        Pipeline(talks)(1000, queue="memory://")


def test_a_forked_child_has_its_own() -> None:
    run_id = run_of(2).id
    child = os.fork()
    if not child:
        known = True
        try:
            attach(run_id)
        except RunUnknown:
            known = False
        os._exit(1 if known else 0)
    _, code = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(code) == 0
