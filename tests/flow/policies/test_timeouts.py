from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from millrace import LocalModel, Pipeline, Sampling, step
from millrace.flow.policies import Retry
from millrace.streaming import FlowBuildError, RunCancelled, RunTimeout, cancelled, status
from millrace.streaming.loops import framework_loop
from tests.flow.policies.test_retries import CALLS, letters
from tests.support.gated import Gate, gated_engine
from tests.support.leaks import eventually, eventually_async, leaks

SHORT = 0.1


class Slow:
    """A step in many forms that waits for ever, and counts how often it was cleaned up."""

    def __init__(self, pieces_before: int = 0) -> None:
        self.pieces_before = pieces_before
        self.cleaned = 0
        self.calls = 0
        self.go_on = threading.Event()

    async def coroutine(self, x: str) -> str:
        try:
            self.calls += 1
            await asyncio.Event().wait()
        finally:
            self.cleaned += 1
        return x

    async def stream(self, x: str) -> AsyncIterator[str]:
        try:
            self.calls += 1
            for piece in x[: self.pieces_before]:
                yield piece
            await asyncio.Event().wait()
        finally:
            self.cleaned += 1

    def plain(self, x: str) -> str:
        self.calls += 1
        try:
            self.go_on.wait(20)
        finally:
            self.cleaned += 1
        return x

    def generator(self, x: str) -> Iterator[str]:
        self.calls += 1
        yield from x[: self.pieces_before]
        try:
            while not cancelled():
                time.sleep(0.001)
        finally:
            self.cleaned += 1


@pytest.mark.parametrize("kind", ["coroutine", "stream", "generator"])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: Pipeline(str, s, str)], ids=["alone", "inside"])
def test_what_takes_too_long_is_stopped_and_cleaned_up(kind: str, call: Any, wrap: Any) -> None:
    framework_loop()  # it stays, and is no leak
    slow = Slow()
    flow = wrap(step(getattr(slow, kind), timeout=SHORT, name="ask"))
    with (
        leaks(),
        pytest.raises(TimeoutError, match=r"step ask did not end within its timeout of 0\.1 s") as caught,
    ):
        call(flow, "x")
    assert not isinstance(caught.value, RunTimeout)  # that is the run's own deadline
    eventually(lambda: (slow.calls, slow.cleaned) == (1, 1))
    assert status().runs == 0


@pytest.mark.parametrize("kind", ["coroutine", "stream"])
def test_one_that_is_fast_enough(kind: str) -> None:
    async def fast(x: str) -> str:
        return x

    for call in CALLS:
        assert call(step({"coroutine": fast, "stream": letters}[kind], timeout=30), "abc") == "abc"


def test_a_plain_function_is_abandoned_and_told_so() -> None:
    slow, later = Slow(), []
    flow = Pipeline(step(slow.plain, timeout=SHORT), later.append)
    with pytest.raises(TimeoutError, match="step plain"):
        flow("x")
    assert (status().runs, status().abandoned, slow.cleaned) == (0, 1, 0)
    slow.go_on.set()
    eventually(lambda: status().abandoned == 0)
    assert later == []


def test_a_function_that_asks_hears_of_it() -> None:
    heard: list[bool] = []

    def patient(x: str) -> str:
        while not cancelled():
            time.sleep(0.001)
        heard.append(True)
        return x

    assert step(patient, timeout=SHORT, fallback=str.upper)("x") == "X"  # the run itself goes on
    eventually(lambda: heard == [True])


@pytest.mark.parametrize("kind", ["stream", "generator"])
def test_in_the_middle_of_a_stream(kind: str) -> None:
    slow = Slow(pieces_before=2)
    stream = step(getattr(slow, kind), timeout=0.1, retry=Retry(3, wait=0)).stream("abc")
    with stream, pytest.raises(TimeoutError):
        list(stream)
    assert (stream.run.text, slow.calls) == ("ab", 1)
    eventually(lambda: slow.cleaned == 1)


