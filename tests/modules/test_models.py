"""LocalModel as a step, on a real tiny model behind a gate: every stop reaches the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from millrace import Limits, LocalModel, Message, Parallel, Pipeline, Sampling, session
from millrace.modules.local import Engine
from millrace.streaming import (
    ContextLengthExceeded,
    ModelError,
    Overloaded,
    Progress,
    RunCancelled,
    RunFinished,
    RunTimeout,
    TextDelta,
    TokenUsage,
    forget_session,
    session_history,
    status,
)
from millrace.streaming.messages import Conversation
from millrace.streaming.runs import LIVE
from tests.support.gated import Gate, gated_engine, tiny_engine
from tests.support.leaks import eventually, eventually_async

GREEDY = Sampling(temperature=0.0, max_tokens=100)


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def engine(gate: Gate) -> Iterator[Engine]:
    made = gated_engine(gate, limits=Limits(running=2, waiting=2))
    made.wait_ready(30)
    yield made
    made.close()


@pytest.fixture(scope="module")
def free() -> Iterator[Engine]:
    made = tiny_engine()
    made.wait_ready(30)
    yield made
    made.close()


def idle(engine: Engine) -> bool:
    now = engine.status()
    return now.running == now.waiting == now.blocks_used == 0


def in_house(engine: Engine) -> int:
    """Requests that run or wait; which of the two depends on when the forward at the gate began."""
    now = engine.status()
    return now.running + now.waiting


def asked(model: LocalModel, x: Any, **options: Any) -> list[Message]:
    """What the engine is given for a call."""
    seen: list[Any] = []
    submit = model.engine.submit

    def spy(request: Any) -> Any:
        seen.append(request)
        return submit(request)

    model.engine.submit = spy  # type: ignore[method-assign]
    try:
        model(x, sampling={"max_tokens": 1}, **options)
    finally:
        del model.engine.submit
    return list(seen[0].messages)


# ---------------------------------------------------------------- asking


def test_what_the_model_sees(free: Engine) -> None:
    model = LocalModel(free, system="Be brief.", sampling=GREEDY)
    history = [Message.user("a"), Message.assistant("b")]
    assert asked(model, "Hi") == [Message.system("Be brief."), Message.user("Hi")]
    assert asked(model, "Hi", history=history) == [Message.system("Be brief."), *history, Message.user("Hi")]
    assert asked(model, [Message.user("Hi")], history=history) == [Message.user("Hi")]
    assert asked(model, "Hi", history=[Message.system("In French."), *history]) == [
        Message.system("Be brief.\n\nIn French."),
        *history,
        Message.user("Hi"),
    ]
    assert asked(model.replace(system=""), "Hi") == [Message.user("Hi")]


def test_a_session_with_a_name_is_remembered(free: Engine) -> None:
    model = LocalModel(free, system="Be brief.", sampling=GREEDY)
    with session("alice"):
        assert asked(model, "Hi") == [Message.system("Be brief."), Message.user("Hi")]
        before = session_history("alice")
        assert [message.role for message in before] == ["user", "assistant"]
        assert asked(model, "And?") == [Message.system("Be brief."), *before, Message.user("And?")]
        assert asked(model, [Message.user("Hi")]) == [Message.user("Hi")]
        assert asked(model, "Apart", history=[]) == [Message.system("Be brief."), Message.user("Apart")]
    assert len(session_history("alice")) == 4
    forget_session("alice")
    assert asked(model, "Hi", session="alice") == [Message.system("Be brief."), Message.user("Hi")]
    forget_session("alice")


@pytest.mark.parametrize("wrong", [5, None, ["text"], {"a": 1}])
def test_what_is_no_question(free: Engine, wrong: Any) -> None:
    with pytest.raises(TypeError, match="text or a list of Message"):
        LocalModel(free)(wrong)


def test_an_empty_list(free: Engine) -> None:
    with pytest.raises(ValueError, match="at least one"):
        LocalModel(free)([])


def test_called_streamed_and_in_a_flow(free: Engine) -> None:
    model = LocalModel(free, sampling=Sampling(temperature=0.0, max_tokens=20))
    text = model("the mill")
    assert len(text) > 20
    assert "".join(model.stream("the mill").text()) == text
    assert asyncio.run(model.acall("the mill")) == text
    assert Pipeline(str.strip, model, len)(" the mill ") == len(text)
    assert Parallel(model, model)("the mill") == (text, text)
    events = list(Pipeline(str.strip, model).stream(" the mill "))
    last = events[-1]
    assert isinstance(last, RunFinished)
    assert (last.status, last.reason, last.result) == ("done", "length", text)
    assert last.usage.completion_tokens == 20
    assert last.usage.prompt_tokens > 1


def test_sampling_of_the_caller_reaches_the_answering_model_only(free: Engine) -> None:
    model = LocalModel(free, sampling=Sampling(temperature=0.0, max_tokens=20))
    flow = Pipeline(model, str.upper, model)
    with flow.stream("the mill", sampling={"max_tokens": 3}) as stream:
        list(stream)
    assert stream.usage.completion_tokens == 23


def test_replace_shares_the_engine(free: Engine) -> None:
    model = LocalModel(free, sampling=GREEDY)
    other = model.replace(sampling=Sampling(temperature=0.0, max_tokens=2))
    assert other.engine is model.engine is free
    assert len(other("the mill")) < len(model("the mill"))
    assert model.sampling is GREEDY


def test_a_chat_drops_its_oldest_turns_and_says_so_a_request_never_does(free: Engine) -> None:
    model = LocalModel(free, sampling=Sampling(temperature=0.0, max_tokens=5))
    turns = [Message.user("the water of a river " * 10), Message.assistant("turns the wheel " * 10)] * 20
    with pytest.raises(ContextLengthExceeded):
        model("Hi", history=turns)
    events = list(model.stream("Hi", history=Conversation(turns)))
    said = [
        event.message for event in events if isinstance(event, Progress) and "did not fit" in event.message
    ]
    assert len(said) == 1
    assert isinstance(events[-1], RunFinished)


def test_too_long_names_both_numbers(free: Engine) -> None:
    with pytest.raises(ContextLengthExceeded, match=r"5000.*512"):
        LocalModel(free, sampling=Sampling(max_tokens=5000))("Hi")


# ---------------------------------------------------------------- stopping


@pytest.mark.anyio
@pytest.mark.parametrize("way", ["break", "block", "cancel", "deadline", "outer", "stop_when"])
async def test_every_stop_reaches_a_decoding_request(gate: Gate, engine: Engine, way: str) -> None:
    """Token by token through the gate; stopped after the third, while the fourth stands at it."""
    model = LocalModel(engine, sampling=GREEDY)
    options: dict[str, Any] = {"timeout": 1.0} if way == "deadline" else {}
    got: list[str] = []
    if way == "stop_when":
        options["stop_when"] = lambda text: len(got) == 2  # asked before the third is delivered
    stopped = asyncio.Event()

    async def listen() -> None:
        stream = model.stream("the mill", **options)
        async for piece in stream.text():
            got.append(piece)
            if len(got) < 3:
                gate.open(1)
            else:
                if way != "stop_when":
                    await gate.areached()
                stopped.set()
                if way == "break":
                    break
                if way == "block":
                    raise KeyError
                if way == "cancel":
                    stream.run.cancel("enough")

    task = asyncio.create_task(listen())
    await gate.areached()
    gate.open(1)
    await asyncio.wait_for(stopped.wait(), 20)
    if way == "outer":
        task.cancel()
    if way in ("cancel", "deadline", "outer", "block"):
        stop = {
            "cancel": RunCancelled,
            "deadline": RunTimeout,
            "outer": asyncio.CancelledError,
            "block": KeyError,
        }
        if way in ("deadline", "outer"):
            await eventually_async(lambda: any(run.cut for run in LIVE))
        gate.open_all()
        with pytest.raises(stop[way]):
            await task
    else:
        gate.open_all()
        await task
    await eventually_async(lambda: idle(engine) and status().runs == 0)
    assert len(got) == 3
    assert gate.forwards.left <= 4 + (way == "stop_when")
    assert engine.status().tokens_produced <= 4
    assert await model.acall("the river", sampling={"max_tokens": 2})


@pytest.mark.anyio
async def test_leaving_the_block_returns_the_memory(gate: Gate, engine: Engine) -> None:
    async with LocalModel(engine, sampling=GREEDY).stream("the mill") as stream:
        await anext_started(stream)
        await gate.areached()
        assert engine.status().blocks_used > 0
        gate.open_all()
    assert idle(engine)  # no waiting: leaving the block has waited for it
    assert stream.run.status == "cancelled"


async def anext_started(stream: Any) -> None:
    reader = aiter(stream)
    await anext(reader)


@pytest.mark.anyio
async def test_a_queued_request_that_is_stopped_never_starts(gate: Gate, engine: Engine) -> None:
    model = LocalModel(engine, sampling=Sampling(temperature=0.0, max_tokens=3))
    running = [asyncio.create_task(model.acall(f"the mill {i}")) for i in range(2)]
    await gate.areached()
    await eventually_async(lambda: in_house(engine) == 2)
    queued = asyncio.create_task(model.acall("the river"))
    await eventually_async(lambda: in_house(engine) == 3)
    queued.cancel()
    with pytest.raises(asyncio.CancelledError):
        await queued
    await eventually_async(lambda: in_house(engine) == 2)
    gate.open_all()
    assert all(await asyncio.gather(*running))
    assert engine.status().tokens_produced == 6
    assert idle(engine)


@pytest.mark.anyio
async def test_overload_is_refused_at_once(gate: Gate, engine: Engine) -> None:
    model = LocalModel(engine, sampling=Sampling(temperature=0.0, max_tokens=3))
    accepted = [asyncio.create_task(model.acall(f"the mill {i}")) for i in range(4)]
    await eventually_async(lambda: in_house(engine) == 4)
    with pytest.raises(Overloaded) as refused:
        await model.acall("one more")
    assert refused.value.retry_after > 0
    gate.open_all()
    assert all(await asyncio.gather(*accepted))


@pytest.mark.anyio
async def test_partial_text_and_usage_stay_on_the_run(gate: Gate, engine: Engine) -> None:
    async with LocalModel(engine, sampling=GREEDY).stream("the mill") as stream:
        got: list[str] = []
        gate.open(20)
        async for piece in stream.text():
            got.append(piece)
            if len(got) == 10:
                gate.open_all()
                break
    assert stream.run.text == "".join(got)
    assert stream.run.reason == "listener left"
    assert 10 <= stream.usage.completion_tokens < 100
    assert stream.usage.prompt_tokens > 0


@pytest.mark.anyio
async def test_a_neighbour_does_not_notice(free: Engine) -> None:
    model = LocalModel(free, sampling=Sampling(temperature=0.0, max_tokens=60))
    alone = await model.acall("the mill")

    async def leaves(i: int) -> None:
        async for _ in model.stream(f"snow {i}").text():
            break

    together, *_ = await asyncio.gather(model.acall("the mill"), *(leaves(i) for i in range(8)))
    assert together == alone
    await eventually_async(lambda: idle(free))


def test_an_engine_that_dies_tells_everybody(gate: Gate, engine: Engine) -> None:
    model = LocalModel(engine, sampling=GREEDY)
    run = model.start("the mill")
    gate.wait_reached()
    engine.close()
    with pytest.raises((RunCancelled, ModelError)):
        run.result(10)
    eventually(lambda: status().runs == 0)


# ---------------------------------------------------------------- loading


def test_an_unknown_path_names_the_cure(tmp_path: Any) -> None:
    for source in (tmp_path / "nothing", "nobody/nothing"):
        with pytest.raises(ModelError, match="nothing"):
            LocalModel(source)("Hi")


def test_models_on_the_same_weights_share_an_engine_until_the_last_is_released() -> None:
    first, second = LocalModel.demo(), LocalModel.demo(system="Be brief.")
    assert first.engine is second.engine

    async def life() -> None:
        await asyncio.gather(first.ready(), second.ready())
        with pytest.raises(ModelError, match="running=3"):
            _ = LocalModel.demo(limits=Limits(running=3)).engine
        await first.release()
        assert first.engine.status().state == "ready"
        await second.release()
        assert first.engine.status().state == "closed"
        assert (await first.acall("What is a Warp?")).startswith("A Warp")
        await first.release()

    asyncio.run(life())


def test_loading_is_told_to_the_run_that_waits_for_it() -> None:
    engine = tiny_engine()
    try:
        events = list(LocalModel(engine, sampling=Sampling(max_tokens=1)).stream("Hi"))
    finally:
        engine.close()
    fractions = [event.fraction for event in events if isinstance(event, Progress)]
    assert len(fractions) > 1
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert any(isinstance(event, TextDelta) for event in events)
    assert events[-1].usage != TokenUsage()  # type: ignore[attr-defined]


def test_sampling_may_be_whole_or_some_settings(free: Engine) -> None:
    whole = Sampling(temperature=0.0, max_tokens=3)
    model = LocalModel(free, sampling={"temperature": 0.0, "max_tokens": 3})
    text = model("the mill")
    assert model.sampling == whole
    assert LocalModel(free)("the mill", sampling=whole) == text
    assert LocalModel(free).replace(sampling={"temperature": 0.0, "max_tokens": 3})("the mill") == text
    with pytest.raises(TypeError, match="no setting 'max_new_tokens'; it has temperature"):
        model("the mill", sampling={"max_new_tokens": 3})


def test_models_on_one_engine_have_templates_of_their_own(free: Engine) -> None:
    template = "{% for message in messages %}{{ message['content'] }}{% endfor %} grinds"
    other = LocalModel(free, chat_template=template, sampling=GREEDY)
    assert other("the mill") == LocalModel(free, chat_template=template, sampling=GREEDY)("the mill")
    assert other("the mill") != LocalModel(free, sampling=GREEDY)("the mill")


@pytest.mark.parametrize("source", [None, 5, ""])
def test_what_is_no_source(source: Any) -> None:
    with pytest.raises(ModelError, match="path of a directory"):
        LocalModel(source)


@pytest.mark.parametrize("history", ["abc", [{"role": "user", "content": "Hi"}], [("user", "Hi")]])
def test_what_is_no_history(free: Engine, history: Any) -> None:
    with pytest.raises(TypeError, match="list of Message"):
        LocalModel(free)("Hi", history=history)


def test_dicts_for_messages(free: Engine) -> None:
    with pytest.raises(TypeError, match=r"Message\.user"):
        LocalModel(free)([{"role": "user", "content": "Hi"}])  # type: ignore[list-item]
