"""/v1/chat/completions as the openai client sees it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionChunk

from millrace import Limits, Message, Module, Pipeline, step
from millrace.streaming import (
    Run,
    Usage,
    current_run,
    emit,
)
from tests.launchers.support import PATH, Running, Source, client_of, echo, question, running, words
from tests.support.leaks import eventually

HELLO: Any = [{"role": "user", "content": "hello there you"}]


@pytest.fixture
def client(server: Running) -> Iterator[openai.OpenAI]:
    with client_of(server) as client:
        yield client


class TestOpenAIClient:
    def test_a_stream(self, client: openai.OpenAI) -> None:
        stream = client.chat.completions.create(model="words", messages=HELLO, stream=True)
        chunks: list[ChatCompletionChunk] = list(stream)
        deltas = [chunk.choices[0].delta for chunk in chunks]
        assert (deltas[0].role, deltas[0].content) == ("assistant", "")
        assert [delta.content for delta in deltas[1:-1]] == ["hello ", "there ", "you "]
        assert deltas[-1].content is None
        assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * 4 + ["stop"]
        assert {chunk.usage for chunk in chunks} == {None}
        assert len({chunk.id for chunk in chunks}) == 1
        assert {(chunk.object, chunk.model) for chunk in chunks} == {("chat.completion.chunk", "words")}

    def test_a_stream_with_usage(self, client: openai.OpenAI) -> None:
        chunks = list(
            client.chat.completions.create(
                model="words", messages=HELLO, stream=True, stream_options={"include_usage": True}
            )
        )
        assert chunks[-1].choices == []
        assert chunks[-1].usage is not None
        assert {chunk.usage for chunk in chunks[:-1]} == {None}

    def test_a_whole_answer(self, client: openai.OpenAI) -> None:
        answer = client.chat.completions.create(model="words", messages=HELLO)
        (choice,) = answer.choices
        assert (choice.message.role, choice.message.content) == ("assistant", "hello there you ")
        assert choice.finish_reason == "stop"
        assert answer.usage is not None
        assert answer.usage.total_tokens == 0

    def test_the_run_id_is_in_a_header(self, client: openai.OpenAI) -> None:
        for stream in (True, False):
            raw = client.chat.completions.with_raw_response.create(
                model="words", messages=HELLO, stream=stream
            )
            assert len(raw.headers["x-run-id"]) == 32
            raw.http_response.read()

    def test_models(self, client: openai.OpenAI) -> None:
        assert [model.id for model in client.models.list()] == ["words"]
        assert client.models.retrieve("words").owned_by == "millrace"
        with pytest.raises(openai.NotFoundError) as missing:
            client.models.retrieve("other")
        assert missing.value.code == "model_not_found"

    def test_an_unknown_model(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.NotFoundError, match="this server has 'words'") as missing:
            client.chat.completions.create(model="other", messages=HELLO)
        assert (missing.value.code, missing.value.param) == ("model_not_found", "model")

    @pytest.mark.parametrize("text", ["", "ä€😀\u2028", '"\\\n\t\x00', "\ufffd", "</script>", "a" * 100_000])
    def test_any_text_comes_back_as_it_is(self, text: str) -> None:
        with running(echo) as server, client_of(server) as client:
            messages: Any = [{"role": "user", "content": text}]
            whole = client.chat.completions.create(model="echo", messages=messages)
            assert whole.choices[0].message.content == text
            stream = client.chat.completions.create(model="echo", messages=messages, stream=True)
            assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == text

    @pytest.mark.anyio
    async def test_sixteen_streams_at_once_keep_apart(self) -> None:
        async with openai.AsyncOpenAI(base_url="http://unset", api_key="none", max_retries=0) as client:

            async def ask(i: int) -> str:
                messages: Any = [{"role": "user", "content": f"{i} " * 50}]
                stream = await client.chat.completions.create(model="words", messages=messages, stream=True)
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

            with running(words) as server:
                client.base_url = httpx.URL(f"{server.url}/v1/")
                answers = await asyncio.gather(*(ask(i) for i in range(16)))
            assert answers == [f"{i} " * 50 for i in range(16)]

    @pytest.mark.anyio
    async def test_closing_an_async_stream_stops_the_run(self) -> None:
        source = Source(items=10_000_000)
        source.open()
        with running(source) as server:
            async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
                stream = await client.chat.completions.create(model="Source", messages=HELLO, stream=True)
                async for _ in stream:
                    break
                await stream.close()
                await asyncio.to_thread(eventually, lambda: source.cleaned == 1)
            assert source.produced < source.items


class TestWire:
    def test_a_stream_ends_with_done_and_says_not_to_buffer(self, server: Running) -> None:
        with server.ask("a b") as connection:
            reply = connection.reply()
            assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert reply.headers["cache-control"] == "no-cache"
            assert reply.headers["x-accel-buffering"] == "no"
            *chunks, last = connection.events()
        assert last == "[DONE]"
        assert [json.loads(chunk)["choices"][0]["delta"] for chunk in chunks] == [
            {"role": "assistant", "content": "", "refusal": None},
            {"content": "a "},
            {"content": "b "},
            {},
        ]

    def test_a_connection_is_used_again(self, server: Running) -> None:
        with server.connect() as connection:
            for stream in (True, False, True):
                connection.send("POST", PATH, question("x", stream=stream))
                assert connection.reply().status == 200
                connection.read()

    def test_the_model_may_be_left_out(self, server: Running) -> None:
        assert server.post(question("a"))[2]["model"] == "words"


class TestInput:
    """The last text goes in, what was said before is the history; a flow of messages gets all."""

    TURNS = (
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "One."},
        {"role": "user", "content": [{"type": "text", "text": "T"}, {"type": "text", "text": "wo?"}]},
    )

    def answer(self, flow: Any, **more: Any) -> str:
        with running(flow) as server:
            status, _, answer = server.post({"messages": self.TURNS, **more})
        assert status == 200, answer
        text: str = answer["choices"][0]["message"]["content"]
        return text

    def test_text_with_history(self) -> None:
        async def flow(text: str) -> str:
            run = this_run()
            return "|".join([text, *(f"{message.role}: {message.content}" for message in run.history)])

        assert self.answer(flow) == "Two?|system: Be brief.|user: One?|assistant: One."

    def test_a_list_of_messages(self) -> None:
        async def flow(messages: list[Message]) -> str:
            return "|".join(f"{message.role}: {message.content}" for message in messages)

        wanted = "system: Be brief.|user: One?|assistant: One.|user: Two?"
        assert self.answer(flow) == wanted
        assert self.answer(Pipeline(flow, echo)) == wanted

    def test_sampling(self) -> None:
        class Told(Module[str, str]):
            sees_history = True

            async def __call__(self, text: str) -> str:  # type: ignore[override]
                return json.dumps(dict(this_run().sampling), sort_keys=True)

        flow = Told()
        given = {
            "temperature": 0.5,
            "top_p": 0.9,
            "top_k": 3,
            "seed": 7,
            "stop": ["x"],
            "presence_penalty": 1,
        }
        told = json.loads(self.answer(flow, **given, max_completion_tokens=5, logit_bias={"4": -100}))
        assert told == {**given, "max_tokens": 5, "logit_bias": {"4": -100}}

    @pytest.mark.parametrize("path", [PATH, "/v1/responses", "/v1/runs"])
    def test_what_would_cut_an_answer_off_is_refused_where_no_model_could(self, path: str) -> None:
        cuts: dict[str, list[Any]] = {"stop": ["x"], "max_tokens": [5], "max_completion_tokens": [5]}
        if path == "/v1/responses":
            cuts = {"stop": ["x"], "max_output_tokens": [5]}
        sampling: dict[str, Any] = {"temperature": 0.5, "top_p": 0.9, "seed": 7, "stop": None}
        asked: dict[str, Any] = {"messages": question("hi")["messages"]} if path == PATH else {"input": "hi"}
        with running(echo) as server:
            if path == "/v1/runs":
                del cuts["max_completion_tokens"]
                told = {name: {"sampling": {name: value[0]}} for name, value in cuts.items()}
                sampling = {"sampling": sampling}
            else:
                told = {name: {name: value[0]} for name, value in cuts.items()}
            assert server.post({**asked, **sampling}, path=path)[0] == 200
            for name, given in told.items():
                status, _, answer = server.post({**asked, **given}, path=path)
                assert status == 400
                assert answer["error"]["code"] == "unsupported_parameter"
                assert answer["error"]["param"].removeprefix("sampling.") == name
                assert "this flow ends in no model" in answer["error"]["message"]

    @pytest.mark.parametrize("most", [1, 3, 50])
    def test_several_answers_are_given_at_once_as_far_as_there_are_places(self, most: int) -> None:
        at_work = largest = 0

        async def flow(text: str) -> str:
            nonlocal at_work, largest
            at_work += 1
            largest = max(largest, at_work)
            await asyncio.sleep(0.01)
            at_work -= 1
            return text

        with running(flow, limits=Limits(running=most)) as server:
            choices = server.post(question("hi", n=8))[2]["choices"]
        assert [choice["message"]["content"] for choice in choices] == ["hi"] * 8
        assert largest == min(most, 8)

    def test_every_request_is_a_session_of_its_own(self) -> None:
        async def flow(text: str) -> str:
            return this_run().session

        with running(flow) as server:
            sessions = {server.post(question())[2]["choices"][0]["message"]["content"] for _ in range(3)}
        assert len(sessions) == 3


def this_run() -> Run:
    run = current_run()
    assert run is not None
    return run


class TestAnswers:
    def one(self, flow: Any, stream: bool) -> tuple[str, str, dict[str, Any]]:
        """Text, finish reason and usage of an answer."""
        with running(flow) as server, client_of(server) as client:
            model = server.service.model
            if not stream:
                whole = client.chat.completions.create(model=model, messages=HELLO)
                (choice,) = whole.choices
                assert whole.usage is not None
                return choice.message.content or "", choice.finish_reason, whole.usage.model_dump()
            *chunks, finish, usage = client.chat.completions.create(
                model=model, messages=HELLO, stream=True, stream_options={"include_usage": True}
            )
            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
            assert usage.usage is not None
            return text, str(finish.choices[0].finish_reason), usage.usage.model_dump()

    @pytest.fixture(params=[True, False], ids=["stream", "whole"])
    def stream(self, request: pytest.FixtureRequest) -> bool:
        return bool(request.param)

    def test_a_plain_functions_result(self, stream: bool) -> None:
        assert self.one(str.upper, stream)[0] == "HELLO THERE YOU"

    def test_a_result_that_is_no_text(self, stream: bool) -> None:
        assert self.one(len, stream)[0] == "15"

    def test_no_result(self, stream: bool) -> None:
        async def nothing(text: str) -> None:
            return None

        assert self.one(nothing, stream)[0] == ""

    def test_only_the_last_steps_pieces_are_sent(self, stream: bool) -> None:
        assert self.one(step(words) | str.upper, stream)[0] == "HELLO THERE YOU "

    def test_usage_and_finish_reason(self, stream: bool) -> None:
        async def model(text: str) -> AsyncIterator[str]:
            yield "cut"
            emit(Usage(3, 4))
            this_run().finish_reason = "length"

        text, reason, usage = self.one(model, stream)
        assert (text, reason) == ("cut", "length")
        assert {name: usage[name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")} == {
            "prompt_tokens": 3,
            "completion_tokens": 4,
            "total_tokens": 7,
        }

    def test_a_reason_that_openai_has_no_word_for(self, stream: bool) -> None:
        async def model(text: str) -> str:
            this_run().finish_reason = "stop_condition"
            return "x"

        assert self.one(model, stream)[1] == "stop"
