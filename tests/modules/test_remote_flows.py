"""RemoteFlow as a step, on the real service: what goes there, what comes back, and how it fails."""

from __future__ import annotations

import asyncio
import datetime
import json
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from millrace import (
    Limits,
    LocalModel,
    Message,
    Module,
    Parallel,
    Pipeline,
    RemoteFlow,
    Sampling,
    Service,
    session,
    step,
)
from millrace.flow.policies.identities import identity_of
from millrace.modules.remote import Timeouts, tries
from millrace.streaming import (
    ContextLengthExceeded,
    Data,
    Overloaded,
    Progress,
    ReasoningDelta,
    RemoteError,
    RunCancelled,
    RunFinished,
    RunTimeout,
    SessionBusy,
    StepFinished,
    StepStarted,
    TextDelta,
    TokenUsage,
    ToolCall,
    Usage,
    current_run,
    current_session,
    emit,
    session_history,
)
from tests.launchers.support import running, words
from tests.modules.faraway import Far, far
from tests.support.breaking import breaking
from tests.support.gated import tiny_engine
from tests.support.leaks import eventually, leaks
from tests.support.servers import answers, serving


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tries, "FIRST_PAUSE", 0.01)


# ---------------------------------------------------------------- what it is asked to do, by the input


@dataclass
class Point:
    x: int
    y: int


class Note(BaseModel):
    title: str
    day: datetime.date


async def anything(asked: Any) -> Any:
    """What the flow there is: it does what the input says."""
    match asked:
        case {"do": "value", "value": value}:
            return value
        case {"do": "fail", "with": name}:
            raise {
                "KeyError": KeyError("secret"),
                "Overloaded": Overloaded("it is full", 7.0),
                "ContextLengthExceeded": ContextLengthExceeded("it does not fit"),
                "SessionBusy": SessionBusy("somebody has it"),
                "RunCancelled": RunCancelled("secret"),
                "RunTimeout": RunTimeout("too late"),
                "RemoteError": RemoteError("even further away", 502, "IndexError"),
            }[name]
        case {"do": "wait"}:
            await asyncio.Event().wait()
    return asked


async def talkative(asked: str) -> AsyncIterator[Any]:
    """Says everything that there is to say."""
    emit(Progress(0.5, "half"))
    yield ReasoningDelta("hm")
    for word in asked.split():
        yield word + " "
    yield ToolCall("a", "search", '{"q": 1}')
    emit(Usage(4, 2))


async def numbers(count: int) -> AsyncIterator[int]:
    for i in range(count):
        yield i


async def failing_late(asked: Any) -> AsyncIterator[str]:
    emit(Usage(3, 1))
    yield "Hel"
    await asyncio.sleep(0.01)
    raise await anything_raised(asked)


async def anything_raised(asked: Any) -> BaseException:
    try:
        await anything({"do": "fail", "with": asked})
    except Exception as error:
        return error
    raise AssertionError


@pytest.fixture(scope="module")
def values() -> Iterator[Far]:
    with far(anything) as made:
        yield made


@pytest.fixture(scope="module")
def talks() -> Iterator[Far]:
    with far(Pipeline(str.strip, step(talkative, name="talk")), events="all") as made:
        yield made


# ---------------------------------------------------------------- values


@pytest.mark.parametrize(
    "value", ["Hi", "", None, 5, 2.5, True, [1, [2]], {"a": {"b": None}}, "äöü \u2028 😀"]
)
def test_a_value_goes_there_and_comes_back(values: Far, value: Any) -> None:
    assert values.flow()(value) == value


def test_what_is_json_one_way_or_another(values: Far) -> None:
    flow = values.flow()
    assert flow(Point(1, 2)) == {"x": 1, "y": 2}
    assert flow([Note(title="a", day=datetime.date(2026, 11, 3))]) == [{"title": "a", "day": "2026-11-03"}]
    assert flow((1, 2)) == [1, 2]


def test_what_is_no_json_is_refused_before_anything_is_sent(values: Far) -> None:
    with pytest.raises(TypeError, match="bytes is no JSON"):
        values.flow()(b"bytes")


