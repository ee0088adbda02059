"""RemoteModel as a step: what the server is asked, what is streamed, and a stop that travels."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from millrace import LocalModel, Message, Parallel, Pipeline, RemoteModel, Sampling, step
from millrace.flow.calls import start_body
from millrace.flow.policies import Retry
from millrace.modules.remote import RemoteEngine
from millrace.streaming import (
    ContextLengthExceeded,
    Logprobs,
    Options,
    Overloaded,
    Progress,
    ReasoningDelta,
    RemoteError,
    RunFinished,
    RunTimeout,
    TextDelta,
    TokenUsage,
    ToolCall,
    ToolCallDelta,
    start,
    status,
)
from millrace.streaming.messages import Conversation
from tests.launchers.support import running
from tests.support.gated import Gate, gated_engine
from tests.support.leaks import eventually, eventually_async, leaks
from tests.support.scripted import Exchange, ScriptedServer, answers, in_turn, refuses, scripted
from tests.support.servers import Connection


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted() as made:
        yield made


@pytest.fixture
def model(server: ScriptedServer) -> Iterator[RemoteModel]:
    made = RemoteModel(server.url, "tiny", retries=0)
    yield made
    asyncio.run(made.release())


def asked(server: ScriptedServer) -> list[dict[str, str]]:
    """The messages of the newest request."""
    messages: list[dict[str, str]] = server.exchanges[-1].body["messages"]
    return messages


# ---------------------------------------------------------------- asking


def test_what_the_server_is_asked(server: ScriptedServer, model: RemoteModel) -> None:
    """The same as a LocalModel's engine."""
    system, hi = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}
    history = [Message.user("a"), Message.assistant("b")]
    before = [message.as_dict() for message in history]
    brief = model.replace(system="Be brief.")
    assert brief("Hi") == "Hello"
    assert asked(server) == [system, hi]
    brief("Hi", history=history)
    assert asked(server) == [system, *before, hi]
    brief([Message.user("Hi")], history=history)
    assert asked(server) == [hi]
    brief("Hi", history=[Message.system("In French."), *history])
    assert asked(server) == [{"role": "system", "content": "Be brief.\n\nIn French."}, *before, hi]
    model("Hi")
    assert asked(server) == [hi]


@pytest.mark.parametrize("wrong", [5, None, ["text"], [{"role": "user", "content": "Hi"}]])
def test_what_is_no_question(model: RemoteModel, wrong: Any) -> None:
    with pytest.raises(TypeError, match="a model takes"):
        model(wrong)


def test_sampling_of_the_caller_comes_last(server: ScriptedServer) -> None:
    model = RemoteModel(
        server.url, "tiny", sampling={"temperature": 0.0, "max_tokens": 9}, extra={"top_k": 5}
    )
    model("Hi", sampling={"max_tokens": 3})
    body = server.exchanges[-1].body
    assert (body["temperature"], body["max_tokens"], body["top_k"]) == (0.0, 3, 5)
    model.replace(sampling=Sampling(seed=7))("Hi")
    assert server.exchanges[-1].body["seed"] == 7
    with pytest.raises(TypeError, match="no setting 'max_new_tokens'"):
        model("Hi", sampling={"max_new_tokens": 3})
    asyncio.run(model.release())


def test_the_models_name_is_needed() -> None:
    with pytest.raises(ValueError, match="give the model's name too"):
        RemoteModel("http://localhost:8000/v1")


def test_the_key_is_not_shown() -> None:
    model = RemoteModel("http://localhost:8000/v1", "tiny", api_key="sk-secret")
    shown = [
        repr(model),
        repr(vars(model)),
        repr(model.engine),
        str(Pipeline(str.strip, model)),
        repr(model.status()),
    ]
    assert not any("sk-secret" in text for text in shown)


# ---------------------------------------------------------------- streaming


def test_called_streamed_and_in_a_flow(server: ScriptedServer, model: RemoteModel) -> None:
    server.script = answers("Hel", "lo", reason="length", usage=(4, 2))
    assert model("Hi") == "Hello"
    assert list(model.stream("Hi").text()) == ["Hel", "lo"]
    assert asyncio.run(model.acall("Hi")) == "Hello"
    assert Pipeline(str.strip, model, len)(" Hi ") == 5
    assert Parallel(model, model)("Hi") == ("Hello", "Hello")
    last = list(Pipeline(str.strip, model).stream(" Hi "))[-1]
    assert isinstance(last, RunFinished)
    assert (last.status, last.reason, last.result, last.usage) == (
        "done",
        "length",
        "Hello",
        TokenUsage(4, 2),
    )


