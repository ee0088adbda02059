"""A step with a cache works once for equal inputs: what is kept, for whom, and what is not."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from millrace import Args, Parallel, Pipeline, Warp, session, step
from millrace.flow.policies import Cache, Entry, FileCache, MemoryCache, Retry
from millrace.streaming import Data, FlowCallError, TextDelta
from tests.flow.policies.counting import Counting, Told
from tests.flow.policies.test_retries import CALLS, Flaky

KINDS = ["plain", "coroutine", "stream", "generator"]


@pytest.fixture(params=["memory", "file"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Cache:
    return MemoryCache(shared=True) if request.param == "memory" else FileCache(tmp_path / "c", shared=True)


class ToldStream(Told):
    async def __call__(self, x: str) -> AsyncIterator[str]:  # type: ignore[override]
        async for piece in self._counting.stream(x):
            yield piece


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("call", CALLS)
def test_it_works_once_for_equal_inputs(kind: str, call: Any) -> None:
    counting = Counting()
    flow = step(getattr(counting, kind), cache="shared")
    assert [call(flow, x) for x in ("a", "b", "a", "a", "b")] == ["a/1", "b/2", "a/1", "a/1", "b/2"]
    assert call(Pipeline(str, flow, str.upper), "a") == "A/1"
    assert counting.calls == 2


def test_in_every_cache(shared: Cache) -> None:
    for module in (Told(), ToldStream()):
        flow = step(module, cache=shared)
        for call in CALLS:
            assert call(flow, "a") == "a/1"
        assert list(flow.stream("a").text()) == (["a/1"] if type(module) is Told else ["a", "/", "1"])
        assert module._counting.calls == 1


@pytest.mark.parametrize("kind", ["stream", "generator"])
def test_what_was_streamed_comes_in_the_same_pieces(kind: str) -> None:
    counting = Counting()
    flow = Pipeline(str, step(getattr(counting, kind), cache="shared", name="say"))
    first, second = list(flow.stream("a")), list(flow.stream("a"))
    assert counting.calls == 1
    told = [[(type(e), e.path, e.payload().get("text")) for e in events] for events in (first, second)]
    assert told[0] == told[1]
    assert [e.text for e in second if isinstance(e, TextDelta) and e.output] == ["a", "/", "1"]
    quiet = Pipeline(step(getattr(counting, kind), cache="shared", show="silent"), str.upper)
    loud = Pipeline(step(getattr(counting, kind), cache="shared", show="output"), str.upper)
    for flow, count in ((quiet, 0), (loud, 3)):
        for _ in range(2):
            assert len([e for e in flow.stream("b") if isinstance(e, TextDelta) and e.output]) == count


def test_pieces_that_are_no_text() -> None:
    async def numbers(x: int) -> AsyncIterator[int]:
        for i in range(x):
            yield i

    flow = step(numbers, cache="shared")
    for _ in range(2):
        assert flow(3) == [0, 1, 2]
        assert [event.value for event in flow.stream(3) if isinstance(event, Data)] == [0, 1, 2]
        assert Pipeline(flow, len)(0) == 0


def test_each_session_has_its_own_unless_it_is_shared() -> None:
    for cache, expected in ((True, 2), (MemoryCache(), 2), ("shared", 1), (MemoryCache(shared=True), 1)):
        counting = Counting()
        flow = step(counting.plain, cache=cache)
        for name in ("alice", "bob", "alice", "bob"):
            with session(name):
                flow("x")
        assert counting.calls == expected
        flow("x"), flow("x")  # a session of its own for each
        assert counting.calls == (4 if expected == 2 else 1)


def test_falsy_values_are_values() -> None:
    for value in (None, 0, "", [], {}, False):
        calls: list[int] = []

        def work(x: int, value: Any = value, calls: list[int] = calls) -> Any:
            calls.append(x)
            return value

        flow = step(work, cache="shared")
        assert [flow(1), flow(1)] == [value, value]
        assert calls == [1]


def test_nobody_can_change_what_another_gets() -> None:
    def make(x: int) -> dict[str, list[int]]:
        return {"a": [x]}

    flow = step(make, cache="shared")
    for _ in range(3):
        found = flow(1)
        assert found == {"a": [1]}
        found["a"].append(2)
        found.clear()


# ---------------------------------------------------------------- what is kept


def test_errors_are_not_kept() -> None:
    for kind in KINDS:
        flaky = Flaky(1)
        flow = step(getattr(flaky, kind), cache="shared")
        with pytest.raises(ConnectionError):
            flow("x")
        assert [flow("x"), flow("x")] == ["x", "x"]
        assert flaky.calls == 2


def test_what_a_fallback_gave_is_not_kept() -> None:
    flaky = Flaky(1)
    flow = step(flaky.plain, cache="shared", fallback=lambda x: f"instead of {x}")
    assert [flow("x"), flow("x"), flow("x")] == ["instead of x", "x", "x"]
    assert flaky.calls == 2


def test_a_stream_that_was_left_is_not_kept() -> None:
    counting = Counting()

    async def hesitant(x: str) -> AsyncIterator[str]:
        counting.begin(x)
        yield x
        if counting.calls == 1:
            await asyncio.Event().wait()
        yield f"/{counting.calls}"

    flow = step(hesitant, cache="shared")
    for _ in flow.stream("a").text():
        break
    assert list(flow.stream("a").text()) == ["a", "/2"]
    assert list(flow.stream("a").text()) == ["a", "/2"]


def test_after_retries_the_value_is_kept() -> None:
    flaky = Flaky(2)
    flow = step(flaky.stream, cache="shared", retry=Retry(3, wait=0))
    assert [flow("x"), flow("x")] == ["x", "x"]
    assert flaky.calls == 3


def test_values_that_a_cache_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(
        FlowCallError, match=r"value of step <lambda> cannot be kept .*cannot be copied \(TypeError\)"
    ):
        step(lambda x: threading.Lock(), cache=True)(1)
    with pytest.raises(
        FlowCallError, match=r"value of step divmod cannot be kept .*it is a tuple, and a cache on disk"
    ):
        step(divmod, cache=FileCache(tmp_path, shared=True))(Args(7, 2))


class Broken(Cache):
    def get(self, key: Any) -> Entry | None:
        raise ConnectionError("secret")

    def put(self, key: Any, entry: Entry) -> None:
        raise ConnectionError("secret")


def test_a_cache_that_does_not_work_stops_nothing(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    counting = Counting()
    for blocking in (True, False):
        broken = Broken()
        broken.blocking = blocking
        flow = step(counting.stream, cache=broken)
        with caplog.at_level(logging.WARNING, "millrace.flow"):
            assert flow("a") == f"a/{counting.calls}"
    assert any("could not be written (ConnectionError)" in message for message in caplog.messages)
    assert not any("secret" in message for message in caplog.messages)
    cache = FileCache(tmp_path / "c", shared=True)
    told = Told()
    assert step(told, cache=cache)("a") == "a/1"
    for path in (tmp_path / "c").rglob("*.json"):
        path.unlink()
        path.mkdir()
    assert step(told, cache=cache)("a") == "a/2"


# ---------------------------------------------------------------- in flows


def test_in_branches_and_over_items() -> None:
    counting = Counting()
    flow = step(counting.coroutine, cache="shared")
    assert Parallel(flow, flow, flow)("a") == ("a/1", "a/1", "a/1")
    assert Pipeline(lambda _: ["a", "b", "a"], Warp(flow))(0) == ["a/1", "b/2", "a/1"]


def test_from_many_threads_and_loops() -> None:
    counting = Counting()
    flow = step(counting.coroutine, cache="shared")
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(flow("a"))) for _ in range(6)]
    threads += [threading.Thread(target=lambda: found.append(asyncio.run(flow.acall("a")))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert found == ["a/1"] * 12
