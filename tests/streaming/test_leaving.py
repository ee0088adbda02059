"""Every way of leaving a stream stops the work behind it."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from millrace import Pipeline
from millrace.streaming import RunCancelled, Stream, TextDelta, status
from tests.streaming.producers import Producer, limited, stopped, stopped_async
from tests.support.leaks import eventually, eventually_async

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
