"""How many requests are with a server at once."""

from __future__ import annotations

import asyncio
import threading

import pytest

from millrace import Limits, Message
from millrace.modules.local import Request
from millrace.streaming import (
    Overloaded,
)
from tests.modules.remote.asking import ask, connected, held, rest
from tests.support.scripted import Exchange, ScriptedServer, answers

pytestmark = pytest.mark.anyio


class TestLimits:
    async def test_so_many_go_so_many_wait_and_the_rest_is_refused_at_once(
        self, server: ScriptedServer
    ) -> None:
        server.script = held("a")
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
        server.script = held("a")
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