def test_annotations_there_are_met(values: Far) -> None:
    async def spelled(point: Point) -> str:
        return f"{point.x}, {point.y}"

    with far(spelled) as there:
        assert there.flow()(Point(1, 2)) == "1, 2"
        with pytest.raises(RemoteError, match="input") as refused:
            there.flow()({"x": "no"})
        assert refused.value.status == 422

    async def last(messages: list[Message]) -> str:
        return f"{len(messages)} {messages[-1].role} {messages[-1].content}"

    with far(last) as there:
        call = ToolCall("a", "search", "{}")
        asked = [Message.user("a"), Message.assistant(tool_calls=[call]), Message.tool("b", tool_call_id="a")]
        assert there.flow()(asked) == "3 tool b"


def test_in_flows(values: Far) -> None:
    flow = values.flow()
    assert Pipeline(str.strip, flow, len)(" Hi ") == 2
    assert Parallel(flow, flow)("Hi") == ("Hi", "Hi")
    assert flow.batch(["a", "b", "c"]) == ["a", "b", "c"]
    assert asyncio.run(flow.acall(3)) == 3
    with flow.stream({"a": 1}) as stream:
        events = list(stream)
    assert stream.result == {"a": 1}
    assert [type(event) for event in events] == [type(events[0]), RunFinished]


def test_a_flow_that_does_not_stream_gives_a_live_step_its_value(values: Far) -> None:
    async def live(pieces: AsyncIterator[Any]) -> list[Any]:
        return [piece async for piece in pieces]

    assert Pipeline(values.flow(), live)({"a": 1}) == [{"a": 1}]


# ---------------------------------------------------------------- streams


def test_text_and_items_come_piece_by_piece() -> None:
    with far(words) as there:
        flow = there.flow()
        assert flow("a b c") == "a b c "
        assert list(flow.stream("a b c").text()) == ["a ", "b ", "c "]
    with far(numbers) as there:
        events = list(Pipeline(int, there.flow()).stream("3"))
        assert [event.value for event in events if isinstance(event, Data)] == [0, 1, 2]
        assert events[-1].result == [0, 1, 2]


def test_a_live_step_takes_the_pieces(talks: Far) -> None:
    async def live(pieces: AsyncIterator[str]) -> list[str]:
        return [piece async for piece in pieces]

    assert Pipeline(talks.flow(), live)("a b") == ["a ", "b "]


def test_the_value_is_what_the_flow_there_returns_whatever_it_streams() -> None:
    def counted(text: str) -> int:
        return len(text)

    async def lived(pieces: AsyncIterator[str]) -> int:
        return len([piece async for piece in pieces])

    with far(Pipeline(step(words, show="output"), counted)) as there:
        flow = there.flow()
        assert list(flow.stream("a b").text()) == ["a ", "b "]
        assert flow("a b") == 4
        assert Pipeline(flow, lived)("a b") == 2


def test_its_text_is_the_answer_only_where_it_answers(talks: Far) -> None:
    events = list(Pipeline(talks.flow(), len).stream("a b"))
    assert [event.output for event in events if isinstance(event, TextDelta)] == [False, False]
    assert [event.output for event in talks.flow().stream("a b") if isinstance(event, TextDelta)] == [
        True,
        True,
    ]


def test_of_the_events_those_of_the_answer_come_as_the_service_sends_them(talks: Far) -> None:
    with talks.server.connect() as connection:
        connection.send("POST", "/v1/runs", {"input": "A B", "stream": True, "events": "output"})
        sent = [json.loads(data) for data in connection.events()]
    events = list(Pipeline(str.upper, talks.flow(name="far")).stream("a b"))
    said = [event for event in events if event.path == ("far",)]
    passed = [event for event in said if not isinstance(event, (StepStarted, StepFinished, Usage))]
    assert [event.kind for event in passed] == [told["kind"] for told in sent[1:-1]]
    assert [getattr(event, "text", None) for event in passed] == [told.get("text") for told in sent[1:-1]]
    assert [event.text for event in passed if isinstance(event, TextDelta)] == ["A ", "B "]
    assert [event for event in said if isinstance(event, Usage)] == [said[-2]]
    assert events[-1].usage == TokenUsage(4, 2)


