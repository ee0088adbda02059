"""A stream as it is read: by one listener, at the listener's pace, to its result or its error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from millrace import Pipeline
from millrace.streaming import FlowCallError, Stream, current_run, status
from tests.streaming.producers import Producer, limited
from tests.support.leaks import eventually


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


@pytest.mark.anyio
async def test_nobody_waits_for_a_run_on_the_loop_that_it_needs() -> None:
    async with Pipeline(Producer().pausing).stream(0) as stream:
        with pytest.raises(FlowCallError, match=r"await run\.wait\(\)"):
            stream.run.result()
        async for _ in stream:
            pass
        assert stream.run.result() == stream.result


def test_nor_inside_of_a_step() -> None:
    async def outer(x: Any) -> Any:
        run = Pipeline(asleep).start(x)
        with pytest.raises(FlowCallError, match=r"await run\.wait\(\)"):
            run.result()
        await run.wait()
        return run.result()

    async def asleep(x: Any) -> Any:
        await asyncio.sleep(0)
        return x

    assert Pipeline(outer)(7) == 7
    assert (
        Pipeline(lambda x: Pipeline(asleep).start(x).result(10))(8) == 8
    )  # in a thread of its own it may wait