def test_a_stream_that_never_waits() -> None:
    async def babble(x: str) -> AsyncIterator[str]:
        while True:
            yield x

    with pytest.raises(TimeoutError):
        step(babble, timeout=SHORT)("x")
    with pytest.raises(TimeoutError):
        for _ in step(babble, timeout=SHORT).stream("x"):
            pass


def test_each_attempt_has_its_time_and_another_step_bounds_the_whole() -> None:
    slow = Slow()
    with pytest.raises(TimeoutError, match="step coroutine"):
        step(slow.coroutine, timeout=SHORT, retry=Retry(3, wait=0))("x")
    assert slow.calls == slow.cleaned == 3
    inner = step(slow.coroutine, timeout=60, retry=3)
    with pytest.raises(TimeoutError, match=r"step whole .* 0\.1 s"):
        step(inner, timeout=SHORT, name="whole")("x")
    assert slow.calls == slow.cleaned == 4


def test_its_own_timeout_error_is_the_steps_own() -> None:
    async def impatient(x: str) -> str:
        async with asyncio.timeout(0.001):
            await asyncio.Event().wait()
        return x

    def raises(x: str) -> str:
        raise TimeoutError("of the server")

    with pytest.raises(TimeoutError) as caught:
        step(impatient, timeout=30)("x")
    assert str(caught.value) == ""
    with pytest.raises(TimeoutError, match="of the server"):
        step(raises, timeout=30)("x")


def test_between_two_pieces_the_task_is_not_the_steps() -> None:
    """The time passes while the consumer works: the consumer is not cancelled, the step's next piece is."""
    waited: list[str] = []

    async def consumer(pieces: AsyncIterator[str]) -> str:
        try:
            async for _ in pieces:
                await asyncio.sleep(SHORT * 2)
                waited.append("whole")
        except TimeoutError as error:
            return str(error)[:12]
        return "no error"

    assert Pipeline(step(letters, timeout=SHORT), consumer)("abc") == "step letters"
    assert waited == ["whole"]


@pytest.mark.parametrize("kind", ["stream", "generator"])
def test_a_step_that_waits_after_its_time_has_passed_elsewhere(kind: str) -> None:
    slow = Slow(pieces_before=1)

    async def consumer(pieces: AsyncIterator[str]) -> AsyncIterator[str]:
        async for piece in pieces:
            await asyncio.sleep(SHORT * 2)
            yield piece

    with pytest.raises(TimeoutError, match="did not end within its timeout"):
        Pipeline(step(getattr(slow, kind), timeout=SHORT), consumer)("abc")
    eventually(lambda: slow.cleaned == 1)


def test_the_last_piece_in_time_is_in_time() -> None:
    async def once(x: str) -> AsyncIterator[str]:
        yield x

    async def consumer(pieces: AsyncIterator[str]) -> AsyncIterator[str]:
        async for piece in pieces:
            await asyncio.sleep(SHORT * 2)
            yield piece

    assert Pipeline(step(once, timeout=SHORT), consumer)("a") == "a"


def test_the_runs_deadline_and_cancel_keep_their_names() -> None:
    slow = Slow()
    with pytest.raises(RunTimeout):
        step(slow.coroutine, timeout=30)("x", timeout=SHORT)
    with pytest.raises(RunCancelled, match="enough"), step(slow.stream, timeout=30).stream("x") as stream:
        eventually(lambda: slow.calls == 2)
        stream.run.cancel("enough")
        list(stream)
    assert slow.cleaned == 2


