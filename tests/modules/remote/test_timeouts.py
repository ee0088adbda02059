"""How long a server may take, phase by phase."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import pytest

from millrace import Limits
from millrace.modules.local import Request
from millrace.modules.remote import RemoteEngine, Timeouts
from tests.modules.remote.asking import HI, ask, connected, failure, held, rest
from tests.support.leaks import eventually_async
from tests.support.scripted import Exchange, ScriptedServer

pytestmark = pytest.mark.anyio


class TestTimeouts:
    async def test_to_connect(self) -> None:
        """A listener whose line is full takes no connection."""
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
        server.script = held(*pieces)
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
        server.script = held(*pieces)
        total = 0.4 if whose == "total" else None
        engine = connected(server, timeouts=Timeouts(total=total))
        deadline = time.monotonic() + 0.4 if whose == "deadline" else None
        generation = engine.submit(Request(messages=HI, deadline=deadline))
        deltas = await rest(generation)
        assert [delta.text for delta in deltas[:-1]] == list(pieces)
        assert (deltas[-1].finish_reason, deltas[-1].error) == ("timeout", None)
        await eventually_async(server.asked().left.is_set)
        await engine.aclose()

    async def test_while_it_waits_for_its_turn(self, server: ScriptedServer) -> None:
        server.script = held("a")
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
