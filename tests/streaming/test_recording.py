"""Runs that are recorded: what cannot be kept is refused at that yield, and the listener hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from millrace import Parallel, Pipeline
from millrace.streaming import (
    Data,
    FileQueue,
    Options,
    QueueError,
    QueueFull,
    RunFinished,
    Stream,
    TextDelta,
    TokenUsage,
    attach,
    emit,
    start,
    status,
)
from millrace.streaming.recording import RecordedLog, StoredLog
from tests.streaming.parts import count, seen
from tests.support.leaks import eventually


class Opaque:
    """What no queue on disk can keep."""


@pytest.fixture
def queue(tmp_path: Path) -> FileQueue:
    return FileQueue(tmp_path / "runs")


def listened(flow: Any, queue: FileQueue) -> Any:
    return flow.stream(1, queue=queue).result


def started(flow: Any, queue: FileQueue) -> Any:
    return flow.start(1, queue=queue).result(10)


def called(flow: Any, queue: FileQueue) -> Any:
    return flow(1, queue=queue)


ways = pytest.mark.parametrize("run", [listened, started, called])


class TestWhatIsNoJson:
    @ways
    def test_it_is_refused_at_that_yield(self, queue: FileQueue, run: Callable[..., Any]) -> None:
        after, cleaned = [], []

        async def talks(x: int) -> AsyncIterator[Any]:
            try:
                yield "a"
                yield Opaque()
                after.append(x)
                yield "b"
            finally:
                cleaned.append(x)

        with pytest.raises(QueueError, match="the step 'talks' said a Opaque that is no JSON") as caught:
            run(Pipeline(talks), queue)
        assert "in talks" in caught.value.__notes__[0]
        assert (after, cleaned) == ([], [1])
        (info,) = queue.runs()
        assert (info.status, info.error) == ("error", "QueueError")
        events = list(attach(info.id, queue))
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert [event.text for event in events if isinstance(event, TextDelta)] == ["a"]

    @ways
    def test_a_generator_in_a_thread_too(self, queue: FileQueue, run: Callable[..., Any]) -> None:
        def talks(x: int) -> Any:
            yield Opaque()
            for i in range(1_000_000):
                yield str(i)

        with pytest.raises(QueueError, match="Opaque"):
            run(Pipeline(talks), queue)
        eventually(lambda: status() == type(status())(0, 0))

    @ways
    def test_on_the_way_to_another_step(self, queue: FileQueue, run: Callable[..., Any]) -> None:
        async def talks(x: int) -> AsyncIterator[Any]:
            yield Opaque()

        async def eats(items: AsyncIterator[Any]) -> int:
            return len([item async for item in items])

        with pytest.raises(QueueError, match="Opaque"):
            run(Pipeline(talks, eats), queue)
        with pytest.raises(QueueError, match="Opaque"):
            run(Pipeline(Parallel(talks, count), lambda a, b: len(a) + len(b)), queue)

    @ways
    def test_values_between_steps_are_free(self, queue: FileQueue, run: Callable[..., Any]) -> None:
        assert run(Pipeline(lambda x: Opaque(), lambda opaque: "made"), queue) == "made"

    @ways
    def test_a_result(self, queue: FileQueue, run: Callable[..., Any]) -> None:
        with pytest.raises(QueueError, match="the run's result is a Opaque"):
            run(Pipeline(lambda x: Opaque()), queue)
        (info,) = queue.runs()
        assert info.status == "error"

    @ways
    def test_what_is_emitted(self, queue: FileQueue, run: Callable[..., Any]) -> None:
        def talks(x: int) -> str:
            emit(Data(Opaque()))
            return "not told"

        with pytest.raises(QueueError, match="Opaque"):
            run(Pipeline(talks), queue)

    def test_in_memory_anything_goes(self) -> None:
        result = Pipeline(lambda x: Opaque()).start(1, queue="memory://").result(5)
        assert isinstance(result, Opaque)

    def test_a_reader_gets_what_json_makes_of_it(self, queue: FileQueue) -> None:
        async def talks(x: int) -> AsyncIterator[Any]:
            yield (1, (2, 3))
            yield {4: "four"}

        run = Pipeline(talks).start(1, queue=queue)
        assert run.result(5) == [(1, (2, 3)), {4: "four"}]
        assert attach(run.id, queue).result(5) == [[1, [2, 3]], {"4": "four"}]


class TestTooMuch:
    @ways
    def test_more_than_the_queue_holds(self, tmp_path: Path, run: Callable[..., Any]) -> None:
        queue = FileQueue(tmp_path, max_bytes=50_000)

        async def talks(x: int) -> AsyncIterator[str]:
            for _ in range(1000):
                yield "x" * 1000

        with pytest.raises(QueueFull, match="raise max_bytes"):
            run(Pipeline(talks), queue)
        (info,) = queue.runs()
        assert (info.status, info.error) == ("error", "QueueFull")
        assert 40 < info.events < 50

    def test_a_long_run_without_a_listener_is_not_held_in_memory(self, queue: FileQueue) -> None:
        async def talks(x: int) -> AsyncIterator[Any]:
            for _ in range(400):
                yield ["x" * 100_000]  # 40 MB; a memory queue takes 16

        run = Pipeline(talks, len).start(1, queue=queue)
        assert run.result(30) == 400
        assert attach(run.id, queue).info.size > 40_000_000  # type: ignore[operator]


class Fails:
    """A writer on a disk that breaks after some records."""

    def __init__(self, good: int) -> None:
        self.left = good
        self.records: list[bytes] = []
        self.abandoned = 0

    def append(self, record: bytes) -> None:
        if not self.left:
            raise QueueError("the disk is broken")
        self.left -= 1
        self.records.append(record)

    end = append

    def abandon(self) -> None:
        self.abandoned += 1


class Broken:
    """A queue on such a disk."""

    url = "broken://"

    def __init__(self, good: int) -> None:
        self.writer = Fails(good)

    def open_log(self, run: Any, listener: Any) -> Any:
        if listener is None:
            return StoredLog(self.writer, self.read)
        return RecordedLog(listener, self.writer, self.read)

    def read(self, *args: Any) -> Any:
        raise QueueError("the disk is broken")

    info = runs = cancel = read


class TestABrokenDisk:
    @ways
    def test_the_run_fails_with_it_and_is_given_up(
        self, run: Callable[..., Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        queue = Broken(5)
        with pytest.raises(QueueError, match="the disk is broken"):
            run(Pipeline(count_to_1000), queue)
        assert len(queue.writer.records) == 5
        assert queue.writer.abandoned == 1
        assert "could not be recorded" in caplog.text

    def test_the_listener_has_heard_what_was_recorded(self, caplog: pytest.LogCaptureFixture) -> None:
        queue, heard = Broken(5), []
        with pytest.raises(QueueError, match="broken"):
            heard.extend(Pipeline(count_to_1000).stream(1, queue=queue))
        events = []
        with Pipeline(count_to_1000).stream(1, queue=Broken(5)) as stream:
            reader = iter(stream)
            while True:
                event = next(reader)
                events.append(event)
                if isinstance(event, RunFinished):
                    break
        assert len(events) == 6
        assert (events[-1].status, type(events[-1].error)) == ("error", QueueError)  # type: ignore[attr-defined]

    def test_no_room_for_the_end_alone(self, caplog: pytest.LogCaptureFixture) -> None:
        queue = Broken(5)
        assert Pipeline(count)(2, queue=queue) == "0 1 "
        assert queue.writer.abandoned == 1


async def count_to_1000(x: Any) -> AsyncIterator[str]:
    async for piece in count(1000):
        yield piece


class TestWithoutAFlow:
    @pytest.mark.anyio
    async def test_a_stream_of_a_coroutine(self, queue: FileQueue) -> None:
        async def body(run: Any) -> str:
            for i in range(1000):
                await run.put(TextDelta(f"{i} "))
            return "counted"

        async with Stream(body, Options(session="alice", queue=queue), name="counting") as stream:
            events = [event async for event in stream]
            assert stream.result == "counted"
            assert stream.run.session == "alice"
        assert len(events) == 1002
        assert seen(attach(stream.run.id, queue)) == seen(events)
        assert attach(stream.run.id, queue).info.name == "counting"

    def test_its_listener_is_waited_for(self, queue: FileQueue) -> None:
        said = []

        async def body(run: Any) -> None:
            for i in range(100_000):
                await run.put(TextDelta(f"{i} "))
                said.append(i)

        with Stream(body, Options(queue=queue)) as stream:
            next(iter(stream))
            eventually(lambda: len(said) >= 250)
        assert len(said) < 1000
        assert stream.run.status == "cancelled"

    def test_a_run_that_goes_on_alone(self, queue: FileQueue) -> None:
        async def body(run: Any) -> dict[str, int]:
            await run.put(Data({"half": 1}))
            return {"whole": 2}

        run = start(body, Options(queue=queue))
        assert run.result(5) == {"whole": 2}
        assert [event.kind for event in attach(run.id)] == ["run_started", "data", "run_finished"]

    def test_what_is_put_and_cannot_be_kept(self, queue: FileQueue) -> None:
        async def body(run: Any) -> None:
            await run.put(Data(Opaque()))

        with pytest.raises(QueueError, match="the flow said a Opaque"):
            start(body, Options(queue=queue)).result(5)


@pytest.mark.parametrize("where", ["memory", "files"])
def test_a_producer_that_never_waits_lets_others_run(queue: FileQueue, where: str) -> None:
    async def torrent(x: int) -> AsyncIterator[str]:
        for i in range(10_000_000):
            yield str(i)

    async def neighbour(x: int) -> str:
        for _ in range(10):
            await asyncio.sleep(0)
        return "done"

    run = Pipeline(torrent).start(1, queue=queue if where == "files" else None)
    assert Pipeline(neighbour)(1) == "done"
    assert run.status == "running"
    run.cancel()
    assert run.wait_sync(5)


def test_the_end_of_a_run_is_its_last_record(queue: FileQueue) -> None:
    run = Pipeline(count).start(2, queue=queue)
    run.result(5)
    log = run.log
    assert log is not None
    assert not log.put(TextDelta("late"), ())
    assert isinstance(list(attach(run.id, queue))[-1], RunFinished)
    assert run.usage == TokenUsage()
