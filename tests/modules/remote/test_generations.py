"""How a remote request is stopped, and how its history is made to fit."""

from __future__ import annotations

import asyncio

import pytest

from millrace import Limits, Message
from millrace.modules.local import Generation, Request
from millrace.modules.remote import RemoteEngine
from millrace.streaming import (
    ContextLengthExceeded,
)
from tests.modules.remote.asking import BUSY, HI, ask, connected, held, rest
from tests.support.leaks import eventually_async
from tests.support.scripted import Exchange, ScriptedServer, answers, refuses

pytestmark = pytest.mark.anyio


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
        server.script = held()
        engine = connected(server)
        generation = ask(engine)
        await asyncio.to_thread(server.asked)
        generation.cancel()
        assert generation.status == "running", "until the connection is closed"
        await self.check(server, engine, generation)

    async def test_before_the_first_token(self, server: ScriptedServer) -> None:
        server.script = held("")
        engine = connected(server)
        generation = ask(engine)
        await asyncio.to_thread(server.asked)
        await generation.aclose()
        await self.check(server, engine, generation)

    async def test_while_it_answers_and_twice(self, server: ScriptedServer) -> None:
        server.script = held("a", "b", "c")
        engine = connected(server)
        generation = ask(engine)
        assert (await anext(generation)).text == "a"
        generation.cancel()
        generation.cancel()
        await self.check(server, engine, generation)
        generation.cancel()
        assert generation.finish_reason == "cancelled"

    async def test_from_another_thread(self, server: ScriptedServer) -> None:
        server.script = held("a")
        engine = connected(server)
        generation = ask(engine)
        await anext(generation)
        await asyncio.to_thread(generation.cancel)
        await self.check(server, engine, generation)

    async def test_at_any_moment_of_connecting_and_sending(self, server: ScriptedServer) -> None:
        """httpcore forgets a connection that was made and not yet used; see `Progress.abandon`."""
        server.script = held()
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
        server.script = held("a")
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
        server.script = held("a")
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
