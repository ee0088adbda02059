"""How a listener can leave; each leaves a subject that has been brought to its point."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from millrace.streaming import Attachment, EventsExpired, RunCancelled, RunTimeout, Stream, attach
from millrace.streaming.runs import LIVE, Run
from tests.leaving.subjects import Subject
from tests.support.leaks import eventually


class Left(Exception):
    """What a consumer raises."""


# ---------------------------------------------------------------- synchronous listeners


def break_events(subject: Subject) -> None:
    for event in subject.flow.stream(" x"):
        if subject.may_leave(event):
            subject.reach()
            break


def break_text(subject: Subject) -> None:
    for _ in subject.flow.stream(" x").text():
        subject.reach()
        break


def break_text_of_named_stream(subject: Subject) -> None:
    stream = subject.flow.stream(" x")
    for _ in stream.text():
        subject.reach()
        break
    del stream


def leave_block(subject: Subject) -> None:
    with subject.flow.stream(" x") as stream:
        subject.reach()
    assert stream.run.over
    ended_as_left(stream)


def close(subject: Subject) -> None:
    stream = subject.flow.stream(" x")
    reader = iter(stream)
    subject.reach()
    stream.close()
    del reader
    ended_as_left(stream)


def collected(subject: Subject) -> None:
    reader = iter(subject.flow.stream(" x").text())
    subject.reach()
    del reader


def cancel_from_a_thread(subject: Subject) -> None:
    with pytest.raises(RunCancelled, match="enough"), subject.flow.stream(" x") as stream:
        in_thread(lambda: (subject.reach(), stream.run.cancel("enough")))
        for _ in stream:
            pass


def cancel_by_id(subject: Subject) -> None:
    """As another process would: with a queue on disk, the word goes through a file."""
    with pytest.raises(RunCancelled, match="enough"), subject.flow.stream(" x") as stream:
        in_thread(lambda: (subject.reach(), attached(stream.run).cancel("enough")))
        for _ in stream:
            pass


def deadline(subject: Subject) -> None:
    with pytest.raises(RunTimeout):
        in_thread(subject.reach_in_time)
        for _ in subject.flow.stream(" x", timeout=subject.patience):
            eventually(lambda: subject.marked or not LIVE, timeout=60)


def stop_when(subject: Subject) -> None:
    told = threading.Event()

    def enough(text: str) -> bool:
        subject.mark()
        told.set()
        return True

    with subject.flow.stream(" x", stop_when=enough) as stream:
        assert list(stream.text())
    assert told.is_set()
    assert (stream.run.status, stream.run.reason) == ("done", "stop_condition")


def exception_in_the_consumer(subject: Subject) -> None:
    with pytest.raises(Left) as kept:
        for event in subject.flow.stream(" x"):
            if subject.may_leave(event):
                subject.reach()
                raise Left
    assert kept.value is not None  # the traceback is held while the stop goes on


def ctrl_c_while_waiting(subject: Subject) -> None:
    def interrupt() -> None:
        subject.reach()
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        in_thread(interrupt)
        for _ in subject.flow.stream(" x"):
            pass


def ctrl_c_in_a_call(subject: Subject) -> None:
    def interrupt() -> None:
        subject.reach()
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        in_thread(interrupt)
        subject.flow(" x")


def deadline_of_a_call(subject: Subject) -> None:
    in_thread(subject.reach_in_time)
    with pytest.raises(RunTimeout):
        subject.flow(" x", timeout=subject.patience)


# ---------------------------------------------------------------- asynchronous listeners


async def async_break_events(subject: Subject) -> None:
    async for event in subject.flow.stream(" x"):
        if subject.may_leave(event):
            await subject.areach()
            break


async def async_break_text(subject: Subject) -> None:
    async for _ in subject.flow.stream(" x").text():
        await subject.areach()
        break


async def async_leave_block(subject: Subject) -> None:
    async with subject.flow.stream(" x") as stream:
        await subject.areach()
    assert stream.run.over
    ended_as_left(stream)


async def aclose(subject: Subject) -> None:
    stream = subject.flow.stream(" x")
    reader = aiter(stream)
    await subject.areach()
    await stream.aclose()
    del reader
    ended_as_left(stream)


async def async_collected(subject: Subject) -> None:
    reader = aiter(subject.flow.stream(" x"))
    await subject.areach()
    del reader


async def cancel_from_a_task(subject: Subject) -> None:
    async def cancel(stream: Stream) -> None:
        await subject.areach()
        stream.run.cancel("enough")

    with pytest.raises(RunCancelled, match="enough"):
        async with subject.flow.stream(" x") as stream:
            task = asyncio.create_task(cancel(stream))
            async for _ in stream:
                pass
    await task


async def cancel_from_another_loop(subject: Subject) -> None:
    async def cancel(stream: Stream) -> None:
        await subject.areach()
        stream.run.cancel("enough")

    with pytest.raises(RunCancelled, match="enough"):
        async with subject.flow.stream(" x") as stream:
            thread = in_thread(lambda: asyncio.run(cancel(stream)))
            async for _ in stream:
                pass
    thread.join(20)


async def async_deadline(subject: Subject) -> None:
    in_thread(subject.reach_in_time)
    with pytest.raises(RunTimeout):
        async for _ in subject.flow.stream(" x", timeout=subject.patience):
            await asyncio.sleep(0)


async def async_exception_in_the_consumer(subject: Subject) -> None:
    with pytest.raises(Left) as kept:
        async for event in subject.flow.stream(" x"):
            if subject.may_leave(event):
                await subject.areach()
                raise Left
    assert kept.value is not None


async def outer_cancellation(subject: Subject) -> None:
    """Of a task that waits on a stream."""

    async def listen() -> None:
        async for _ in subject.flow.stream(" x"):
            pass

    await cancelled_task(listen(), subject)


async def outer_cancellation_of_a_call(subject: Subject) -> None:
    await cancelled_task(subject.flow.acall(" x"), subject)


async def asyncio_timeout(subject: Subject) -> None:
    async with asyncio.timeout(30) as scope:

        async def wait() -> None:
            await subject.areach()
            scope.reschedule(0)

        task = asyncio.create_task(wait())
        try:
            async for _ in subject.flow.stream(" x"):
                pass
        except asyncio.CancelledError:
            await task
            return
    raise AssertionError("the stream came to its end")


# ---------------------------------------------------------------- helpers


async def cancelled_task(coroutine: Coroutine[Any, Any, Any], subject: Subject) -> None:
    task = asyncio.create_task(coroutine)
    await subject.areach()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def in_thread(function: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def attached(run: Run) -> Attachment:
    """To what it says now: in memory the start of it may be gone."""
    assert run.log is not None
    while True:
        try:
            return attach(run.id, after=run.log.seq)
        except EventsExpired:
            pass  # it has said so much more since the look at where it is


def ended_as_left(stream: Stream) -> None:
    assert (stream.run.status, stream.run.reason) == ("cancelled", "listener left")
    stream.run.usage  # noqa: B018 - there, whatever was spent


SYNC: list[Callable[[Subject], None]] = [
    break_events,
    break_text,
    break_text_of_named_stream,
    leave_block,
    close,
    collected,
    cancel_from_a_thread,
    cancel_by_id,
    deadline,
    stop_when,
    exception_in_the_consumer,
    ctrl_c_while_waiting,
    ctrl_c_in_a_call,
    deadline_of_a_call,
]
ASYNC: list[Callable[[Subject], Coroutine[Any, Any, None]]] = [
    async_break_events,
    async_break_text,
    async_leave_block,
    aclose,
    async_collected,
    cancel_from_a_task,
    cancel_from_another_loop,
    async_deadline,
    async_exception_in_the_consumer,
    outer_cancellation,
    outer_cancellation_of_a_call,
    asyncio_timeout,
]
BY_TIME = {"deadline", "deadline_of_a_call", "async_deadline"}
"""Ways that end by themselves; with more patience where the work had not come to its point."""
NEEDS_TEXT = {"break_text", "break_text_of_named_stream", "stop_when", "async_break_text"}
"""Ways that begin in the body of a loop over text, or with a piece of text."""