def test_a_model_is_stopped_and_its_memory_free() -> None:
    gate = Gate()
    engine = gated_engine(gate)
    engine.wait_ready(60)
    model = LocalModel(engine, sampling=Sampling(temperature=0.0, max_tokens=300))
    opener = threading.Timer(0.4, gate.open_all)  # its first forward ends after the time is over
    opener.start()
    try:
        with pytest.raises(TimeoutError, match="step LocalModel"):
            step(model, timeout=0.2)("the mill")
        eventually(lambda: (engine.status().running, engine.status().blocks_used) == (0, 0))
        assert engine.status().tokens_produced <= 1
        assert step(model, timeout=30)("the mill")
    finally:
        opener.join()
        engine.close()


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), True, "2"])
def test_times_that_cannot_be(timeout: Any) -> None:
    with pytest.raises(FlowBuildError, match=r"timeout=.*: give a number of seconds above 0"):
        step(str, timeout=timeout)


# ---------------------------------------------------------------- its cancel is nobody else's


async def pending_cancels(x: Any) -> tuple[Any, int]:
    await asyncio.sleep(0)
    task = asyncio.current_task()
    assert task is not None
    return x, task.cancelling()


@pytest.mark.parametrize("kind", ["coroutine", "stream", "generator"])
def test_nothing_of_the_cancel_is_left(kind: str) -> None:
    flow = Pipeline(step(getattr(Slow(), kind), timeout=SHORT, fallback=str.upper), pending_cancels)
    assert flow("x") == ("X", 0)


def test_a_step_that_takes_no_notice_of_the_cancel() -> None:
    async def stubborn(x: str) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
        return x

    async def stubborn_stream(x: str) -> AsyncIterator[str]:
        yield await stubborn(x)

    async def other_error(x: str) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise KeyError(x) from None
        return x

    assert Pipeline(step(stubborn, timeout=SHORT), pending_cancels)("x") == ("x", 0)
    with pytest.raises(TimeoutError):
        step(stubborn_stream, timeout=SHORT)("x")
    with pytest.raises(KeyError):
        step(other_error, timeout=SHORT)("x")
    assert Pipeline(step(other_error, timeout=SHORT, fallback=str.upper), pending_cancels)("x") == ("X", 0)


class Careful:
    """It needs a while to clean up; `begun` says that it has started to."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.begun = self.ended = False

    async def work(self, x: str) -> str:
        try:
            await asyncio.Event().wait()
        finally:
            self.begun = True
            await asyncio.sleep(self.seconds)
            self.ended = True
        return x


def test_time_that_passes_during_the_cleanup_does_not_disturb_it() -> None:
    careful = Careful(SHORT * 3)
    with pytest.raises(RunTimeout):
        step(careful.work, timeout=SHORT * 2)("x", timeout=SHORT)
    assert careful.ended


@pytest.mark.anyio
@pytest.mark.parametrize("by", ["run", "task"])
async def test_a_cancel_during_the_cleanup_is_not_lost(by: str) -> None:
    careful = Careful(60)
    flow = Pipeline(step(careful.work, timeout=0.02, fallback=str.upper), pending_cancels)
    async with flow.stream("x") as stream:
        task = asyncio.create_task(stream.run.wait())
        await eventually_async(lambda: careful.begun)
        if by == "run":
            stream.run.cancel("now")
            assert await asyncio.wait_for(task, 10) == "cancelled"
        else:
            await stream.aclose()
    assert stream.run.status == "cancelled"
    await task


@pytest.mark.slow
def test_many_short_times() -> None:
    """Timeouts at every moment of a step's life, beside each other."""

    async def work(x: str) -> AsyncIterator[str]:
        for piece in x * 5:
            await asyncio.sleep(0.0005)
            yield piece

    flows = [
        Pipeline(step(work, timeout=seconds / 1000, fallback=str.upper), pending_cancels)
        for seconds in range(1, 12)
    ]

    async def all_of_them() -> list[Any]:
        return await asyncio.gather(*(flow.acall("ab") for flow in flows * 10), return_exceptions=True)

    with leaks():
        found = asyncio.run(all_of_them())
    assert {type(one) for one in found} <= {tuple, TimeoutError}
    assert {one[1] for one in found if type(one) is tuple} <= {0}