def test_all_events_come_under_the_path_of_the_step(talks: Far) -> None:
    events = list(Pipeline(str.upper, talks.flow(name="far", events="all")).stream(" a b "))
    far_away = {event.path for event in events if event.path[:1] == ("far",)}
    assert far_away == {("far",), ("far", "strip"), ("far", "talk")}
    steps = [
        event for event in events if isinstance(event, (StepStarted, StepFinished)) and len(event.path) > 1
    ]
    assert len(steps) == 4
    (progress,) = (event for event in events if isinstance(event, Progress))
    assert (progress.path, progress.message) == (("far", "talk"), "half")
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "A B "
    assert sum(event.prompt_tokens for event in events if isinstance(event, Usage)) == 4
    assert events[-1].usage == TokenUsage(4, 2)


def test_all_events_must_be_allowed_there(values: Far) -> None:
    with pytest.raises(RemoteError, match="all") as refused:
        values.flow(events="all")("Hi")
    assert refused.value.status == 403


def test_how_the_model_there_ended_and_what_it_cost() -> None:
    model = LocalModel(tiny_engine(), sampling=Sampling(temperature=0.0, max_tokens=5))
    with far(model) as there:
        last = list(there.flow().stream("the mill"))[-1]
        assert (last.reason, last.usage.completion_tokens) == ("length", 5)
        local = list(model.stream("the mill"))[-1]
        assert (last.result, last.usage) == (local.result, local.usage)
        more = list(there.flow().stream("the mill", sampling={"max_tokens": 2}))[-1]
        assert more.usage.completion_tokens == 2
        whole = Sampling(temperature=0.0, max_tokens=3, stop=["###"], logit_bias={5: 1.0})
        assert list(there.flow().stream("the mill", sampling=whole))[-1].usage.completion_tokens == 3
        aside = list(Pipeline(there.flow(), str.strip).stream("the mill", sampling={"max_tokens": 2}))[-1]
        assert aside.usage.completion_tokens == 5  # it is not the one who answers
        status = there.made[0].status()
        assert (status.state, status.tokens_produced, status.stops) == ("ready", 5, {"done": 1})
    model.engine.close()


# ---------------------------------------------------------------- what goes along


async def surroundings(asked: str | Message) -> dict[str, Any]:
    run = current_run()
    assert run is not None
    return {
        "session": current_session(),
        "history": [message.as_dict() for message in run.take_history(asked)],
        "left": run.time_left,
    }


@pytest.fixture(scope="module")
def around() -> Iterator[Far]:
    with far(surroundings) as made:
        yield made


def test_the_sessions_name_and_the_history_go_along(around: Far) -> None:
    flow = around.flow()
    with session("remote-alice"):
        assert flow("first")["history"] == []
        second = flow("second")
    assert second["session"] == "remote-alice"
    assert [message["content"] for message in second["history"]][::2] == ["first"]
    assert [message.content for message in session_history("remote-alice")][::2] == ["first", "second"]
    given = [Message.user("a"), Message.assistant("b", status="cancelled")]
    assert flow("c", history=given)["history"] == [message.as_dict() for message in given]
    assert flow(Message.user("e"), history=given)["history"] == [message.as_dict() for message in given]
    nameless = flow("d")
    assert nameless["history"] == []
    assert nameless["session"] != "remote-alice"


@pytest.mark.parametrize("length", [83, 84, 100])
def test_long_names_of_sessions_behind_keys(length: int) -> None:
    """Each of the two services puts the mark of an owner before the name."""
    alice, bob = "sk-alice-0123456789", "sk-bob-0123456789"
    keys = [f"alice: {alice}", f"bob: {bob}"]
    with far(surroundings, api_keys=keys) as there, running(there.flow(api_key=bob), api_keys=keys) as server:

        def say(name: str) -> Any:
            headers = {"authorization": f"Bearer {alice}"}
            status, _, told = server.post({"input": "Hi", "session": name}, headers, "/v1/runs")
            assert (status, told["session"]) == (200, name)
            return told["result"]["session"], len(told["result"]["history"])

        one, other = ("a" * (length - 1) + last for last in "xy")
        found = [say(one), say(one), say(other)]
    assert [count for _, count in found] == [0, 2, 0]
    assert found[0][0] == found[1][0] != found[2][0]


