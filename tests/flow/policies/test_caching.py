from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from millrace import (
    Args,
    Limits,
    LocalModel,
    Message,
    Module,
    Parallel,
    Pipeline,
    Sampling,
    Warp,
    arg,
    bind,
    session,
    step,
)
from millrace.flow.calls import start_body
from millrace.flow.policies import Cache, Entry, FileCache, MemoryCache, Retry
from millrace.streaming import Data, FlowBuildError, FlowCallError, Logprobs, Options, TextDelta, start
from tests.flow.policies.test_retries import CALLS, Flaky
from tests.support.gated import tiny_engine
from tests.support.saying import saying


class Counting:
    """A step in many forms that counts its calls and gives a value that says which one it was."""

    def __init__(self) -> None:
        self.calls = 0
        self.inputs: list[Any] = []

    def begin(self, *x: Any) -> None:
        self.calls += 1
        self.inputs.append(x)

    def plain(self, x: Any) -> str:
        self.begin(x)
        return f"{x}/{self.calls}"

    async def coroutine(self, x: Any) -> str:
        self.begin(x)
        return f"{x}/{self.calls}"

    async def stream(self, x: Any) -> AsyncIterator[str]:
        self.begin(x)
        for piece in (f"{x}", "/", f"{self.calls}"):
            yield piece

    def generator(self, x: Any) -> Iterator[str]:
        self.begin(x)
        yield from (f"{x}", "/", f"{self.calls}")


KINDS = ["plain", "coroutine", "stream", "generator"]


