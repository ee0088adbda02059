"""A stop that travels: however a remote flow is left here, its work there ends, and at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from millrace import Limits, Parallel, Pipeline, RemoteFlow, Service, step
from millrace.streaming import (
    RemoteError,
    RunCancelled,
    RunTimeout,
    TextDelta,
    TokenUsage,
    Usage,
    emit,
    status,
)
from tests.launchers.support import Running, Source, running
from tests.modules.faraway import Far, far
from tests.support.breaking import breaking
from tests.support.leaks import eventually, eventually_async, leaks

LEAST_LEFT = 9_000


class Work:
    """What the flow there does: says numbers, waits in silence, or waits in line behind somebody else."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.source = Source()
        self.waiting = self.cleaned = 0

    async def silent(self, text: str) -> str:
        self.waiting += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.cleaned += 1
        return text

    @property
    def flow(self) -> Any:
        return self.source if self.kind == "streaming" else self.silent

    def has_begun(self, server: Running) -> bool:
        """As far as it shall come before it is stopped."""
        if self.kind == "streaming":
            return self.source.produced >= 3
        admission = server.service.admission
        return admission.waiting == 1 if self.kind == "queued" else self.waiting == 1

    def check(self) -> None:
        """Nothing of it goes on, and most of it was still to come."""
        if self.kind == "streaming":
            assert self.source.produced <= 3 + 2
            assert self.source.items - self.source.produced > LEAST_LEFT
        else:
            assert self.waiting == self.cleaned == 1


@pytest.fixture(params=["streaming", "silent", "queued"])
def work(request: pytest.FixtureRequest) -> Work:
    return Work(request.param)


@pytest.fixture(params=["cancel", "continue"])
def there(request: pytest.FixtureRequest, work: Work) -> Iterator[Far]:
    """A service that stops a run whose client leaves by itself, or one that must be told."""
    limits = Limits(running=1 if work.kind == "queued" else 4, waiting=4)
    with far(work.flow, limits=limits, on_disconnect=request.param) as made:
        if work.kind == "queued":
            first = made.flow().start("first")
            eventually(lambda: work.waiting == 1)
        yield made
        if work.kind == "queued":
            first.cancel()
            first.wait_sync()
        eventually(made.server.idle)
        work.check()


def begun(work: Work, there: Far) -> None:
    work.source.allow(3)
    eventually(lambda: work.has_begun(there.server))


def idle_but_for_the_first(work: Work, there: Far) -> bool:
    admission = there.server.service.admission
    return (admission.running, admission.waiting) == (1 if work.kind == "queued" else 0, 0)


def leave_by_cancel(flow: RemoteFlow, ready: Callable[[], None]) -> None:
    run = flow.start("x")
    ready()
    run.cancel()
    with pytest.raises(RunCancelled):
        run.result(5)


def leave_by_closing_the_stream(flow: RemoteFlow, ready: Callable[[], None]) -> None:
    stream = flow.stream("x")
    stream.__enter__()
    ready()
    stream.close()


def leave_by_cancelling_the_task(flow: RemoteFlow, ready: Callable[[], None]) -> None:
    async def leave() -> None:
        task = asyncio.create_task(flow.acall("x"))
        await asyncio.to_thread(ready)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(leave())


def leave_by_a_steps_timeout(flow: RemoteFlow, ready: Callable[[], None]) -> None:
    run = step(flow, timeout=0.6).start("x")
    ready()
    with pytest.raises(TimeoutError):
        run.result(5)


def leave_by_a_failure_beside_it(flow: RemoteFlow, ready: Callable[[], None]) -> None:
    def fails(text: str) -> str:
        ready()
        raise KeyError(text)

    with pytest.raises(KeyError):
        Parallel(flow, fails)("x")


@pytest.mark.parametrize(
    "leave",
    [
        leave_by_cancel,
        leave_by_closing_the_stream,
        leave_by_cancelling_the_task,
        leave_by_a_steps_timeout,
        leave_by_a_failure_beside_it,
    ],
)
def test_in_every_way(
    work: Work, there: Far, leave: Callable[[RemoteFlow, Callable[[], None]], None]
) -> None:
    leave(there.flow(), lambda: begun(work, there))
    eventually(lambda: idle_but_for_the_first(work, there))


def test_where_nobody_hears_that_a_connection_is_closed(work: Work, there: Far) -> None:
    """A proxy in between that keeps its own."""
    with breaking(there.server.port) as proxy:
        proxy.keeping = True
        leave_by_cancel(there.flow(proxy.url), lambda: begun(work, there))
        eventually(lambda: idle_but_for_the_first(work, there))
        assert len(proxy.cancels) == 1


# ---------------------------------------------------------------- what is told of it


