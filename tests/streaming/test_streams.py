"""Every way of leaving a stream stops the work behind it."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from millrace import Pipeline
from millrace.streaming import (
    FlowCallError,
    RunCancelled,
    RunFinished,
    RunTimeout,
    Stream,
    TextDelta,
    cancelled,
    check_cancelled,
    current_run,
    status,
)
from tests.support.leaks import eventually, eventually_async

MANY = 1_000_000


class Producer:
    """Counts what it makes and how often it was cleaned up; far from its end whenever it is stopped."""

    def __init__(self) -> None:
        self.made = 0
        self.cleaned = 0

    async def pausing(self, x: Any) -> AsyncIterator[str]:
        try:
            for i in range(MANY):
                self.made += 1
                yield f"{i} "
                await asyncio.sleep(0)
        finally:
            self.cleaned += 1

    async def torrent(self, x: Any) -> AsyncIterator[str]:
        try:
            for i in range(MANY):
                self.made += 1
                yield f"{i} "
        finally:
            self.cleaned += 1

    async def stuck(self, x: Any) -> AsyncIterator[str]:
        try:
            for i in range(10):
                self.made += 1
                yield f"{i} "
            await asyncio.Event().wait()
        finally:
            self.cleaned += 1

    def threaded(self, x: Any) -> Iterator[str]:
        try:
            for i in range(MANY):
                self.made += 1
                yield f"{i} "
        finally:
            self.cleaned += 1


KINDS = ("pausing", "torrent", "stuck", "threaded")


@pytest.fixture
def producer() -> Producer:
    return Producer()


@pytest.fixture(params=KINDS)
def flow(request: pytest.FixtureRequest, producer: Producer) -> Pipeline[Any, str]:
    return Pipeline(getattr(producer, request.param))


def stopped(producer: Producer, made: int, ahead: int = 2) -> None:
    """At most `ahead` more items than at the stop, cleaned up once, nothing live."""
    eventually(lambda: producer.cleaned == 1 and status() == type(status())(0, 0))
    assert producer.made - made <= ahead
    assert producer.made < MANY / 2


async def stopped_async(producer: Producer, made: int, ahead: int = 2) -> None:
    await eventually_async(lambda: producer.cleaned == 1 and status() == type(status())(0, 0))
    assert producer.made - made <= ahead
    assert producer.made < MANY / 2


# ---------------------------------------------------------------- break


def test_break_out_of_a_bare_for(flow: Pipeline[Any, str], producer: Producer) -> None:
    for piece in flow.stream(0).text():
        if piece == "5 ":
            made = producer.made
            break
    stopped(producer, made, ahead=400)  # until the cut it runs ahead, by the bound and the generator's own


def test_after_the_cut_a_thread_makes_at_most_two_more(producer: Producer) -> None:
    reader = iter(Pipeline(producer.threaded).stream(0).text())
    next(reader)
    eventually(lambda: producer.made > 256)  # it stands at the bound
    made = producer.made
    del reader
    stopped(producer, made)


@pytest.mark.anyio
@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("view", [Stream.text, lambda stream: stream])
async def test_break_out_of_async_for(
    flow: Pipeline[Any, str], producer: Producer, named: bool, view: Callable[[Stream], Any]
) -> None:
    seen, made = 0, 0
    stream = flow.stream(0) if named else None
    async for _ in view(stream if stream is not None else flow.stream(0)):
        seen += 1
        if seen == 5:
            made = producer.made
            break
    await stopped_async(producer, made, ahead=400 if producer.made > 10 else 2)


@pytest.mark.anyio
async def test_break_stops_at_once(producer: Producer) -> None:
    async for piece in Pipeline(producer.torrent).stream(0).text():
        if piece == "3 ":
            break
    made = producer.made
    await stopped_async(producer, made)


@pytest.mark.anyio
async def test_an_exception_in_the_consumer(flow: Pipeline[Any, str], producer: Producer) -> None:
    with pytest.raises(KeyError) as kept:
        async for piece in flow.stream(0).text():
            if piece == "5 ":
                raise KeyError(piece)
    made = producer.made
    await stopped_async(producer, made, ahead=80)
    assert kept.value.args == ("5 ",)


@pytest.mark.anyio
async def test_a_dropped_reader_stops_without_the_garbage_collector(producer: Producer) -> None:
    gc.disable()
    try:
        reader = aiter(Pipeline(producer.pausing).stream(0))
        for _ in range(3):
            await anext(reader)
        run = weakref.ref(reader.run)  # type: ignore[attr-defined]
        del reader
        await stopped_async(producer, producer.made)
        await eventually_async(lambda: run() is None)
    finally:
        gc.enable()


@pytest.mark.anyio
async def test_a_stream_that_nobody_reads_starts_nothing(
    flow: Pipeline[Any, str], producer: Producer
) -> None:
    stream = flow.stream(0)
    stream.text()
    del stream
    await asyncio.sleep(0)
    assert producer.made == 0
    assert status().runs == 0


# ---------------------------------------------------------------- blocks


def test_leaving_a_block(flow: Pipeline[Any, str], producer: Producer) -> None:
    with flow.stream(0) as stream:
        events = iter(stream)
        while not isinstance(next(events), TextDelta):
            pass
    assert stream.run.status == "cancelled"
    assert stream.run.reason == "listener left"
    assert stream.run.text == "0 "
    stopped(producer, producer.made)


@pytest.mark.anyio
async def test_leaving_an_async_block(flow: Pipeline[Any, str], producer: Producer) -> None:
    async with flow.stream(0) as stream:
        async for event in stream:
            if isinstance(event, TextDelta):
                break
        assert stream.run.status == "running"  # a block holds the stream; only leaving it stops the run
        pieces = [piece async for piece in limited(stream.text(), 3)]
    assert pieces == ["1 ", "2 ", "3 "]
    assert stream.run.status == "cancelled"
    assert stream.run.text == "0 1 2 3 "
    await stopped_async(producer, producer.made)


async def limited(items: Any, count: int) -> AsyncIterator[Any]:
    async for item in items:
        yield item
        count -= 1
        if not count:
            return


@pytest.mark.anyio
async def test_cleanup_is_over_when_the_block_is_left() -> None:
    cleaned = []

    async def slow_to_clean(x: Any) -> AsyncIterator[str]:
        try:
            while True:
                yield "x"
                await asyncio.sleep(0)
        finally:
            for _ in range(20):
                await asyncio.sleep(0)
            cleaned.append(True)

    async with Pipeline(slow_to_clean).stream(0) as stream:
        async for _ in stream.text():
            break
    assert cleaned == [True]
    with Pipeline(slow_to_clean).stream(0) as stream:
        for _ in stream.text():
            break
    assert cleaned == [True, True]


@pytest.mark.anyio
async def test_left_before_the_task_has_begun() -> None:
    producer = Producer()
    async with Pipeline(producer.torrent).stream(0) as stream:
        pass
    assert stream.run.status == "cancelled"
    assert producer.made == 0
    kinds = []
    with pytest.raises(RunCancelled):
        async with Pipeline(producer.torrent).stream(0) as stream:
            stream.run.cancel("at once")
            async for event in stream:
                kinds.append(event.kind)
    assert kinds == ["run_finished"]  # the cursor jumps to the end
    stream = Pipeline(producer.torrent).stream(0)
    reader = aiter(stream)
    del reader
    await stream.run.wait()
    assert status().runs == 0


def test_a_loop_that_closes_ends_its_runs() -> None:
    runs = []

    async def leaves() -> None:
        stream = Pipeline(Producer().stuck).stream(0)
        runs.append(stream)
        await stream.__aenter__()

    asyncio.run(leaves())
    assert runs[0].run.status == "cancelled"
    assert status().runs == 0


def test_close_twice_and_after_the_end() -> None:
    stream = Pipeline(str).stream(1)
    stream.close()
    assert list(stream.text()) == ["1"]
    stream.close()
    assert stream.result == "1"


# ---------------------------------------------------------------- cancel, deadline, stop_when


@pytest.mark.anyio
async def test_cancel_is_told_to_the_listener(flow: Pipeline[Any, str], producer: Producer) -> None:
    events: list[Any] = []
    with pytest.raises(RunCancelled, match="enough") as raised:
        async with flow.stream(0) as stream:
            async for event in stream:
                events.append(event)
                if len(events) == 5:
                    stream.run.cancel("enough")
    assert raised.value.reason == "enough"
    assert isinstance(events[-1], RunFinished)
    assert events[-1].status == "cancelled"
    assert sum(isinstance(event, RunFinished) for event in events) == 1
    assert len(events) == 6  # the cursor jumps to the end
    await stopped_async(producer, producer.made)


@pytest.mark.anyio
@pytest.mark.parametrize("where", ["task", "thread", "other loop"])
async def test_cancel_from_anywhere(where: str, producer: Producer) -> None:
    async def cancel(stream: Stream) -> None:
        stream.run.cancel(where)

    with pytest.raises(RunCancelled, match=where):
        async with Pipeline(producer.stuck).stream(0) as stream:
            async for piece in stream.text():
                if piece == "9 ":
                    if where == "task":
                        await asyncio.create_task(cancel(stream))
                    elif where == "thread":
                        await asyncio.to_thread(stream.run.cancel, where)
                    else:
                        await asyncio.to_thread(asyncio.run, cancel(stream))
    await stopped_async(producer, producer.made)


def test_a_deadline(flow: Pipeline[Any, str], producer: Producer) -> None:
    with pytest.raises(RunTimeout) as raised:
        for _ in flow.stream(0, timeout=0.05).text():
            pass
    assert isinstance(raised.value, TimeoutError)
    stopped(producer, producer.made)
    with pytest.raises(RunTimeout):
        flow(0, timeout=0.05)
    eventually(lambda: producer.cleaned == 2)


def test_what_is_left_of_a_deadline_counts_for_all_below() -> None:
    async def told(x: Any) -> list[float | None]:
        run = current_run()
        assert run is not None
        outer = run.time_left
        inner = await Pipeline(told_inside).acall(x, session="another")
        return [outer, inner]

    async def told_inside(x: Any) -> float | None:
        run = current_run()
        assert run is not None
        return run.time_left

    assert Pipeline(told)(0) == [None, None]
    outer, inner = Pipeline(told)(0, timeout=9)
    assert 8 < inner <= outer <= 9


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), "3"])
def test_a_deadline_that_is_none(timeout: Any) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Pipeline(str).stream(1, timeout=timeout)


def test_stop_when(producer: Producer) -> None:
    seen: list[str] = []

    def enough(text: str) -> bool:
        seen.append(text)
        return text.endswith("2 ")

    with Pipeline(producer.pausing).stream(0, stop_when=enough) as stream:
        assert list(stream.text()) == ["0 ", "1 ", "2 "]
        assert stream.result == "0 1 2 "
    assert seen == ["0 ", "0 1 ", "0 1 2 "]
    assert stream.run.status == "done"
    assert stream.run.reason == "stop_condition"
    stopped(producer, producer.made)


@pytest.mark.anyio
async def test_asyncio_timeout_around_a_bare_loop(producer: Producer) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            async for _ in Pipeline(producer.stuck).stream(0).text():
                pass
    await stopped_async(producer, producer.made)


@pytest.mark.anyio
async def test_outer_cancellation_of_acall(flow: Pipeline[Any, str], producer: Producer) -> None:
    task = asyncio.create_task(flow.acall(0))
    await eventually_async(lambda: producer.made > 3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await stopped_async(producer, producer.made, ahead=64)


@pytest.mark.anyio
async def test_a_step_that_swallows_the_cancel_is_cancelled_all_the_same() -> None:
    swallowed = []

    async def stubborn(x: Any) -> AsyncIterator[str]:
        while len(swallowed) < 3:
            try:
                yield "x"
                await asyncio.sleep(0.001)
            except asyncio.CancelledError:
                swallowed.append(True)

    async with Pipeline(stubborn).stream(0) as stream:
        assert [piece async for piece in limited(stream.text(), 3)] == ["x"] * 3
    assert stream.run.status == "cancelled"
    assert swallowed


@pytest.mark.anyio
async def test_cleanup_that_fails_leaves_the_run_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    async def messy(x: Any) -> AsyncIterator[str]:
        try:
            while True:
                yield "x"
                await asyncio.sleep(0)
        finally:
            raise ValueError("cleanup")

    async with Pipeline(messy).stream(0) as stream:
        async for _ in stream.text():
            break
    assert stream.run.status == "cancelled"
    assert "cleanup" in caplog.text


# ---------------------------------------------------------------- functions in threads


def test_a_blocked_function_is_abandoned_and_counted() -> None:
    go_on, began = threading.Event(), threading.Event()

    def blocked(x: Any) -> str:
        began.set()
        go_on.wait(10)
        return "late"

    with Pipeline(blocked).stream(0) as stream:
        began.wait(5)
    assert stream.run.status == "cancelled"
    assert status().runs == 0
    assert status().abandoned == 1
    go_on.set()
    eventually(lambda: status().abandoned == 0)


def test_a_function_can_ask() -> None:
    began, asked = threading.Event(), []

    def polite(x: Any) -> None:
        began.set()
        while not cancelled():
            pass
        try:
            check_cancelled()
        except RunCancelled as error:
            asked.append(error.reason)

    with Pipeline(polite).stream(0):
        began.wait(5)
    eventually(lambda: asked == ["listener left"])
    eventually(lambda: status().abandoned == 0)


def test_no_function_starts_after_the_stop() -> None:
    go_on, began, later = threading.Event(), threading.Event(), []

    def first(x: Any) -> None:
        began.set()
        go_on.wait(5)

    with Pipeline(first, later.append).stream(0):
        began.wait(5)
    go_on.set()
    eventually(lambda: status().abandoned == 0)
    assert later == []


# ---------------------------------------------------------------- reading


@pytest.mark.parametrize("made", [lambda stream: stream, lambda stream: stream.text()])
def test_a_stream_is_read_by_a_loop_and_says_so(made: Callable[[Stream], Any]) -> None:
    stream = made(Pipeline(Producer().pausing).stream(0))
    with pytest.raises(FlowCallError, match="loop over it, or take its items one by one"):
        next(stream)

    async def wait() -> None:
        await stream

    with pytest.raises(FlowCallError, match=r"await flow\.acall"):
        asyncio.run(wait())
    assert status().runs == 0


@pytest.mark.anyio
async def test_results_before_and_after_the_end() -> None:
    stream = Pipeline(str).stream(5)
    with pytest.raises(FlowCallError, match="not started"):
        _ = stream.run
    assert [piece async for piece in stream.text()] == ["5"]
    assert stream.result == "5"
    unread = Pipeline(Producer().stuck).stream(5)
    async with unread:
        with pytest.raises(FlowCallError, match="not at its end"):
            _ = unread.result
    assert (await asyncio.to_thread(lambda: Pipeline(str).stream(6).result)) == "6"


def test_text_of_what_did_not_stream_comes_once() -> None:
    for value in (0, None, "", [], 1.5):
        assert list(Pipeline(lambda x: x).stream(value).text()) == [str(value)]


@pytest.mark.anyio
async def test_an_error_reaches_the_reader_once_as_itself() -> None:
    async def fails(x: Any) -> AsyncIterator[str]:
        yield "a"
        raise LookupError("gone")

    pieces = []
    with pytest.raises(LookupError, match="gone") as raised:
        async for piece in Pipeline(fails, name="answer").stream(0).text():
            pieces.append(piece)
    assert pieces == ["a"]
    assert len(raised.value.__notes__) == 1
    assert raised.value.__notes__[0].startswith("in answer > fails (test_streams.py:")


@pytest.mark.anyio
async def test_backpressure() -> None:
    producer = Producer()
    async with Pipeline(producer.torrent).stream(0) as stream:
        reader = aiter(stream.text())
        await anext(reader)
        for _ in range(100):
            await asyncio.sleep(0)
        assert producer.made <= 260
        for _ in range(1000):
            await anext(reader)
        assert 1000 < producer.made <= 1300


@pytest.mark.anyio
async def test_only_one_may_wait() -> None:
    async with Pipeline(Producer().stuck).stream(0) as stream:
        pieces = [piece async for piece in limited(stream.text(), 10)]
        assert len(pieces) == 10
        waiting = asyncio.create_task(anext(aiter(stream)))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        with pytest.raises(FlowCallError, match="one listener"):
            await anext(aiter(stream))
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert stream.run.status == "running"


def test_inside_a_step_a_stream_is_a_child() -> None:
    producer = Producer()
    children = []

    async def outer(x: Any) -> AsyncIterator[str]:
        async for piece in Pipeline(producer.pausing).stream(x).text():
            children.append(current_run())
            yield piece
            if piece == "3 ":
                break
        yield "still here"
        async for piece in Pipeline(producer.pausing).stream(x).text():
            yield piece

    said = []
    for piece in Pipeline(outer).stream(0).text():
        said.append(piece)
        if piece == "2 " and "still here" in said:
            break
    assert said == ["0 ", "1 ", "2 ", "3 ", "still here", "0 ", "1 ", "2 "]
    eventually(lambda: producer.cleaned == 2 and status().runs == 0)


# ---------------------------------------------------------------- many


@pytest.mark.anyio
async def test_sixty_four_at_once_half_of_them_without_a_session() -> None:
    async def nonces(x: int) -> AsyncIterator[str]:
        for i in range(200):
            yield f"{x}:{i}"
            await asyncio.sleep(0)

    flow = Pipeline(nonces)

    async def listen(i: int) -> None:
        stream = flow.stream(i, session=f"user-{i % 4}" if i % 2 else None)
        assert [piece async for piece in stream.text()] == [f"{i}:{k}" for k in range(200)]

    await asyncio.gather(*(listen(i) for i in range(64)))


@pytest.mark.anyio
async def test_two_in_one_gather_without_ids() -> None:
    async def letters(x: str) -> AsyncIterator[str]:
        for _ in range(300):
            yield x
            await asyncio.sleep(0)

    async def read(x: str) -> str:
        return "".join([piece async for piece in Pipeline(letters).stream(x).text()])

    assert await asyncio.gather(read("a"), read("b")) == ["a" * 300, "b" * 300]


def test_threads_at_once() -> None:
    def numbers(x: int) -> Iterator[str]:
        for i in range(300):
            yield f"{x}:{i}"

    wrong: list[Any] = []

    def listen(i: int) -> None:
        got = list(Pipeline(numbers).stream(i).text())
        if got != [f"{i}:{k}" for k in range(300)]:
            wrong.append(got)

    threads = [threading.Thread(target=listen, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert wrong == []


@pytest.mark.anyio
async def test_driven_alternately_from_two_tasks_and_two_threads() -> None:
    stream = Pipeline(Producer().pausing).stream(0)
    async with stream:
        reader = aiter(stream.text())
        got = [await asyncio.create_task(anext(reader)) for _ in range(6)]  # type: ignore[arg-type]
    assert got == [f"{i} " for i in range(6)]

    def by_threads() -> list[str]:
        pieces: list[str] = []
        with Pipeline(Producer().pausing).stream(0) as stream:
            reader = iter(stream.text())
            for _ in range(6):
                thread = threading.Thread(target=lambda: pieces.append(next(reader)))
                thread.start()
                thread.join(5)
        return pieces

    assert await asyncio.to_thread(by_threads) == got