def test_the_history_there_is_not_asked_for_and_not_written(around: Far) -> None:
    """Else a conversation that is led here would be led there as well, and each of its runs would wait for a turn."""

    async def many() -> list[Any]:
        flow = around.flow()
        with session("remote-bob"):
            return list(await asyncio.gather(*(flow.acall(text, history=[]) for text in "abcd")))

    assert [found["history"] for found in asyncio.run(many())] == [[]] * 4
    assert session_history("remote-bob") == ()


def test_what_is_left_of_the_deadline_goes_along(around: Far) -> None:
    assert 500 < around.flow()("a")["left"] <= 600
    assert 20 < around.flow()("a", timeout=30)["left"] <= 30
    assert 500 < around.flow()("a", timeout=5000)["left"] <= 600  # more than there can be had there
    assert around.flow(timeouts=Timeouts(total=20))("a", timeout=30)["left"] <= 20


# ---------------------------------------------------------------- failing


@pytest.mark.parametrize("when", ["before a word", "in the midst"])
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("KeyError", RemoteError),
        ("Overloaded", Overloaded),
        ("ContextLengthExceeded", ContextLengthExceeded),
        ("SessionBusy", SessionBusy),
        ("RunCancelled", RunCancelled),
        ("RunTimeout", RunTimeout),
        ("RemoteError", RemoteError),
    ],
)
def test_errors_come_over(values: Far, late: Far, name: str, kind: type[Exception], when: str) -> None:
    flow = Pipeline(Parallel(a=values.flow()), len) if when == "before a word" else late.flow(name="far")
    asked = {"do": "fail", "with": name} if when == "before a word" else name
    with pytest.raises(kind) as failed:
        flow(asked)
    error: Any = failed.value
    assert type(error) is kind
    assert "secret" not in str(error)
    if isinstance(error, RemoteError):
        assert (error.kind, error.status) == ("IndexError" if name == "RemoteError" else name, 500)
    if isinstance(error, RunCancelled):
        assert error.reason == "stopped by the flow"
    if isinstance(error, Overloaded) and when == "before a word":
        assert error.retry_after == 7.0


@pytest.fixture(scope="module")
def late() -> Iterator[Far]:
    with far(failing_late) as made:
        yield made


def test_what_was_said_and_spent_before_a_failure_counts(late: Far) -> None:
    stream = late.flow().stream("KeyError")
    events = []
    with pytest.raises(RemoteError):
        events += stream
    assert [event.text for event in events if isinstance(event, TextDelta)] == ["Hel"]
    assert stream.usage == TokenUsage(3, 1)


def test_a_failure_before_the_first_word_has_its_price_too() -> None:
    async def spends(text: str) -> str:
        emit(Usage(5, 0))
        raise ValueError

    with far(spends) as there:
        stream = there.flow().stream("Hi")
        with pytest.raises(RemoteError) as failed:
            list(stream)
        assert failed.value.kind == "ValueError"
        assert stream.usage == TokenUsage(5, 0)


def test_a_deadline_there_and_a_deadline_here() -> None:
    with far(anything, default_timeout=0.1) as there, pytest.raises(RunTimeout, match="the deadline passed"):
        there.flow()({"do": "wait"})
    with far(anything) as there:
        with pytest.raises(RunTimeout):
            there.flow()({"do": "wait"}, timeout=0.1)
        with pytest.raises(RunTimeout, match=r"Timeouts\(total\)"):
            there.flow(timeouts=Timeouts(total=0.1))({"do": "wait"})
        eventually(there.server.idle)


def test_a_full_service_is_asked_again() -> None:
    with far(anything, limits=Limits(running=1, waiting=0)) as there:
        first = there.flow().start({"do": "wait"})
        eventually(lambda: not there.server.idle())
        with pytest.raises(Overloaded) as refused:
            there.flow()("Hi")
        assert refused.value.retry_after > 0
        second = there.flow(retries=20).start("Hi")
        eventually(lambda: there.made[-1].status().running)
        first.cancel()
        assert second.result(20) == "Hi"