def test_the_reason_travels_and_what_was_spent_comes_back() -> None:
    async def spends(text: str) -> str:
        emit(Usage(5, 2))
        await asyncio.Event().wait()
        return text

    with far(spends, on_disconnect="continue") as there:
        stream = there.flow().stream("x")
        with stream:
            eventually(lambda: not there.server.idle())
            stream.run.cancel("enough of\nit")
        assert stream.usage == TokenUsage(5, 2)
        _, listed = there.server.get("/v1/runs")
        newest = listed["data"][0]
        assert (newest["status"], newest["reason"]) == ("cancelled", "enough of it")


def test_of_a_run_that_is_over_nothing_is_told() -> None:
    async def once(text: str) -> str:
        if not text:
            raise ValueError
        return text

    with far(once) as there, breaking(there.server.port) as proxy:
        flow = there.flow(proxy.url)
        assert flow("Hi") == "Hi"
        with pytest.raises(Exception, match="ValueError"):
            flow("")
        assert proxy.cancels == []


def test_a_stop_before_the_first_byte_has_arrived() -> None:
    """Many at once, each at another moment of its beginning: none goes on there."""
    work = Work("silent")

    async def leave(flow: RemoteFlow) -> None:
        tasks = [asyncio.create_task(flow.acall("x")) for _ in range(24)]
        for i, task in enumerate(tasks):
            await asyncio.sleep(0.001 * (i % 4))
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await eventually_async(lambda: not flow.status().running)

    with far(work.flow, limits=Limits(running=20, waiting=100), on_disconnect="continue") as there:
        flow = there.flow()
        asyncio.run(flow.ready())
        with leaks():
            asyncio.run(leave(flow))
        eventually(there.server.idle)
        assert work.waiting == work.cleaned


def test_a_loop_that_ends_with_its_run() -> None:
    work = Work("silent")

    async def leave(flow: RemoteFlow) -> None:
        task = asyncio.create_task(flow.acall("x"))
        await eventually_async(lambda: work.waiting == 1)
        task.cancel()
        await asyncio.wait([task])

    with far(work.flow, on_disconnect="continue") as there:
        asyncio.run(leave(there.flow()))
        eventually(there.server.idle)
        work.check()


@pytest.mark.parametrize("deaf", ["hanging", "gone"])
def test_a_server_that_cannot_be_told_holds_nobody_up(deaf: str) -> None:
    work = Work("streaming")
    with far(work.flow) as there, breaking(there.server.port) as proxy:
        run = there.flow(proxy.url).start("x")
        begun(work, there)
        proxy.deaf = deaf == "hanging"
        proxy.refusing = deaf == "gone"
        start = time.monotonic()
        run.cancel()
        run.wait_sync(5)
        assert time.monotonic() - start < 2.5
        assert run.status == "cancelled"


# ---------------------------------------------------------------- further away


def test_one_stop_for_two_servers() -> None:
    source = Source()
    with running(source) as inner:
        nearer = RemoteFlow(inner.url)
        with running(Pipeline(str.strip, nearer)) as outer:
            flow = RemoteFlow(outer.url)
            with flow.stream("x") as stream:
                source.allow(3)
                events = (event for event in stream if isinstance(event, TextDelta))
                assert [next(events).text for _ in range(3)] == ["0 ", "1 ", "2 "]
            eventually(lambda: outer.idle() and inner.idle() and not status().runs)
            assert source.produced <= 3 + 2
            assert source.cleaned == 1
            asyncio.run(flow.release())


def test_a_deadline_two_servers_away() -> None:
    work = Work("silent")
    with running(work.flow) as inner, running(RemoteFlow(inner.url)) as outer:
        flow = RemoteFlow(outer.url)
        asyncio.run(flow.ready())
        with pytest.raises(RunTimeout):
            flow("x", timeout=0.5)
        eventually(lambda: outer.idle() and inner.idle())
        work.check()
        asyncio.run(flow.release())


@pytest.mark.anyio
async def test_the_page_before_it_is_left() -> None:
    """A plain client of the outer service, which knows nothing of runs."""
    source = Source()
    with running(source) as inner, running(RemoteFlow(inner.url)) as outer:
        connection = outer.ask("x", stream=True)
        source.allow(3)
        assert len(await asyncio.to_thread(connection.events, 3)) == 3
        connection.close()
        await eventually_async(lambda: outer.idle() and inner.idle())
        assert source.produced <= 3 + 2


@pytest.mark.parametrize("kind", ["silent", "streaming"])
def test_a_service_that_ends_while_it_is_used(kind: str) -> None:
    work = Work(kind)

    async def ends() -> BaseException | None:
        async with Service(work.flow, port=0) as service:
            flow = RemoteFlow(service.url, retries=0)
            stream = flow.stream("x")
            await stream.__aenter__()
            work.source.allow(3)
            await eventually_async(lambda: work.source.produced == 3 or work.waiting == 1)
            service._cut_off()
            await stream.run.wait()
            await flow.release()
            return stream.run.error

    error = asyncio.run(ends())
    assert isinstance(error, RunCancelled if kind == "streaming" else RemoteError)
    assert "shutting down" in str(error)
