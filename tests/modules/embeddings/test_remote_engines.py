"""Embeddings over a socket: what is asked, what may come back, and a stop that closes the connection."""

from __future__ import annotations

import asyncio
import base64
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest

from millrace.modules.embeddings import RemoteEmbeddingEngine
from millrace.modules.remote import Timeouts
from millrace.streaming import ContextLengthExceeded, Limits, Overloaded, RemoteError, RunTimeout, TokenUsage
from tests.support.leaks import eventually_async, leaks
from tests.support.scripted import Exchange, ScriptedServer, in_turn, refuses, scripted

pytestmark = pytest.mark.anyio


async def lengths(exchange: Exchange) -> None:
    """Each text's vector is its length and 1; the items come in the wrong order."""
    texts = exchange.body["input"]
    data = [
        {"object": "embedding", "index": at, "embedding": [len(text), 1]} for at, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
    await exchange.reply(200, {"object": "list", "data": data[::-1], "usage": usage})


async def hangs(exchange: Exchange) -> None:
    await exchange.gone()


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted(lengths) as made:
        yield made


def connected(server: ScriptedServer, **options: Any) -> RemoteEmbeddingEngine:
    return RemoteEmbeddingEngine(server.url, "tiny", **{"normalize": False, **options})


async def test_in_the_order_of_the_texts(server: ScriptedServer) -> None:
    engine = connected(server, api_key="sk-1", extra={"dimensions": 2, "encoding_format": None})
    found = await engine.embed(["abc", "a", "ab"])
    assert found.vectors == [[3, 1], [1, 1], [2, 1]]
    assert found.usage == TokenUsage(3, 0)
    asked = server.asked()
    assert (asked.path, asked.headers["authorization"]) == ("/v1/embeddings", "Bearer sk-1")
    assert asked.body == {"model": "tiny", "input": ["abc", "a", "ab"], "dimensions": 2}
    await engine.aclose()


async def test_many_texts_in_batches(server: ScriptedServer) -> None:
    engine = connected(server, batch=4)
    found = await engine.embed(["a" * n for n in range(1, 11)])
    assert [vector[0] for vector in found.vectors] == list(range(1, 11))
    assert [len(exchange.body["input"]) for exchange in server.exchanges] == [4, 4, 2]
    assert (found.usage.prompt_tokens, engine.status().tokens_read) == (10, 10)
    await engine.aclose()


async def test_the_length_of_a_vector(server: ScriptedServer) -> None:
    engine = connected(server, normalize=True)
    (vector,) = (await engine.embed(["abc"])).vectors
    assert vector == pytest.approx([3 / 10**0.5, 1 / 10**0.5])
    server.script = refuses(200, {"data": [{"index": 0, "embedding": [0, 0]}]})
    assert (await engine.embed(["abc"])).vectors == [[0, 0]]
    await engine.aclose()


async def test_base64_unasked(server: ScriptedServer) -> None:
    text = base64.b64encode(struct.pack("<2f", 0.5, -2)).decode()
    server.script = refuses(200, {"data": [{"index": 0, "embedding": text}]})
    engine = connected(server)
    assert (await engine.embed(["a"])).vectors == [[0.5, -2]]
    await engine.aclose()


@pytest.mark.parametrize(
    "reply",
    [
        {},
        [],
        {"data": []},
        {"data": [{"index": 0, "embedding": [1]}, {"index": 1, "embedding": [1]}]},
        {"data": [{"index": 1, "embedding": [1]}]},
        {"data": [{"index": 0, "embedding": []}]},
        {"data": [{"index": 0, "embedding": ["x"]}]},
        {"data": [{"index": 0, "embedding": [float("nan")]}]},
        {"data": [{"index": 0, "embedding": "!"}]},
        {"data": [{"embedding": [1]}]},
        {"data": [5]},
    ],
)
async def test_what_are_no_embeddings(server: ScriptedServer, reply: object) -> None:
    server.script = refuses(200, reply)
    engine = connected(server)
    with pytest.raises(RemoteError, match="no embeddings of 1 texts"):
        await engine.embed(["a"])
    assert len(server.exchanges) == 1
    await engine.aclose()


async def test_vectors_of_different_lengths(server: ScriptedServer) -> None:
    server.script = refuses(
        200, {"data": [{"index": 0, "embedding": [1]}, {"index": 1, "embedding": [1, 2]}]}
    )
    engine = connected(server)
    with pytest.raises(RemoteError, match="no embeddings of 2 texts"):
        await engine.embed(["a", "b"])
    await engine.aclose()


async def test_refusals(server: ScriptedServer) -> None:
    engine = connected(server, retries=1)
    server.script = refuses(400, {"error": {"message": "too long", "code": "context_length_exceeded"}})
    with pytest.raises(ContextLengthExceeded, match="too long"):
        await engine.embed(["a"])
    server.script = refuses(404, {"error": {"message": "no model"}})
    with pytest.raises(RemoteError, match="no model"):
        await engine.embed(["a"])
    assert "no model" in engine.status().error
    assert len(server.exchanges) == 2
    server.script = refuses(429, {"error": {"message": "busy"}}, {"retry-after": "0.01"})
    with pytest.raises(Overloaded, match="busy"):
        await engine.embed(["a"])
    assert len(server.exchanges) == 4
    server.script = in_turn(refuses(503), lengths)
    assert (await engine.embed(["a"])).vectors == [[1, 1]]
    assert engine.status().stops == {"error": 3, "stop": 1}
    await engine.aclose()


async def test_a_stop_closes_the_connection(server: ScriptedServer) -> None:
    server.script = in_turn(lengths, hangs)
    engine = connected(server, batch=1)
    with leaks():
        task = asyncio.create_task(engine.embed(["a", "b", "c"]))
        await eventually_async(lambda: len(server.exchanges) == 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually_async(server.exchanges[1].left.is_set)
        await engine.aclose()
    assert len(server.exchanges) == 2
    assert (engine.status().running, engine.status().stops) == (0, {"cancelled": 1})


async def test_timeouts(server: ScriptedServer) -> None:
    server.script = hangs
    engine = connected(server, timeouts=Timeouts(first_token=0.1))
    with pytest.raises(RemoteError, match=r"0\.1 s, which is Timeouts\(first_token\)"):
        await engine.embed(["a"])
    await engine.aclose()
    engine = connected(server, timeouts=Timeouts(total=0.1))
    began = time.monotonic()
    with pytest.raises(RunTimeout):
        await engine.embed(["a"])
    assert time.monotonic() - began < 5
    assert engine.status().stops == {"timeout": 1}
    await engine.aclose()


async def test_limits(server: ScriptedServer) -> None:
    server.script = hangs
    engine = connected(server, limits=Limits(running=1, waiting=1))
    tasks = [asyncio.create_task(engine.embed(["a"])) for _ in range(2)]
    await eventually_async(lambda: (engine.status().running, engine.status().waiting) == (1, 1))
    with pytest.raises(Overloaded):
        await engine.embed(["a"])
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    server.script = lengths
    assert (await engine.embed(["a"])).vectors == [[1, 1]]
    await engine.aclose()


async def test_a_server_that_is_down() -> None:
    engine = RemoteEmbeddingEngine("http://127.0.0.1:1/v1", "tiny", retries=0)
    for asking in (engine.ready, lambda: engine.embed(["a"])):
        with pytest.raises(RemoteError, match="cannot be reached"):
            await asking()
    await engine.aclose()


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"model": ""}, {"retries": -1}])
def test_settings_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RemoteEmbeddingEngine(**{"url": "http://host/v1", "model": "tiny", **wrong})
