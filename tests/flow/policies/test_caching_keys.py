"""Which calls of a cached step are the same: by step, input, arguments, references, and what a model is asked."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from millrace import Args, Limits, LocalModel, Message, Pipeline, Sampling, arg, bind, step
from millrace.flow.calls import start_body
from millrace.flow.policies import FileCache, MemoryCache
from millrace.streaming import FlowBuildError, FlowCallError, Logprobs, Options, TextDelta, start
from tests.flow.policies.counting import Counting, Told
from tests.support.gated import tiny_engine
from tests.support.saying import saying


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
