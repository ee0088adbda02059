"""Attaching to runs of this process: over memory and over files, while they go on and after."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from millrace import Pipeline
from millrace.streaming import (
    EventsExpired,
    FileQueue,
    FlowCallError,
    MemoryQueue,
    Options,
    Progress,
    Queue,
    RemoteError,
    RunCancelled,
    RunFinished,
    RunTimeout,
    RunUnknown,
    StatusChanged,
    TextDelta,
    TokenUsage,
    Usage,
    attach,
    current_run,
    emit,
    start,
)
from tests.streaming.parts import Gate, count, seen, taken
from tests.support.leaks import eventually, leaks


@pytest.fixture(params=["memory", "files"])
def queue(request: pytest.FixtureRequest, tmp_path: Path) -> Queue:
    return MemoryQueue() if request.param == "memory" else FileQueue(tmp_path / "runs")


class TestReading:
    def test_while_it_goes_on_and_after(self, queue: Queue) -> None:
        gate = Gate()
        run = Pipeline(gate.pieces).start(50, queue=queue)
        live = attach(run.id, queue)
        gate.let(20)
        early = taken(live, 22)
        gate.let(30)
        whole = seen([*early, *live])
        assert seen(attach(run.id, queue)) == whole
        assert len(whole) == 54

    def test_as_the_listener_hears_it(self, queue: Queue) -> None:
        with Pipeline(count).stream(100, queue=queue) as stream:
            reader = attach(stream.run.id, queue)
            mine = seen(stream)
        assert seen(reader) == mine

    def test_from_every_place(self, queue: Queue) -> None:
        """While it is written, each reader begins at another place; afterwards again."""
        gate = Gate()
        run = Pipeline(gate.pieces).start(197, queue=queue)
        readers = [attach(run.id, queue)]
        for k in range(1, 198):
            gate.let()
            eventually(lambda k=k: attach(run.id, queue).info.events >= k + 2)  # type: ignore[misc]
            readers.append(attach(run.id, queue, after=k))
        whole = seen(run.events())
        assert len(whole) == 201
        for k, reader in enumerate(readers):
            assert seen(reader) == whole[k:]
        for k in range(202):
            assert seen(attach(run.id, queue, after=k)) == whole[k:]

    def test_text(self, queue: Queue) -> None:
        run = Pipeline(count).start(3, queue=queue)
        assert list(attach(run.id, queue).text()) == ["0 ", "1 ", "2 "]
        silent = Pipeline(lambda x: {"x": x}).start(3, queue=queue)
        assert list(attach(silent.id, queue).text()) == ["{'x': 3}"]

    @pytest.mark.anyio
    async def test_on_a_loop(self, queue: Queue) -> None:
        run = Pipeline(count).start(30, queue=queue)

        async def read() -> str:
            return "".join([piece async for piece in attach(run.id, queue).text()])

        assert await asyncio.gather(read(), read(), read()) == [run.result()] * 3

    def test_in_threads(self, queue: Queue) -> None:
        gate, read = Gate(), [[] for _ in range(5)]  # type: ignore[var-annotated]
        run = Pipeline(gate.pieces).start(60, queue=queue)
        threads = [threading.Thread(target=lambda out=out: out.extend(attach(run.id, queue))) for out in read]
        for thread in threads:
            thread.start()
        gate.let(60)
        for thread in threads:
            thread.join(10)
        assert [seen(events) for events in read] == [seen(run.events())] * 5

    @pytest.mark.anyio
    async def test_a_for_on_the_runs_own_loop_is_refused(self, queue: Queue) -> None:
        async with Pipeline(count).stream(100, queue=queue) as stream:
            with pytest.raises(FlowCallError, match="async for"):
                list(attach(stream.run.id, queue))

    def test_all_kinds_of_values(self, queue: Queue) -> None:
        def talk(x: int) -> Any:
            emit(Progress(0.5, "half \ud800"))
            emit(Usage(3, 4))
            yield "ä\u2028\0"
            yield {"list": [1, 2.5, None, True], "text": "\U0001f30a"}
            yield ""

        with Pipeline(talk).stream(1, queue=queue) as stream:
            mine = list(stream)
        assert seen(attach(stream.run.id, queue)) == seen(mine)
        assert attach(stream.run.id, queue).info.usage == TokenUsage(3, 4)


class TestHowItIs:
    def test_running_then_done(self, queue: Queue) -> None:
        gate = Gate()
        run = Pipeline(gate.pieces, name="gated").start(3, queue=queue, session="alice")
        reader = attach(run.id, queue)
        eventually(lambda: reader.info.events == 2)
        info = reader.info
        assert (info.status, info.name, info.session, info.writer) == (
            "running",
            "gated",
            "alice",
            os.getpid(),
        )
        assert abs(info.created - time.time()) < 60
        gate.let(3)
        assert reader.result(5) == "0 1 2 "
        over = reader.info
        assert (over.status, over.events, over.reason, over.error) == ("done", 7, None, None)
        assert over.size is not None
        assert over.size > 300
        assert seen(reader) == seen(run.events())  # waiting took nothing from the reader

    def test_queued_until_it_is_admitted(self, queue: Queue) -> None:
        admitted = threading.Event()

        async def admission() -> None:
            while not admitted.is_set():
                await asyncio.sleep(0.001)

        async def body(run: Any) -> str:
            await run.put(TextDelta("hello"))
            return "hello"

        run = start(body, Options(queue=queue, admission=admission), "alone")
        assert attach(run.id, queue).status == run.status == "queued"
        admitted.set()
        assert run.result(5) == "hello"
        assert attach(run.id, queue).status == run.status == "done"
        assert [event.kind for event in attach(run.id, queue)] == [
            "run_started",
            "text_delta",
            "run_finished",
        ]

    def test_waiting_for_a_person(self, queue: Queue) -> None:
        answered = threading.Event()

        async def asks(x: int) -> AsyncIterator[str]:
            run = current_run()
            assert run is not None
            yield "may I? "
            with run.waiting():
                while not answered.is_set():
                    await asyncio.sleep(0.001)
            yield "thanks"

        run = Pipeline(asks).start(1, queue=queue)
        eventually(lambda: attach(run.id, queue).status == "waiting")
        assert run.status == "waiting"
        answered.set()
        assert run.result(5) == "may I? thanks"
        marks = [event for event in attach(run.id, queue) if isinstance(event, StatusChanged)]
        assert [(mark.status, mark.path) for mark in marks] == [
            ("waiting", ("asks",)),
            ("running", ("asks",)),
        ]

    def test_a_list_of_all(self, queue: Queue) -> None:
        runs = [Pipeline(count).start(i, queue=queue, session=f"user-{i}") for i in range(5)]
        for run in runs:
            run.wait_sync(5)
        found = {info.id: info for info in queue.runs()}
        assert set(found) == {run.id for run in runs}
        assert [found[run.id].events for run in runs] == [4, 5, 6, 7, 8]
        assert [found[run.id].session for run in runs] == [run.session for run in runs]
        created = [info.created for info in queue.runs()]
        assert created == sorted(created, reverse=True)


class TestStops:
    def test_cancel_by_id(self, queue: Queue) -> None:
        run = Pipeline(count).start(10_000_000, queue=queue)
        reader = attach(run.id, queue)
        reader.cancel("enough")
        assert asyncio.run(reader.wait()) == "cancelled"
        assert (run.status, run.reason) == ("cancelled", "enough")
        with pytest.raises(RunCancelled, match="enough"):
            reader.result(5)
        reader.cancel("again")
        assert reader.info.reason == "enough"
        *_, last = reader
        assert isinstance(last, RunFinished)
        with pytest.raises(RunCancelled):
            list(attach(run.id, queue).text())

    def test_a_deadline(self, queue: Queue) -> None:
        run = Pipeline(count).start(10_000_000, queue=queue, timeout=0.05)
        with pytest.raises(RunTimeout, match="deadline passed"):
            attach(run.id, queue).result(5)
        assert attach(run.id, queue).status == "timeout"

    def test_a_failure_in_words(self, queue: Queue) -> None:
        def breaks(x: int) -> str:
            raise KeyError("no such page")

        run = Pipeline(breaks).start(1, queue=queue)
        run.wait_sync(5)
        with pytest.raises(RemoteError, match="KeyError: 'no such page'") as caught:
            attach(run.id, queue).result(5)
        assert caught.value.__notes__ == run.error.__notes__  # type: ignore[union-attr]
        info = attach(run.id, queue).info
        assert (info.status, info.error) == ("error", "KeyError")

    def test_one_that_goes_on_longer_than_the_patience(self, queue: Queue) -> None:
        gate = Gate()
        run = Pipeline(gate.pieces).start(1, queue=queue)
        with pytest.raises(TimeoutError, match="goes on"):
            attach(run.id, queue).result(0.02)
        gate.let()
        assert attach(run.id, queue).result(5) == "0 "

    def test_patience_is_for_the_end_and_not_for_each_event(self, queue: Queue) -> None:
        async def ticks(n: Any) -> AsyncIterator[str]:
            for _ in range(int(n)):
                yield "."
                await asyncio.sleep(0.01)

        run = Pipeline(ticks).start(200, queue=queue)
        with pytest.raises(TimeoutError, match="goes on"):
            attach(run.id, queue).result(0.1)
        run.cancel()

    def test_waiting_from_behind_the_last_event(self, queue: Queue) -> None:
        run = Pipeline(count).start(2, queue=queue)
        assert run.result(5) == "0 1 "
        last = attach(run.id, queue).info.events
        assert attach(run.id, queue, after=last).result(5) == "0 1 "
        assert asyncio.run(attach(run.id, queue, after=last).wait()) == "done"


class TestErrors:
    IDS = ("../x", "a/b", "", "a\0b", "x" * 10_000, ".", "..", "run", "\ud800", "é" * 200)

    @pytest.mark.parametrize("run_id", IDS, ids=range(len(IDS)))
    def test_ids_of_no_run(self, queue: Queue, run_id: str, tmp_path: Path) -> None:
        Pipeline(count)(1, queue=queue)
        before = sorted(tmp_path.rglob("*"))
        for ask in (attach, lambda run_id, queue: queue.info(run_id), lambda i, q: q.cancel(i, "x")):
            with pytest.raises(RunUnknown) as caught:
                ask(run_id, queue)  # type: ignore[operator]
            assert len(str(caught.value)) < 300
        assert sorted(tmp_path.rglob("*")) == before

    def test_looking_makes_no_directory(self, tmp_path: Path) -> None:
        url = f"file://{tmp_path}/typo"
        with pytest.raises(RunUnknown, match="no such directory"):
            attach("0" * 32, url)
        assert list(FileQueue(tmp_path / "typo").runs()) == []
        assert not (tmp_path / "typo").exists()

    def test_expired_unknown_and_ahead_are_told_apart(self, tmp_path: Path) -> None:
        queue = FileQueue(tmp_path, ttl=0.1)
        run = Pipeline(count).start(3, queue=queue)
        run.result(5)
        with pytest.raises(EventsExpired, match="after=100"):
            attach(run.id, queue, after=100)
        assert attach(run.id, queue).result(5)

        def gone() -> bool:
            try:
                attach(run.id, queue).close()
            except EventsExpired:
                return True
            return False

        eventually(gone)
        with pytest.raises(EventsExpired, match="expired"):
            queue.info(run.id)
        with pytest.raises(RunUnknown):
            attach("0" * 32, queue)
        assert list(queue.runs()) == []


def test_a_reader_gives_back_what_it_took(tmp_path: Path) -> None:
    queue, gate = FileQueue(tmp_path), Gate()
    with leaks(10, ("millrace-files",)):
        run = Pipeline(gate.pieces).start(5, queue=queue)
        left = [attach(run.id, queue) for _ in range(5)]
        for reader in left:
            taken(reader, 2)
            assert reader.next_within(0.001) is None
        left[0].close()
        with left[1]:
            pass
        gate.let(5)
        list(left[2])
        del left, reader
        assert run.result(5)
        del run


def test_whoever_has_waited_for_the_end_finds_it_written_down(tmp_path: Path) -> None:
    at_it, go_on = threading.Event(), threading.Event()

    class Slow(Exception):
        def __str__(self) -> str:
            if run.over:
                at_it.set()
                assert go_on.wait(5)
            return "slow"

    gate = threading.Event()

    def breaks(x: int) -> str:
        gate.wait(5)
        raise Slow

    queue = FileQueue(tmp_path / "runs")
    run = Pipeline(breaks).start(1, queue=queue)
    gate.set()
    assert at_it.wait(5)
    assert run.over
    assert not run.wait_sync(0.05)
    go_on.set()
    assert run.wait_sync(5)
    assert queue.info(run.id).status == "error"


def test_a_damaged_run_does_not_hide_the_others(tmp_path: Path) -> None:
    queue, gate = FileQueue(tmp_path / "runs"), Gate()
    damaged = Pipeline(gate.pieces).start(10, queue=queue)
    gate.let(9)
    eventually(lambda: queue.info(damaged.id).events > 8)
    (file,) = (tmp_path / "runs").glob("*.run")
    with file.open("r+b") as written:
        written.seek(-200, os.SEEK_END)
        written.write(b"\xff" * 40)
    other = Pipeline(count).start(1, queue=queue)
    other.wait_sync(5)
    assert [info.id for info in queue.runs()] == [other.id]
    gate.let()
    damaged.wait_sync(5)
