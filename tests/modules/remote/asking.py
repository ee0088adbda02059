"""Asking a RemoteEngine, and scripts of servers that hang or break off."""

from __future__ import annotations

from typing import Any

import pytest

from millrace import Message, Sampling
from millrace.modules.local import Delta, Generation, Request
from millrace.modules.remote import RemoteEngine
from tests.support.scripted import Exchange, Script, ScriptedServer

__all__ = ["BUSY", "HI", "ask", "connected", "failure", "held", "rest", "then_cut"]

HI = [Message.user("Hi")]
BUSY = {"error": {"message": "busy", "code": "overloaded"}}


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


def held(*pieces: str) -> Script:
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
