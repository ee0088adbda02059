"""RemoteEngine against a server whose every byte is the test's: answers, failures and its life."""

from __future__ import annotations

import time
from typing import Any

import pytest

from millrace.modules.local import Delta, Request
from millrace.modules.remote import RemoteEngine
from millrace.streaming import (
    MillraceError,
    RemoteError,
    TokenUsage,
    ToolCall,
)
from tests.modules.remote.asking import ask, connected, failure, held, rest, then_cut
from tests.support.leaks import eventually_async, leaks
from tests.support.scripted import Exchange, ScriptedServer, answers, refuses

pytestmark = pytest.mark.anyio


class TestAnswers:
    async def test_each_piece_as_it_comes(self, server: ScriptedServer) -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.begin()
            for piece in ("Hel", "lo"):
                await exchange.say(piece)
                await server.signal(piece).wait()
            await exchange.finish(usage=(7, 2))

        server.script = script
        engine = connected(server)
        assert engine.status().time_to_first_token is None
        generation = ask(engine)
        for piece in ("Hel", "lo"):
            assert await anext(generation) == Delta(piece)
            assert generation.status == "running"
            server.signal(piece).set()
        (last,) = await rest(generation)
        assert (last.finish_reason, last.usage) == ("stop", TokenUsage(7, 2))
        status = engine.status()
        assert status.time_to_first_token is not None
        assert 0 < status.time_to_first_token < time.monotonic() - generation.submitted
        assert (status.running_limit, status.waiting_limit) == (engine.limits.running, engine.limits.waiting)
        await engine.aclose()

    async def test_result_and_what_was_asked(self, server: ScriptedServer) -> None:
        server.script = answers("Hel", "lo", reason="length")
        engine = connected(server, api_key="sk-1", extra={"user": "me"}, http={"headers": {"x-more": "yes"}})
        found = await ask(engine, temperature=0.5, max_tokens=9).result()
        assert (found.text, found.finish_reason, found.usage) == ("Hello", "length", TokenUsage(3, 5))
        asked = server.asked()
        assert (asked.method, asked.path) == ("POST", "/v1/chat/completions")
        assert asked.body["messages"] == [{"role": "user", "content": "Hi"}]
        assert (asked.body["temperature"], asked.body["max_tokens"], asked.body["user"]) == (0.5, 9, "me")
        assert (asked.headers["authorization"], asked.headers["x-more"]) == ("Bearer sk-1", "yes")
        await engine.aclose()

    async def test_reasoning_and_tool_calls(self, server: ScriptedServer) -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.begin()
            await exchange.delta(reasoning_content="hm")
            await exchange.delta(
                tool_calls=[{"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}}]
            )
            await exchange.delta(tool_calls=[{"index": 0, "function": {"arguments": "{}"}}])
            await exchange.finish("tool_calls")

        server.script = script
        engine = connected(server)
        found = await ask(engine).result()
        assert (found.text, found.reasoning, found.finish_reason) == ("", "hm", "tool_calls")
        assert found.tool_calls == (ToolCall("a", "f", "{}"),)
        await engine.aclose()

    async def test_a_server_that_does_not_stream(self, server: ScriptedServer) -> None:
        choice = {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}
        server.script = refuses(
            200, {"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}
        )
        engine = connected(server)
        found = await ask(engine).result()
        assert (found.text, found.usage) == ("Hello", TokenUsage(1, 2))
        await engine.aclose()

    async def test_bytes_cut_inside_of_characters(self, server: ScriptedServer) -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.begin()
            choice = '{"index":0,"delta":{"content":"Mühle 水車 🌊"},"finish_reason":"stop"}'
            raw = f'data: {{"choices":[{choice}]}}\r\n\r\n'.encode()
            for at in range(len(raw)):
                await exchange.raw(raw[at : at + 1])
            await exchange.end()

        server.script = script
        engine = connected(server)
        assert (await ask(engine).result()).text == "Mühle 水車 🌊"
        await engine.aclose()

    async def test_without_done_or_usage_a_finish_reason_is_enough(self, server: ScriptedServer) -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.begin()
            await exchange.say("a")
            await exchange.say("b")
            await exchange.delta(finish="stop")
            exchange.close()

        server.script = script
        engine = connected(server)
        found = await ask(engine).result()
        assert (found.text, found.finish_reason, found.usage) == ("ab", "stop", TokenUsage(0, 2))
        await engine.aclose()

    async def test_a_server_that_does_not_end_after_done(self, server: ScriptedServer) -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.begin()
            await exchange.delta(finish="stop", content="a")
            await exchange.data("[DONE]")
            await exchange.gone()

        server.script = script
        engine = connected(server)
        assert (await ask(engine).result()).text == "a"
        await eventually_async(server.asked().left.is_set)
        await engine.aclose()

    async def test_one_connection_for_one_after_the_other(self, server: ScriptedServer) -> None:
        engine = connected(server)
        await engine.ready()
        for _ in range(3):
            assert (await ask(engine).result()).text == "Hello"
        assert server.connections == 1
        await engine.aclose()

    async def test_a_stop_string_that_the_server_lets_out(self, server: ScriptedServer) -> None:
        server.script = held("Hel", "lo #", "# wor", "ld")
        engine = connected(server)
        found = await ask(engine, stop="##").result()
        assert (found.text, found.finish_reason) == ("Hello ", "stop")
        await eventually_async(server.asked().left.is_set, message="the rest is of no interest")
        assert server.asked().body["stop"] == ["##"]
        await engine.aclose()

    async def test_raw_text_goes_to_the_completions(self, server: ScriptedServer) -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.begin()
            await exchange.data({"choices": [{"index": 0, "text": " upon", "finish_reason": "stop"}]})
            await exchange.end()

        server.script = script
        engine = connected(server)
        assert (await engine.submit(Request(prompt="Once")).result()).text == " upon"
        assert (server.asked().path, server.asked().body["prompt"]) == ("/v1/completions", "Once")
        await engine.aclose()

    async def test_a_server_that_cannot_be_asked_for_usage(self, server: ScriptedServer) -> None:
        async def script(exchange: Exchange) -> None:
            if "stream_options" in exchange.body:
                await exchange.reply(422, {"detail": "Unexpected fields in the request: {'stream_options'}"})
            else:
                await answers("Hello")(exchange)

        server.script = script
        engine = connected(server)
        for _ in range(2):
            assert (await ask(engine).result()).text == "Hello"
        assert len(server.exchanges) == 3, "it is remembered"
        await engine.aclose()


class TestFailures:
    @pytest.mark.parametrize(
        ("frame", "match"),
        [
            ({"error": {"message": "boom", "type": "server_error"}}, "boom"),
            ({"error": "CUDA out of memory"}, "CUDA out of memory"),
            ("no json", "no chunk of an answer: no json"),
            ("[DONE]", "before the answer was complete"),
        ],
    )
    async def test_in_the_midst_of_an_answer(self, server: ScriptedServer, frame: object, match: str) -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.begin()
            await exchange.say("a")
            await exchange.data(frame)
            await exchange.end()

        server.script = script
        engine = connected(server)
        deltas = await rest(ask(engine))
        assert [delta.text for delta in deltas] == ["a", ""]
        assert isinstance(deltas[-1].error, RemoteError)
        assert match in str(deltas[-1].error)
        assert len(server.exchanges) == 1
        with pytest.raises(RemoteError):
            await ask(engine).result()
        assert engine.status().stops == {"error": 2}
        await engine.aclose()

    async def test_the_key_is_nowhere(
        self, server: ScriptedServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        caplog.set_level("DEBUG")
        monkeypatch.setenv("TEST_KEY", "sk-secret")
        server.script = refuses(401, {"error": {"message": "Incorrect API key provided: sk-secret"}})
        for engine in (connected(server, api_key="sk-secret"), connected(server, api_key_env="TEST_KEY")):
            error = await failure(engine)
            assert server.exchanges[-1].headers["authorization"] == "Bearer sk-secret"
            shown = [
                repr(engine),
                repr(engine.server),
                repr(engine.status()),
                str(error),
                repr(error),
                caplog.text,
            ]
            assert not any("sk-secret" in text for text in shown)
            await engine.aclose()

    async def test_a_key_that_is_not_set(self, server: ScriptedServer) -> None:
        engine = connected(server, api_key_env="TEST_KEY_THAT_IS_NOT_SET")
        assert "TEST_KEY_THAT_IS_NOT_SET is not set" in str(await failure(engine))
        with pytest.raises(RemoteError, match="is not set"):
            await engine.ready()
        assert server.connections == 0
        await engine.aclose()


class TestLife:
    async def test_closing_ends_all_and_it_opens_again(self, server: ScriptedServer) -> None:
        server.script = held("a")
        engine = connected(server)
        generations = [ask(engine) for _ in range(3)]
        for generation in generations:
            await anext(generation)
        await engine.aclose()
        assert [generation.finish_reason for generation in generations] == ["cancelled"] * 3
        assert engine.status().state == "closed"
        server.script = answers("Hello")
        assert (await ask(engine).result()).text == "Hello"
        assert engine.status().state == "ready"
        await engine.aclose()
        await engine.aclose()

    async def test_nothing_is_left_behind(self, server: ScriptedServer) -> None:
        engine = connected(server)
        await ask(engine).result()
        await engine.aclose()
        with leaks():
            for script in (answers("Hello"), held("a"), then_cut("a"), refuses(500)):
                server.script = script
                engine = connected(server, retries=0)
                generations = [ask(engine) for _ in range(4)]
                for generation in generations:
                    await anext(generation)
                    await generation.aclose()
                await engine.aclose()

    async def test_status_counts(self, server: ScriptedServer) -> None:
        engine = connected(server)
        assert (engine.status().state, engine.status().ready) == ("cold", False)
        await engine.ready()
        assert engine.status().ready
        for _ in range(2):
            await ask(engine).result()
        status = engine.status()
        assert (status.tokens_read, status.tokens_produced, status.stops) == (6, 10, {"stop": 2})
        assert status.tokens_per_second > 0
        assert status.model == f"tiny at {server.url}"
        await engine.aclose()

    @pytest.mark.parametrize("status", [404, 403, 429])
    async def test_a_server_without_a_list_of_models_is_ready(
        self, server: ScriptedServer, status: int
    ) -> None:
        engine = RemoteEngine(f"http://127.0.0.1:{server.port}/other", "tiny", retries=0)
        server.script = refuses(status)
        await engine.ready()
        await engine.aclose()

    @pytest.mark.parametrize(
        "wrong", [{"retries": -1}, {"retries": 1.5}, {"extra": {"model": "x"}}, {"api_key": ""}]
    )
    def test_what_cannot_be(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=next(iter(wrong))):
            RemoteEngine("http://host/v1", "tiny", **wrong)

    @pytest.mark.parametrize("name", ["timeout", "base_url", "auth"])
    def test_options_that_httpx_is_not_given(self, name: str) -> None:
        with pytest.raises(TypeError, match=f"no option '{name}'"):
            RemoteEngine("http://host/v1", "tiny", http={name: 1})

    async def test_errors_are_ours(self, server: ScriptedServer) -> None:
        for script in (
            refuses(418),
            then_cut(),
            refuses(200, b"[]"),
            refuses(200, b"", {"content-type": "text/html"}),
        ):
            server.script = script
            engine = connected(server, retries=0)
            assert isinstance(await failure(engine), MillraceError)
            await engine.aclose()