def test_the_line_there_was_too_long() -> None:
    with far(anything, limits=Limits(running=1, waiting=1, queue_timeout=0.05)) as there:
        first = there.flow().start({"do": "wait"})
        eventually(lambda: not there.server.idle())
        with pytest.raises(Overloaded) as refused:
            there.flow()("Hi")
        assert refused.value.waited > 0
        first.cancel()
        first.wait_sync()


@pytest.mark.parametrize(
    "name", ["KeyError", "Overloaded", "ContextLengthExceeded", "RunCancelled", "RemoteError"]
)
def test_errors_come_over_from_two_services_away(values: Far, name: str) -> None:
    with far(values.flow()) as there:
        with pytest.raises(Exception) as failed:
            there.flow()({"do": "fail", "with": name})
        error: Any = failed.value
        if name in ("KeyError", "RemoteError"):
            assert isinstance(error, RemoteError)
            assert (error.kind, error.status) == ("IndexError" if name == "RemoteError" else name, 500)
        else:
            assert type(error).__name__ == name
        assert getattr(error, "retry_after", 7.0) == 7.0
        assert getattr(error, "reason", "stopped by the flow") == "stopped by the flow"


def test_a_step_that_fails_there_is_named_here() -> None:
    with far(anything) as there:
        with pytest.raises(RemoteError) as failed:
            Pipeline(str.strip, lambda _: {"do": "fail", "with": "KeyError"}, there.flow(name="far"))("Hi")
        assert any("far" in note for note in failed.value.__notes__)


# ---------------------------------------------------------------- keys


