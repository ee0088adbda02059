"""What is tried again, how often and when."""

from __future__ import annotations

import time

import pytest

from millrace.modules.remote import RemoteEngine
from millrace.streaming import (
    Overloaded,
    RemoteError,
)
from tests.modules.remote.asking import BUSY, ask, connected, failure, rest, then_cut
from tests.support.scripted import Exchange, Script, ScriptedServer, answers, in_turn, refuses

pytestmark = pytest.mark.anyio


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