def test_reasoning_and_tool_calls_are_events_in_their_order(
    server: ScriptedServer, model: RemoteModel
) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.begin()
        await exchange.delta(reasoning="hm, ")
        await exchange.delta(reasoning="well")
        await exchange.say("I look. ")
        first = {"index": 0, "id": "a", "type": "function", "function": {"name": "search", "arguments": ""}}
        await exchange.delta(tool_calls=[first])
        await exchange.delta(tool_calls=[{"index": 0, "function": {"arguments": '{"q": 1}'}}])
        await exchange.finish("tool_calls")

    server.script = script
    kinds = (ReasoningDelta, TextDelta, ToolCallDelta, ToolCall, RunFinished)
    events = [event for event in Pipeline(str.strip, model).stream("Hi") if isinstance(event, kinds)]
    said = [tuple(event.payload().values()) for event in events[:-1]]
    assert said == [
        ("hm, ", True),
        ("well", True),
        ("I look. ", True),
        (0, "a", "search", "", True),
        (0, None, None, '{"q": 1}', True),
        ("a", "search", '{"q": 1}', True),
    ]
    assert [event.seq for event in events] == sorted(event.seq for event in events)
    assert {event.path for event in events[:-1]} == {("RemoteModel",)}
    last = events[-1]
    assert isinstance(last, RunFinished)
    assert (last.result, last.reason) == ("I look. ", "tool_calls")
    assert model("Hi") == "I look. "


def test_a_call_and_its_result_are_sent_as_openai_does(server: ScriptedServer, model: RemoteModel) -> None:
    call = ToolCall("a", "search", '{"q": 1}')
    history = [Message.user("Hi"), Message.assistant(tool_calls=[call])]
    model.replace(system="Be brief.")(Message.tool("found", tool_call_id="a"), history=history)
    function = {"name": "search", "arguments": '{"q": 1}'}
    assert server.exchanges[-1].body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "a", "type": "function", "function": function}],
        },
        {"role": "tool", "content": "found", "tool_call_id": "a"},
    ]


def test_a_shortened_chat_keeps_the_call_that_a_result_belongs_to(
    server: ScriptedServer, model: RemoteModel
) -> None:
    too_long = refuses(400, {"error": {"message": "too long", "code": "context_length_exceeded"}})
    server.script = in_turn(too_long, too_long, answers("ok"))
    turns = [Message.user("a"), Message.assistant("b")] * 4
    asking = [Message.user("c"), Message.assistant(tool_calls=[ToolCall("x", "search", "{}")])]
    result = Message.tool("found", tool_call_id="x")
    assert model(result, history=Conversation([*turns, *asking])) == "ok"
    assert [message["role"] for message in asked(server)] == ["user", "assistant", "tool"]
    server.script = too_long
    with pytest.raises(ContextLengthExceeded):
        model(result, history=Conversation(asking))


def test_tools_of_a_run_and_log_probabilities_are_asked_for(
    server: ScriptedServer, model: RemoteModel
) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.begin()
        reports = [{"token": "Hi", "bytes": [72, 105], "logprob": -0.5, "top_logprobs": []}]
        choice = {"index": 0, "delta": {"content": "Hi"}, "logprobs": {"content": reports}}
        await exchange.data({"choices": [choice]})
        await exchange.finish()

    server.script = script
    tool = {"type": "function", "function": {"name": "search"}}
    options = Options(tools=[tool], tool_choice="required", sampling={"logprobs": 3})
    run = start(partial(start_body, model, "Hi"), options)
    events = [event for event in run.events() if isinstance(event, (Logprobs, TextDelta))]
    assert [type(event) for event in events] == [Logprobs, TextDelta]
    (token,) = events[0].tokens  # type: ignore[union-attr]
    assert token == {"token": "Hi", "bytes": [72, 105], "logprob": -0.5, "top_logprobs": []}
    body = server.exchanges[-1].body
    assert (body["tools"], body["tool_choice"]) == ([tool], "required")
    assert (body["logprobs"], body["top_logprobs"]) == (True, 3)


@pytest.mark.parametrize("streams", [True, False])
def test_a_call_that_was_heard_is_not_made_again(
    server: ScriptedServer, model: RemoteModel, streams: bool
) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.begin()
        piece = {"index": 0, "id": "a", "function": {"name": "search", "arguments": "{"}}
        await exchange.delta(tool_calls=[piece])
        exchange.cut()

    server.script = script
    flow = step(model, retry=Retry(3, wait=0), fallback=str.upper)
    with pytest.raises(RemoteError):
        list(Pipeline(flow).stream("Hi")) if streams else Pipeline(flow)("Hi")
    assert len(server.exchanges) == 1
    server.exchanges.clear()
    assert Pipeline(flow, str.strip)("Hi") == "HI", "on the way nobody has heard it"
    assert len(server.exchanges) == 3


def test_a_chat_drops_its_oldest_turns_and_says_so_a_request_never_does(
    server: ScriptedServer, model: RemoteModel
) -> None:
    async def script(exchange: Exchange) -> None:
        if len(exchange.body["messages"]) > 5:
            await exchange.reply(400, {"error": {"message": "long", "code": "context_length_exceeded"}})
        else:
            await answers("Hello")(exchange)

    server.script = script
    turns = [Message.user("a"), Message.assistant("b")] * 5
    with pytest.raises(ContextLengthExceeded):
        model("Hi", history=turns)
    events = list(model.stream("Hi", history=Conversation(turns)))
    said = [event.message for event in events if isinstance(event, Progress)]
    assert len(said) == 1
    assert "did not fit" in said[0]
    assert asked(server)[-1]["content"] == "Hi"