def test_the_key_is_sent_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    with far(anything, api_keys=["sk-right"]) as there:
        flow = there.flow(api_key="sk-right")
        assert flow("Hi") == "Hi"
        shown = [
            repr(flow),
            repr(vars(flow)),
            repr(flow.status()),
            repr(flow.configuration()),
            Pipeline(flow).draw(),
        ]
        assert not any("sk-right" in text for text in shown)
        monkeypatch.setenv("FAR_KEY", "sk-right")
        assert there.flow(api_key_env="FAR_KEY")("Hi") == "Hi"
        with pytest.raises(RemoteError, match="give its key") as refused:
            asyncio.run(there.flow(api_key="sk-wrong").ready())
        assert refused.value.status == 401
        assert "sk-wrong" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://localhost:8000/v1", "without /v1"),
        ("http://localhost:8000/v1/runs", "without /v1/runs"),
        ("localhost:8000", "http://localhost:8000'"),
        ("http://a:b@localhost", "api_key"),
    ],
)
def test_what_is_no_url_of_a_service(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        RemoteFlow(url)


@pytest.mark.parametrize(
    "wrong", [{"events": "some"}, {"on_disconnect": "stay"}, {"resume": -1}, {"retries": -1}]
)
def test_options_that_are_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RemoteFlow("http://localhost:8000", **wrong)


def test_it_is_known_by_its_service() -> None:
    """For a cache on disk."""
    flow = RemoteFlow("http://localhost:8000/?key=secret", api_key="sk-a", events="all")
    assert flow.configuration() == {"server": "http://localhost:8000"}
    assert flow.sees_history
    assert flow.url == "http://localhost:8000"
    assert identity_of(flow) == identity_of(RemoteFlow("http://localhost:8000", api_key="sk-b", resume=0))
    assert identity_of(flow) != identity_of(RemoteFlow("http://localhost:8001"))


def test_what_it_gives_can_be_kept(values: Far, tmp_path: Path) -> None:
    flow = values.flow()
    with breaking(values.server.port) as proxy:
        kept = step(values.flow(proxy.url), cache=f"file://{tmp_path}?shared=true")
        assert [kept("Hi"), kept("Hi"), kept("Ho"), flow("Hi")] == ["Hi", "Hi", "Ho", "Hi"]
        assert kept("Hi", history=[Message.user("a")]) == "Hi"
        assert len(proxy.streams) == 3


async def calls(text: str) -> AsyncIterator[Any]:
    """Asks for a tool."""
    run = current_run()
    assert run is not None
    yield ToolCall("a", "search", '{"q": 1}')
    await asyncio.sleep(0)
    if text == "fail":
        raise ValueError
    run.finish_reason = "tool_calls"


def test_a_call_there_is_a_call_here() -> None:
    with far(calls) as there:
        with there.flow().stream("Hi", session="remote-calls") as stream:
            asked = [event for event in stream if isinstance(event, ToolCall)]
        assert [(call.id, call.name, call.arguments, call.output) for call in asked] == [
            ("a", "search", '{"q": 1}', True)
        ]
        assert stream.run.reason == "tool_calls"
        question, answer = session_history("remote-calls")
        assert question.content == "Hi"
        assert [call.name for call in answer.tool_calls] == ["search"]
        aside = list(Pipeline(there.flow(), len).stream("Hi"))
        assert [event.output for event in aside if isinstance(event, ToolCall)] == [False]


def test_a_call_that_was_heard_is_not_taken_back() -> None:
    """No policy tries again what has answered already."""
    with far(calls) as there, breaking(there.server.port) as proxy:
        with pytest.raises(RemoteError):
            list(step(there.flow(proxy.url), retry=3).stream("fail"))
        assert len(proxy.streams) == 1


# ---------------------------------------------------------------- its life


class Slow(Module[Any, Any]):
    """Says how far its loading is, until it is let through."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded = threading.Event()
        self.fails = False

    async def setup(self) -> None:
        emit(Progress(0.25, "weights"))
        await asyncio.to_thread(self.loaded.wait)
        if self.fails:
            raise OSError("no weights")

    async def __call__(self, x: Any) -> Any:
        return x


@pytest.mark.parametrize("fails", [False, True])
def test_a_service_that_loads_is_waited_for(fails: bool) -> None:
    slow = Slow()
    slow.fails = fails
    with serving(Service(slow).app) as server:
        flow = RemoteFlow(server.url, retries=0)
        events = iter(flow.stream("Hi"))
        progress = next(event for event in events if isinstance(event, Progress) and event.fraction)
        assert (progress.fraction, progress.message) == (0.25, "weights")
        assert (flow.status().state, flow.status().progress) == ("loading", 0.25)
        slow.loaded.set()
        if fails:
            with pytest.raises(RemoteError, match=r"has failed \(OSError\)"):
                list(events)
        else:
            assert list(events)[-1].result == "Hi"
            assert flow.status().state == "ready"
        asyncio.run(flow.release())


def test_not_for_ever() -> None:
    slow = Slow()
    with serving(Service(slow).app) as server:
        flow = RemoteFlow(server.url, timeouts=Timeouts(first_token=0.5))
        with pytest.raises(RemoteError, match=r"within 0.5 s, which is Timeouts\(first_token\)"):
            flow("Hi")
        slow.loaded.set()
        eventually(lambda: answers(server.port, "/health/ready"))
        assert flow("Hi") == "Hi"
        asyncio.run(flow.release())


def test_a_service_that_is_down_is_told_at_setup_and_the_next_run_tries_again() -> None:
    flow = RemoteFlow("http://127.0.0.1:1", retries=0)
    for _ in range(2):
        with pytest.raises(RemoteError, match="cannot be reached"):
            flow("Hi")


def test_called_from_many_loops_one_after_the_other(values: Far) -> None:
    flow = values.flow()
    flow("Hi")
    with leaks():
        for _ in range(3):
            assert asyncio.run(flow.acall("Hi")) == "Hi"
            assert flow("Hi") == "Hi"


def test_release_ends_what_goes_on_here_and_there() -> None:
    with far(anything) as there:
        flow = there.flow()
        run = flow.start({"do": "wait"})
        eventually(lambda: not there.server.idle())
        asyncio.run(flow.release())
        run.wait_sync(5)
        assert isinstance(run.error, RunCancelled)
        assert "closed" in run.error.reason
        eventually(there.server.idle)
        assert flow.status().state == "closed"
        assert flow("Hi") == "Hi"


def test_one_connection_serves_one_run_after_the_other(values: Far) -> None:
    with breaking(values.server.port) as proxy:
        flow = RemoteFlow(proxy.url)
        for _ in range(5):
            assert flow("Hi") == "Hi"
        assert len(proxy.streams) == 5
        assert proxy.connections == 1
        asyncio.run(flow.release())
        eventually(lambda: not proxy.open_connections)