@pytest.fixture(params=["memory", "file"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Cache:
    return MemoryCache(shared=True) if request.param == "memory" else FileCache(tmp_path / "c", shared=True)


class Told(Module[str, str]):
    """What stands in a file's cache has to be a step that another process can know: a Module with its settings."""

    def __init__(self, form: str = "coroutine", top: int = 1) -> None:
        super().__init__()
        self.form = form
        self.top = top
        self._counting = Counting()

    async def __call__(self, x: str) -> str:
        return await self._counting.coroutine(x)


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


# ---------------------------------------------------------------- keys


def test_types_and_arguments_count() -> None:
    counting = Counting()

    def work(*args: Any, **kwargs: Any) -> int:
        counting.begin(args, kwargs)
        return counting.calls

    flow = step(work, cache="shared")
    inputs = [1, True, 1.0, "1", [1], (1,), Args(1), Args(1, 2), {"a": 1}, None]
    assert [flow(x) for x in inputs] == list(range(1, 11))
    assert [flow(x) for x in inputs] == list(range(1, 11))


def test_bound_arguments_are_part_of_the_key() -> None:
    counting = Counting()

    def work(x: Any, y: Any, *, z: Any = 0) -> tuple[Any, Any, Any]:
        counting.begin(x, y, z)
        return (x, y, z)

    cached = step(work, cache="shared")
    two, three = bind(cached, 2), bind(cached, 3, z=1)
    assert [two(1), three(1), two(1), three(1)] == [(1, 2, 0), (1, 3, 1), (1, 2, 0), (1, 3, 1)]
    assert counting.calls == 2
    inside = step(bind(work, 4), cache="shared", retry=2)
    assert [inside(1), inside(1)] == [(1, 4, 0)] * 2
    assert counting.calls == 3
    with Pipeline() as p:
        p.length = len
        p.found = bind(cached, p.input, p.length, z=arg[0])
    assert [p("ab"), p("abc"), p("ab")] == [("ab", 2, 2), ("abc", 3, 3), ("ab", 2, 2)]
    assert counting.calls == 5


def test_references_of_a_flow_inside_are_part_of_the_key() -> None:
    counting = Counting()

    def work(x: Any, y: Any) -> Any:
        counting.begin(x, y)
        return (x, y)

    with Pipeline() as p:
        p.who = lambda x: x["who"]
        with Pipeline() as inner:
            inner.text = bind(lambda x: x["text"], p.input)
            inner.both = bind(work, inner.text, p.who)
        p.same = lambda _: "always the same"
        p.found = step(inner, cache="shared")
    inputs = [{"who": "a", "text": "t"}, {"who": "b", "text": "t"}, {"who": "a", "text": "t"}]
    assert [p(x) for x in inputs] == [("t", "a"), ("t", "b"), ("t", "a")]
    assert counting.calls == 2


@dataclass
class Document:
    id: int
    handle: Any


def test_inputs_that_are_no_keys_are_named_and_can_be_given_one() -> None:
    counting = Counting()
    flow = step(counting.plain, cache=True)
    with pytest.raises(
        FlowCallError, match=r"input of step plain is no key .*\.handle is a _thread\.lock.*MemoryCache"
    ):
        flow(Document(1, threading.Lock()))
    assert counting.calls == 0
    by_id = step(
        lambda document: document.id, cache=MemoryCache(shared=True, key=lambda document: document.id)
    )
    assert [by_id(Document(1, threading.Lock())), by_id(Document(1, None))] == [1, 1]
    by_first = step(lambda a, b: counting.begin(a, b), cache=MemoryCache(shared=True, key=lambda a, b: a))
    by_first(Args(1, object())), by_first(Args(1, object())), by_first(Args(2, object()))
    assert counting.calls == 2


def test_one_cache_for_several_steps() -> None:
    one, other, cache = Counting(), Counting(), MemoryCache(shared=True)
    first, second = step(one.plain, cache=cache), step(other.plain, cache=cache)
    again = step(one.plain, cache=cache, name="again")
    assert [first("a"), second("a"), again("a"), again("b"), first("b")] == [
        "a/1",
        "a/1",
        "a/1",
        "b/2",
        "b/2",
    ]
    assert (one.calls, other.calls) == (2, 1)


def test_a_cache_on_disk_outlives_the_step(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/c?shared=true"
    assert step(Told(), cache=url)("a") == "a/1"
    again, other = Told(), Told(top=2)
    assert step(again, cache=FileCache(tmp_path / "c", shared=True))("a") == "a/1"
    assert step(other, cache=url)("a") == "a/1"
    assert (again._counting.calls, other._counting.calls) == (0, 1)  # another setting: another step
    assert len(list((tmp_path / "c").rglob("*.json"))) == 2


def test_a_step_that_another_process_cannot_know(tmp_path: Path) -> None:
    lock = threading.Lock()

    def locked(x: int) -> int:
        with lock:
            return x

    with pytest.raises(
        FlowBuildError, match=r"step\(locked, cache=\.\.\.\).*closes over: lock is a _thread\.lock"
    ):
        step(locked, cache=f"file://{tmp_path}/c")
    assert step(locked, cache=True)(1) == 1


def test_a_live_step_is_refused() -> None:
    async def live(pieces: AsyncIterator[str]) -> str:
        return "".join([piece async for piece in pieces])

    for thing in (live, Pipeline(live, str.upper)):
        with pytest.raises(FlowBuildError, match="takes its upstream live, and a key needs all of it"):
            step(thing, cache=True)


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


# ---------------------------------------------------------------- models


def test_a_models_answer_depends_on_its_history_and_sampling() -> None:
    engine = tiny_engine(limits=Limits(running=4))
    model = LocalModel(engine, sampling=Sampling(temperature=0.0, max_tokens=5))
    flow = step(model, cache="shared")
    produced = lambda: engine.status().tokens_produced  # noqa: E731
    try:
        first = flow("the mill")
        assert produced() == 5
        assert flow("the mill") == first
        with flow.stream("the mill") as stream:
            assert "".join(stream.text()) == first
        assert stream.run.reason == "length"  # as the first time
        assert stream.usage.completion_tokens == 0
        assert produced() == 5
        flow("the mill", history=[Message.user("hello"), Message.assistant("hi")])
        assert produced() == 10
        flow("the mill", sampling={"max_tokens": 3})
        assert produced() == 13
        whole = Pipeline(str.strip, step(Pipeline(model), cache="shared"))
        assert [whole("the mill "), whole("the mill")] == [first, first]
        assert produced() == 18
        whole("the mill", history=[Message.user("hello"), Message.assistant("hi")])
        assert produced() == 23
    finally:
        engine.close()


def test_what_a_run_asks_for_beside_text_is_no_others() -> None:
    """Tools are a part of the key, and log-probabilities are events, which no cache keeps."""
    engine = saying("bread")
    flow = step(LocalModel(engine, sampling=Sampling(temperature=0.0)), cache="shared")
    produced = lambda: engine.status().tokens_produced  # noqa: E731

    def ask(**options: Any) -> list[Any]:
        run = start(partial(start_body, flow, "the mill"), Options(**options))
        return [event for event in run.events() if isinstance(event, (TextDelta, Logprobs))]

    try:
        plain = ask()
        once = produced()
        assert ask() == plain
        assert produced() == once
        look = {"type": "function", "function": {"name": "look"}}
        for options in (
            {"tools": [look]},
            {"tools": []},
            {"history": [Message.user("a"), Message.tool("b")]},
        ):
            before = produced()
            ask(**options)
            assert produced() == before + once
            ask(**options)
            assert produced() == before + once
        answered = [Message.user("a"), Message.tool("b", tool_call_id="c")]
        ask(history=answered)
        before = produced()
        for _ in range(2):
            assert {type(event) for event in ask(sampling={"logprobs": 1})} == {TextDelta, Logprobs}
        assert produced() == before + 2 * once
    finally:
        engine.close()


def test_a_function_does_not_see_the_history() -> None:
    counting = Counting()
    flow = step(counting.plain, cache="shared")
    assert flow("x") == flow("x", history=[Message.user("hello"), Message.assistant("hi")]) == "x/1"


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
