"""What chat completions answer beside plain text: several choices, calls, reasoning, log-probabilities."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest

from millrace import LocalModel
from millrace.streaming import Logprobs, ReasoningDelta, ToolCall, ToolCallDelta, Usage, emit
from tests.launchers.support import Running, Source, running
from tests.support.leaks import eventually

HELLO: Any = [{"role": "user", "content": "a b"}]
LIKELY = {"token": "a", "bytes": [97], "logprob": -0.25, "top_logprobs": []}


def client_of(server: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


async def numbered(text: str) -> AsyncIterator[str]:
    for word in text.split():
        yield word + " "
        await asyncio.sleep(0)
    emit(Usage(2, 3))


class TestSeveralChoices:
    def test_whole(self) -> None:
        with running(numbered) as server, client_of(server) as client:
            answer = client.chat.completions.create(model="numbered", messages=HELLO, n=3)
        assert [(choice.index, choice.message.content) for choice in answer.choices] == [
            (0, "a b "),
            (1, "a b "),
            (2, "a b "),
        ]
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 9

    def test_streamed(self) -> None:
        with running(numbered) as server, client_of(server) as client:
            texts: dict[int, str] = {}
            ends: dict[int, str] = {}
            for chunk in client.chat.completions.create(
                model="numbered", messages=HELLO, n=3, stream=True, stream_options={"include_usage": True}
            ):
                for choice in chunk.choices:
                    texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
                    if choice.finish_reason:
                        ends[choice.index] = choice.finish_reason
            assert chunk.usage is not None
            assert chunk.usage.prompt_tokens == 6
        assert texts == {0: "a b ", 1: "a b ", 2: "a b "}
        assert ends == {0: "stop", 1: "stop", 2: "stop"}

    def test_one_that_fails_ends_them_all(self) -> None:
        source = Source()
        begun: list[int] = []

        async def fails(text: str) -> AsyncIterator[str]:
            begun.append(1)
            if len(begun) == 2:
                raise ValueError("the second")
            async for piece in source(text):
                yield piece

        with running(fails) as server, client_of(server) as client:
            with pytest.raises(openai.InternalServerError):
                client.chat.completions.create(model="fails", messages=HELLO, n=3)
            eventually(lambda: source.cleaned == source.started)
            eventually(server.idle)

    def test_leaving_stops_them_all(self) -> None:
        source = Source()
        with running(source) as server:
            connection = server.ask("a", n=3)
            source.allow(3)
            connection.events(4)
            connection.reset()
            eventually(lambda: source.cleaned == 3)
            eventually(server.idle)
            assert source.produced <= 3 + 6


async def beside(text: str) -> AsyncIterator[Any]:
    yield ReasoningDelta("let me ")
    yield ReasoningDelta("see")
    yield Logprobs([LIKELY])
    yield "answer"
    yield ToolCallDelta(0, "call_1", "look", "")
    yield ToolCallDelta(0, None, None, '{"at":')
    yield ToolCallDelta(0, None, None, "1}")
    yield ToolCall("call_1", "look", '{"at":1}')
    yield ToolCall("call_2", "go", "{}")


@pytest.fixture
def server() -> Iterator[Running]:
    with running(beside) as server:
        yield server


class TestBesideText:
    def test_whole(self, server: Running) -> None:
        with client_of(server) as client:
            answer = client.chat.completions.create(model="beside", messages=HELLO)
        (choice,) = answer.choices
        assert choice.message.content == "answer"
        assert choice.message.model_extra == {"reasoning_content": "let me see"}
        assert [
            (call.id, call.function.name, call.function.arguments)  # type: ignore[union-attr]
            for call in choice.message.tool_calls or ()
        ] == [("call_1", "look", '{"at":1}'), ("call_2", "go", "{}")]
        assert choice.logprobs is not None
        assert choice.logprobs.content is not None
        assert choice.logprobs.content[0].logprob == -0.25

    def test_streamed(self, server: Running) -> None:
        reasoning, calls, likely = "", {}, []
        with client_of(server) as client:
            for chunk in client.chat.completions.create(model="beside", messages=HELLO, stream=True):
                (choice,) = chunk.choices
                reasoning += (choice.delta.model_extra or {}).get("reasoning_content", "")
                for piece in choice.delta.tool_calls or ():
                    assert piece.function is not None
                    call = calls.setdefault(piece.index, [piece.id, piece.function.name, ""])
                    call[2] += piece.function.arguments or ""
                if choice.logprobs is not None:
                    assert choice.delta.content == "answer"
                    likely += choice.logprobs.content or []
        assert reasoning == "let me see"
        assert calls == {0: ["call_1", "look", '{"at":1}'], 1: ["call_2", "go", "{}"]}
        assert [one.token for one in likely] == ["a"]

    def test_of_a_step_on_the_way_nothing_is_told(self) -> None:
        async def last(value: list[Any]) -> str:
            return "done"

        from millrace import Pipeline

        with running(Pipeline(beside, last)) as server, server.ask("a") as connection:
            text = connection.read().decode()
        assert "see" not in text
        assert "call_1" not in text
        assert '"logprobs":{' not in text


@pytest.fixture(scope="module")
def demo() -> Iterator[Running]:
    with running(LocalModel.demo()) as server:
        yield server


class TestModels:
    """The demo's model, asked for what only a model can give."""

    def test_a_seed_gives_each_its_own(self, demo: Running) -> None:
        with client_of(demo) as client:
            ask: dict[str, Any] = {"messages": HELLO, "seed": 7, "max_tokens": 12, "temperature": 2}
            several = client.chat.completions.create(model="demo-model", n=2, **ask)
            one = client.chat.completions.create(model="demo-model", **ask)
            other = client.chat.completions.create(model="demo-model", **{**ask, "seed": 8})
        contents = [choice.message.content for choice in several.choices]
        assert contents == [one.choices[0].message.content, other.choices[0].message.content]
        assert contents[0] != contents[1]
        assert {choice.finish_reason for choice in several.choices} <= {"length", "stop"}

    def test_log_probabilities(self, demo: Running) -> None:
        with client_of(demo) as client:
            answer = client.chat.completions.create(
                model="demo-model", messages=HELLO, logprobs=True, top_logprobs=2, max_tokens=5
            )
        (choice,) = answer.choices
        assert choice.logprobs is not None
        told = choice.logprobs.content or []
        assert len(told) == 5
        assert all(len(one.top_logprobs) == 2 and one.logprob <= 0 for one in told)
        said = b"".join(bytes(one.bytes or ()) for one in told).decode(errors="replace")
        assert (choice.message.content or "").strip() in said

    def test_a_schema_holds(self, demo: Running) -> None:
        schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
        form: Any = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
        with client_of(demo) as client:
            answer = client.chat.completions.create(
                model="demo-model", messages=HELLO, response_format=form, max_tokens=40
            )
            assert (answer.choices[0].message.content or "").startswith('{"n":')
            wrong: Any = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "nothing"}}}
            with pytest.raises(openai.BadRequestError) as refused:
                client.chat.completions.create(model="demo-model", messages=HELLO, response_format=wrong)
        assert refused.value.param == "response_format"

    def test_what_the_flow_cannot_do_is_refused_by_name(self) -> None:
        wanted: dict[str, Any] = {
            "tools": [{"type": "function", "function": {"name": "look", "parameters": {}}}],
            "logprobs": True,
            "response_format": {"type": "json_object"},
        }
        with running(numbered) as server, client_of(server) as client:
            for name, value in wanted.items():
                with pytest.raises(openai.BadRequestError, match="ends in no model") as refused:
                    client.chat.completions.create(model="numbered", messages=HELLO, **{name: value})
                assert refused.value.param == name