# ---------------------------------------------------------------- failing


def test_errors_are_the_users_to_catch(server: ScriptedServer, model: RemoteModel) -> None:
    flow = Pipeline(str.strip, model)
    server.script = refuses(500, {"error": {"message": "boom"}})
    with pytest.raises(RemoteError, match="boom") as failed:
        flow("Hi")
    assert failed.value.status == 500
    assert "RemoteModel" in "".join(failed.value.__notes__)
    server.script = refuses(429, {"error": {"message": "busy"}}, {"retry-after": "9"})
    with pytest.raises(Overloaded) as refused:
        flow("Hi")
    assert refused.value.retry_after == 9


def test_a_deadline_of_the_run(server: ScriptedServer, model: RemoteModel) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.begin()
        await exchange.gone()

    server.script = script
    with pytest.raises(RunTimeout):
        model("Hi", timeout=0.2)
    eventually(server.asked().left.is_set)


def test_partial_text_stays_when_the_server_breaks_off(server: ScriptedServer, model: RemoteModel) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.begin()
        await exchange.say("Hel")
        exchange.close()

    server.script = script
    stream = model.stream("Hi")
    got: list[str] = []
    with pytest.raises(RemoteError, match="connection"):
        got.extend(stream.text())
    assert "Hel".startswith("".join(got))


def test_a_server_that_is_down_is_told_at_setup_and_the_next_run_tries_again(server: ScriptedServer) -> None:
    model = RemoteModel("http://127.0.0.1:1/v1", "tiny", retries=0)
    for _ in range(2):
        with pytest.raises(RemoteError, match="cannot be reached"):
            model("Hi")


# ---------------------------------------------------------------- its life


def test_the_last_model_on_an_engine_closes_it(server: ScriptedServer, model: RemoteModel) -> None:
    twin = model.replace(system="Be brief.")
    assert twin.engine is model.engine

    async def life() -> None:
        await asyncio.gather(model.acall("Hi"), twin.acall("Hi"))
        await model.release()
        assert model.status().state == "ready"
        await twin.release()
        assert model.status().state == "closed"
        assert await model.acall("Hi") == "Hello"
        await model.release()

    asyncio.run(life())
    eventually(lambda: not server.open_connections)


def test_an_engine_that_was_given_stays_open(server: ScriptedServer) -> None:
    async def life() -> None:
        engine = RemoteEngine(server.url, "tiny")
        model = RemoteModel(engine)
        assert await model.acall("Hi") == "Hello"
        await model.release()
        assert engine.status().state == "ready"
        await engine.aclose()

    asyncio.run(life())


def test_called_from_many_loops_one_after_the_other(server: ScriptedServer, model: RemoteModel) -> None:
    model("Hi")
    with leaks():
        for _ in range(3):
            assert asyncio.run(model.acall("Hi")) == "Hello"
            assert model("Hi") == "Hello"


# ---------------------------------------------------------------- a stop that travels


@pytest.mark.anyio
async def test_leaving_a_served_remote_model_stops_the_engine_two_servers_away() -> None:
    """A browser's side, a service with a RemoteModel, a service with the engine: one stop for all."""
    gate = Gate()
    engine = gated_engine(gate)
    engine.wait_ready(60)
    with running(LocalModel(engine, name="tiny")) as inner:
        remote = RemoteModel(f"{inner.url}/v1", "tiny", sampling={"temperature": 0, "max_tokens": 200})
        with running(remote) as outer:
            connection = outer.ask("the mill", stream=True)
            gate.open(3)
            assert len(await asyncio.to_thread(connection.events, 3)) == 3
            await gate.areached()
            made = engine.status().tokens_produced
            connection.close()
            await eventually_async(lambda: any(run.cut for run in inner.runs))
            gate.open_all()
            await eventually_async(lambda: status().runs == 0 and engine.status().blocks_used == 0)
            assert engine.status().tokens_produced - made <= 2
            await eventually_async(lambda: outer.idle() and inner.idle())
    engine.close()


def test_a_served_remote_model_says_how_it_ended(server: ScriptedServer, model: RemoteModel) -> None:
    server.script = answers("Hel", "lo", reason="length", usage=(4, 2))
    with running(model) as outer:
        code, _, answer = outer.post({"messages": [{"role": "user", "content": "Hi"}]})
        assert code == 200
        assert answer["choices"][0]["message"]["content"] == "Hello"
        assert answer["choices"][0]["finish_reason"] == "length"
        assert answer["usage"]["total_tokens"] == 6
        with Connection(outer.port) as connection:
            connection.send("GET", "/health/ready")
            assert connection.reply().status == 200
