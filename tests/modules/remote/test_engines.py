"""RemoteEngine against a server whose every byte is the test's."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from millrace import Limits, Message, Sampling
from millrace.modules.local import Delta, Generation, Request
from millrace.modules.remote import RemoteEngine, Timeouts, tries
from millrace.streaming import (
    ContextLengthExceeded,
    MillraceError,
    Overloaded,
    RemoteError,
    TokenUsage,
    ToolCall,
)
from tests.support.leaks import eventually, eventually_async, leaks
from tests.support.scripted import Exchange, Script, ScriptedServer, answers, in_turn, refuses, scripted

pytestmark = pytest.mark.anyio

HI = [Message.user("Hi")]
BUSY = {"error": {"message": "busy", "code": "overloaded"}}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted() as made:
        yield made


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tries, "FIRST_PAUSE", 0.01)


def connected(server: ScriptedServer, **options: Any) -> RemoteEngine:
    return RemoteEngine(server.url, "tiny", **options)


def ask(engine: RemoteEngine, **settings: Any) -> Generation:
    return engine.submit(Request(messages=HI, sampling=Sampling(**settings)))


async def rest(generation: Generation) -> list[Delta]:
    """The remaining deltas; the last one and only the last one is terminal."""
    deltas = [delta async for delta in generation]
    assert [delta.finish_reason is not None for delta in deltas] == [False] * (len(deltas) - 1) + [True]
    assert deltas[-1].usage is not None
    assert (generation.status, generation.finish_reason) == ("finished", deltas[-1].finish_reason)
    with pytest.raises(StopAsyncIteration):
        await anext(generation)
    return deltas


async def failure(engine: RemoteEngine, **settings: Any) -> BaseException:
    """The error with which an answer ends."""
    last = (await rest(ask(engine, **settings)))[-1]
    assert last.finish_reason == "error"
    assert last.error is not None
    return last.error


def held(server: ScriptedServer, *pieces: str) -> Script:
    """Says these, then waits until the client leaves."""

    async def script(exchange: Exchange) -> None:
        if pieces:
            await exchange.begin()
        for piece in pieces:
            await exchange.say(piece)
        await exchange.gone()

    return script


def then_cut(*pieces: str, close: bool = False) -> Script:
    """Says these, then ends the connection in the midst of it."""

    async def script(exchange: Exchange) -> None:
        if pieces:
            await exchange.begin()
        for piece in pieces:
            await exchange.say(piece)
        exchange.close() if close else exchange.cut()

    return script


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
        generation = ask(engine)
        for piece in ("Hel", "lo"):
            assert await anext(generation) == Delta(piece)
            assert generation.status == "running"
            server.signal(piece).set()
        (last,) = await rest(generation)
        assert (last.finish_reason, last.usage) == ("stop", TokenUsage(7, 2))
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
        server.script = held(server, "Hel", "lo #", "# wor", "ld")
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


class TestLoops:
    def test_from_a_thread_without_a_loop(self, server: ScriptedServer) -> None:
        engine = connected(server)
        generation = ask(engine)
        eventually(lambda: generation.status == "finished")
        assert asyncio.run(generation.result()).text == "Hello"
        asyncio.run(engine.aclose())

    async def test_a_listener_in_another_loop(self, server: ScriptedServer) -> None:
        engine = connected(server)
        generation = ask(engine)
        found = await asyncio.to_thread(lambda: asyncio.run(generation.result()))
        assert found.text == "Hello"
        await engine.aclose()

    def test_one_loop_after_the_other_leaves_no_connection(self, server: ScriptedServer) -> None:
        """Each `asyncio.run` closes what it has opened; an unclosed socket would warn, and warnings are errors."""
        engine = connected(server)

        async def once() -> str:
            return (await ask(engine).result()).text

        asyncio.run(once())
        with leaks():
            for _ in range(3):
                assert asyncio.run(once()) == "Hello"
        assert server.connections == 4

    def test_the_end_of_a_loop_ends_its_requests(self, server: ScriptedServer) -> None:
        server.script = held(server, "a")
        engine = connected(server, limits=Limits(running=1, waiting=1))

        async def leave() -> tuple[Generation, Generation]:
            generation, queued = ask(engine), ask(engine)
            await anext(generation)
            return generation, queued

        left = asyncio.run(leave())
        assert [generation.finish_reason for generation in left] == ["cancelled", "cancelled"]
        eventually(server.asked().left.is_set)
        assert (engine.status().running, engine.status().waiting) == (0, 0)

    def test_httpx_is_loaded_by_the_first_request(self) -> None:
        code = (
            "import sys; from millrace import RemoteModel; RemoteModel('http://localhost/v1', 'a'); "
            "print(sorted({'httpx', 'torch'} & set(sys.modules)))"
        )
        assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


class TestStops:
    """The server sees the connection close; a later attempt is never made."""

    async def check(self, server: ScriptedServer, engine: RemoteEngine, generation: Generation) -> None:
        (last,) = await rest(generation)
        assert last.finish_reason == "cancelled"
        await eventually_async(server.asked().left.is_set)
        status = engine.status()
        assert (status.running, status.waiting, status.stops) == (0, 0, {"cancelled": 1})
        assert len(server.exchanges) == 1
        server.script = answers("Hello")
        assert (await ask(engine).result()).text == "Hello"
        await engine.aclose()

    async def test_before_the_head(self, server: ScriptedServer) -> None:
        server.script = held(server)
        engine = connected(server)
        generation = ask(engine)
        await asyncio.to_thread(server.asked)
        generation.cancel()
        assert generation.status == "running", "until the connection is closed"
        await self.check(server, engine, generation)

    async def test_before_the_first_token(self, server: ScriptedServer) -> None:
        server.script = held(server, "")
        engine = connected(server)
        generation = ask(engine)
        await asyncio.to_thread(server.asked)
        await generation.aclose()
        await self.check(server, engine, generation)

    async def test_while_it_answers_and_twice(self, server: ScriptedServer) -> None:
        server.script = held(server, "a", "b", "c")
        engine = connected(server)
        generation = ask(engine)
        assert (await anext(generation)).text == "a"
        generation.cancel()
        generation.cancel()
        await self.check(server, engine, generation)
        generation.cancel()
        assert generation.finish_reason == "cancelled"

    async def test_from_another_thread(self, server: ScriptedServer) -> None:
        server.script = held(server, "a")
        engine = connected(server)
        generation = ask(engine)
        await anext(generation)
        await asyncio.to_thread(generation.cancel)
        await self.check(server, engine, generation)

    async def test_at_any_moment_of_connecting_and_sending(self, server: ScriptedServer) -> None:
        """httpcore forgets a connection that was made and not yet used; see `Progress.abandon`."""
        server.script = held(server)
        engine = connected(server)
        going = ask(engine)
        await asyncio.to_thread(server.asked)
        for turns in range(80):
            generation = ask(engine)
            for _ in range(turns):
                await asyncio.sleep(0)
            await generation.aclose()
        await eventually_async(lambda: server.open_connections == 1)
        assert 1 < len(server.exchanges) < 81
        await going.aclose()
        await engine.aclose()

    async def test_the_reasons_that_are_kept(self, server: ScriptedServer) -> None:
        server.script = held(server, "a")
        engine = connected(server)
        for reason in ("stop_condition", "timeout"):
            generation = ask(engine)
            await anext(generation)
            generation.cancel(reason)
            assert (await rest(generation))[-1].finish_reason == reason
        await engine.aclose()

    async def test_right_after_submit(self, server: ScriptedServer) -> None:
        engine = connected(server)
        generation = ask(engine)
        generation.cancel()
        assert [delta.finish_reason for delta in await rest(generation)] == ["cancelled"]
        await generation.aclose()
        assert (engine.status().running, server.connections) == (0, 0)
        await engine.aclose()

    async def test_while_it_waits_for_its_turn(self, server: ScriptedServer) -> None:
        server.script = held(server, "a")
        engine = connected(server, limits=Limits(running=1))
        first, queued = ask(engine), ask(engine)
        await anext(first)
        queued.cancel()
        assert queued.status == "finished", "at once: it holds nothing"
        await queued.aclose()
        first.cancel()
        await first.aclose()
        assert len(server.exchanges) == 1
        await engine.aclose()

    async def test_after_the_end_untaken_text_is_discarded(self, server: ScriptedServer) -> None:
        server.script = answers("a", "b")
        engine = connected(server)
        generation = ask(engine)
        await eventually_async(lambda: generation.status == "finished")
        generation.cancel()
        assert [delta.finish_reason for delta in await rest(generation)] == ["cancelled"]
        await engine.aclose()

    async def test_while_it_waits_to_try_again(self, server: ScriptedServer) -> None:
        server.script = refuses(503, BUSY, {"retry-after": "30"})
        engine = connected(server)
        generation = ask(engine)
        await asyncio.to_thread(server.asked)
        generation.cancel()
        assert [delta.finish_reason for delta in await rest(generation)] == ["cancelled"]
        await engine.aclose()

    @pytest.mark.parametrize("after", [0, 2])
    async def test_a_caller_that_is_asked(self, server: ScriptedServer, after: int) -> None:
        """`is_stopped` is for those who cannot call any more."""
        got: list[str] = []

        async def script(exchange: Exchange) -> None:
            await exchange.begin()
            await exchange.say("a")
            await exchange.say("b")
            await server.signal("more").wait()
            await exchange.say("c")
            await exchange.gone()

        server.script = script
        engine = connected(server)
        generation = engine.submit(Request(messages=HI, is_stopped=lambda: len(got) >= after))
        async for delta in generation:
            got += [delta.text] if delta.text else []
            if len(got) == 2:
                server.signal("more").set()
        assert (generation.finish_reason, len(got)) == ("cancelled", after + bool(after))
        if after:
            await eventually_async(server.asked().left.is_set)
        else:
            assert server.exchanges == []
        await engine.aclose()


class TestRetries:
    @pytest.mark.parametrize(
        "first",
        [
            refuses(429, BUSY),
            refuses(502),
            refuses(503, b"<html>"),
            refuses(504),
            then_cut(),
            then_cut("", close=True),
        ],
        ids=["429", "502", "503", "504", "cut", "empty stream"],
    )
    async def test_what_may_pass_before_the_first_token(self, server: ScriptedServer, first: Script) -> None:
        server.script = in_turn(first, answers("Hello"))
        engine = connected(server)
        assert (await ask(engine).result()).text == "Hello"
        assert len(server.exchanges) == 2
        await engine.aclose()

    async def test_an_error_frame_before_the_first_token(self, server: ScriptedServer) -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.begin()
            await exchange.data(BUSY)
            await exchange.end()

        server.script = in_turn(script, answers("Hello"))
        engine = connected(server)
        assert (await ask(engine).result()).text == "Hello"
        await engine.aclose()

    @pytest.mark.parametrize("close", [False, True], ids=["RST", "FIN"])
    async def test_never_after_it(self, server: ScriptedServer, close: bool) -> None:
        server.script = then_cut("a", "b", close=close)
        engine = connected(server)
        deltas = await rest(ask(engine))
        assert [delta.text for delta in deltas if delta.text] in (["a", "b"], ["a"], [])
        assert deltas[-1].finish_reason == "error"
        assert isinstance(deltas[-1].error, RemoteError)
        if len(deltas) > 1:  # an RST may overtake what was sent
            assert len(server.exchanges) == 1
        await engine.aclose()

    @pytest.mark.parametrize("retries", [0, 1, 3])
    async def test_as_often_as_told(self, server: ScriptedServer, retries: int) -> None:
        server.script = refuses(503)
        engine = connected(server, retries=retries)
        error = await failure(engine)
        assert isinstance(error, RemoteError)
        assert error.status == 503
        assert len(server.exchanges) == 1 + retries
        await engine.aclose()

    @pytest.mark.parametrize("status", [400, 401, 404, 500])
    async def test_what_does_not_pass(self, server: ScriptedServer, status: int) -> None:
        server.script = refuses(status, {"error": {"message": "no such thing"}})
        engine = connected(server)
        error = await failure(engine)
        assert isinstance(error, RemoteError)
        assert (error.status, len(server.exchanges)) == (status, 1)
        assert "no such thing" in str(error)
        assert engine.status().error == str(error)
        await engine.aclose()

    async def test_the_server_says_how_long(self, server: ScriptedServer) -> None:
        server.script = in_turn(refuses(429, BUSY, {"retry-after": "0.3"}), answers("Hello"))
        engine = connected(server)
        began = time.monotonic()
        await ask(engine).result()
        assert 0.29 < time.monotonic() - began < 5
        await engine.aclose()

    async def test_a_refusal_for_long_is_final(self, server: ScriptedServer) -> None:
        server.script = refuses(429, BUSY, {"retry-after": "3600"})
        engine = connected(server)
        error = await failure(engine)
        assert isinstance(error, Overloaded)
        assert (error.retry_after, len(server.exchanges)) == (3600.0, 1)
        await engine.aclose()

    async def test_a_server_that_is_down_names_the_cure(self) -> None:
        engine = RemoteEngine("http://127.0.0.1:1/v1", "tiny", retries=1)
        error = await failure(engine)
        assert isinstance(error, RemoteError)
        assert "http://127.0.0.1:1/v1 cannot be reached" in str(error)
        with pytest.raises(RemoteError, match="cannot be reached"):
            await engine.ready()
        assert engine.status().state == "cold"
        await engine.aclose()

    async def test_a_connection_that_was_closed_while_idle(self, server: ScriptedServer) -> None:
        async def script(exchange: Exchange) -> None:
            await answers("Hello")(exchange)
            exchange.close()

        server.script = script
        engine = connected(server, retries=1)
        for _ in range(5):
            assert (await ask(engine).result()).text == "Hello"
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


class TestTimeouts:
    async def test_to_connect(self) -> None:
        """A listener whose line is full takes no connection."""
        import socket

        with socket.socket() as listener, socket.socket() as one, socket.socket() as two:
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            for filling in (one, two):
                filling.setblocking(False)
                filling.connect_ex(listener.getsockname())
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
            engine = RemoteEngine(url, "tiny", timeouts=Timeouts(connect=0.1), retries=0)
            assert "took no connection within 0.1 s" in str(await failure(engine))
            await engine.aclose()

    @pytest.mark.parametrize("pieces", [(), ("",)], ids=["before the head", "after it"])
    async def test_to_the_first_token(self, server: ScriptedServer, pieces: tuple[str, ...]) -> None:
        server.script = held(server, *pieces)
        engine = connected(server, timeouts=Timeouts(first_token=0.1))
        assert "sent no answer within 0.1 s, which is Timeouts(first_token)" in str(await failure(engine))
        await eventually_async(server.asked().left.is_set)
        assert len(server.exchanges) == 1
        await engine.aclose()

    async def test_between_tokens_and_keeping_alive_does_not_count(self, server: ScriptedServer) -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.begin()
            await exchange.say("a")
            while not exchange.left.is_set():
                await exchange.raw(b": keep-alive\n\n")
                await asyncio.sleep(0.01)

        server.script = script
        engine = connected(server, timeouts=Timeouts(between_tokens=0.1))
        assert "sent nothing more for 0.1 s, which is Timeouts(between_tokens)" in str(await failure(engine))
        await eventually_async(server.asked().left.is_set)
        await engine.aclose()

    async def test_each_token_starts_anew(self, server: ScriptedServer) -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.begin()
            for _ in range(10):
                await asyncio.sleep(0.05)
                await exchange.say("a")
            await exchange.finish()

        server.script = script
        engine = connected(server, timeouts=Timeouts(first_token=0.4, between_tokens=0.4))
        assert (await ask(engine).result()).text == "a" * 10
        await engine.aclose()

    @pytest.mark.parametrize("whose", ["total", "deadline"])
    @pytest.mark.parametrize("pieces", [(), ("a",)], ids=["before the first token", "after it"])
    async def test_in_total(self, server: ScriptedServer, whose: str, pieces: tuple[str, ...]) -> None:
        server.script = held(server, *pieces)
        total = 0.2 if whose == "total" else None
        engine = connected(server, timeouts=Timeouts(total=total))
        deadline = time.monotonic() + 0.2 if whose == "deadline" else None
        generation = engine.submit(Request(messages=HI, deadline=deadline))
        deltas = await rest(generation)
        assert [delta.text for delta in deltas[:-1]] == list(pieces)
        assert (deltas[-1].finish_reason, deltas[-1].error) == ("timeout", None)
        await eventually_async(server.asked().left.is_set)
        await engine.aclose()

    async def test_while_it_waits_for_its_turn(self, server: ScriptedServer) -> None:
        server.script = held(server, "a")
        engine = connected(server, limits=Limits(running=1))
        first = ask(engine)
        await anext(first)
        queued = engine.submit(Request(messages=HI, deadline=time.monotonic() + 0.05))
        assert (await rest(queued))[-1].finish_reason == "timeout"
        await engine.aclose()
        assert first.finish_reason == "cancelled"

    @pytest.mark.parametrize("wrong", [0, -1, "5", float("nan")])
    def test_what_is_no_time(self, wrong: Any) -> None:
        with pytest.raises(ValueError, match="first_token"):
            Timeouts(first_token=wrong)


class TestLimits:
    async def test_so_many_go_so_many_wait_and_the_rest_is_refused_at_once(
        self, server: ScriptedServer
    ) -> None:
        server.script = held(server, "a")
        engine = connected(server, limits=Limits(running=2, waiting=1))
        going = [ask(engine) for _ in range(3)]
        with pytest.raises(Overloaded, match="running=2, waiting=1") as refused:
            ask(engine)
        assert refused.value.retry_after >= 1
        await anext(going[0])
        await anext(going[1])
        assert (engine.status().running, engine.status().waiting, len(server.exchanges)) == (2, 1, 2)
        going[0].cancel()
        await anext(going[2])
        assert len(server.exchanges) == 3
        await engine.aclose()
        assert (engine.status().running, engine.status().waiting) == (0, 0)

    async def test_in_the_order_of_their_coming(self, server: ScriptedServer) -> None:
        engine = connected(server, limits=Limits(running=1))
        generations = [engine.submit(Request(messages=[Message.user(str(i))])) for i in range(8)]
        for generation in generations:
            await generation.result()
        assert [asked.body["messages"][0]["content"] for asked in server.exchanges] == list("01234567")
        await engine.aclose()

    async def test_waiting_too_long(self, server: ScriptedServer) -> None:
        server.script = held(server, "a")
        engine = connected(server, limits=Limits(running=1, queue_timeout=0.05))
        first, queued = ask(engine), ask(engine)
        last = (await rest(queued))[-1]
        assert isinstance(last.error, Overloaded)
        assert "queue_timeout" in str(last.error)
        first.cancel()
        await first.aclose()
        await engine.aclose()

    def test_over_several_loops(self, server: ScriptedServer) -> None:
        engine = connected(server, limits=Limits(running=2, waiting=100))
        most: list[int] = []

        async def script(exchange: Exchange) -> None:
            most.append(engine.status().running)
            await answers("Hello")(exchange)

        server.script = script

        async def several() -> list[str]:
            found = await asyncio.gather(*(ask(engine).result() for _ in range(10)))
            return [answer.text for answer in found]

        texts: list[str] = []
        threads = [threading.Thread(target=lambda: texts.extend(asyncio.run(several()))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert texts == ["Hello"] * 40
        assert max(most) == 2
        assert (engine.status().running, engine.status().waiting) == (0, 0)


class TestHistories:
    async def test_the_oldest_turns_go_until_the_rest_fits(self, server: ScriptedServer) -> None:
        async def script(exchange: Exchange) -> None:
            if len(exchange.body["messages"]) > 6:
                await exchange.reply(400, {"error": {"message": "long", "code": "context_length_exceeded"}})
            else:
                await answers("Hello")(exchange)

        server.script = script
        engine = connected(server)
        turns = [Message.user("a"), Message.assistant("b")] * 20
        messages = [Message.system("s"), *turns, Message.user("Hi")]
        generation = engine.submit(Request(messages=messages, drop_oldest=40))
        assert (await generation.result()).text == "Hello"
        sent = server.exchanges[-1].body["messages"]
        assert sent == [message.as_dict() for message in [messages[0], *messages[1 + generation.dropped :]]]
        assert sent[1]["role"] == "user"
        assert generation.dropped >= 36
        assert len(server.exchanges) <= 6
        await engine.aclose()

    @pytest.mark.parametrize("droppable", [0, 4])
    async def test_what_may_not_be_dropped_is_too_long(self, server: ScriptedServer, droppable: int) -> None:
        server.script = refuses(400, {"error": {"message": "long", "code": "context_length_exceeded"}})
        engine = connected(server)
        messages = [*[Message.user("a"), Message.assistant("b")] * 2, Message.user("Hi")]
        with pytest.raises(ContextLengthExceeded, match="long"):
            await engine.submit(Request(messages=messages, drop_oldest=droppable)).result()
        if droppable:
            assert len(server.exchanges[-1].body["messages"]) == 1
        else:
            assert len(server.exchanges) == 1
        await engine.aclose()


class TestLife:
    async def test_closing_ends_all_and_it_opens_again(self, server: ScriptedServer) -> None:
        server.script = held(server, "a")
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
            for script in (answers("Hello"), held(server, "a"), then_cut("a"), refuses(500)):
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


class TestEnvironment:
    async def test_this_machine_needs_no_proxy(
        self, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        for host in ("127.0.0.1", "localhost"):
            engine = RemoteEngine(f"http://{host}:{server.port}/v1", "tiny", retries=0)
            assert (await ask(engine).result()).text == "Hello"
            await engine.aclose()

    @pytest.mark.parametrize("way", ["environment", "argument"])
    async def test_elsewhere_through_the_proxy(
        self, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, way: str
    ) -> None:
        proxy = f"http://127.0.0.1:{server.port}"
        options: dict[str, Any] = {}
        if way == "environment":
            monkeypatch.setenv("http_proxy", proxy)
            monkeypatch.delenv("no_proxy", raising=False)
        else:
            options = {"http": {"proxy": proxy}}
        engine = RemoteEngine("http://models.invalid/v1", "tiny", retries=0, **options)
        assert (await ask(engine).result()).text == "Hello"
        assert server.asked().path == "http://models.invalid/v1/chat/completions"
        await engine.aclose()

    async def test_unless_the_environment_is_not_to_be_trusted(
        self, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.port}")
        engine = RemoteEngine("http://models.invalid/v1", "tiny", retries=0, http={"trust_env": False})
        assert "cannot be reached" in str(await failure(engine))
        assert server.exchanges == []
        await engine.aclose()
