"""Connections: one client for each loop, proxies, and nothing left open."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest

from millrace import Limits
from millrace.modules.local import Generation
from millrace.modules.remote import RemoteEngine
from tests.modules.remote.asking import ask, connected, failure, held
from tests.support.leaks import eventually, eventually_async, leaks
from tests.support.scripted import ScriptedServer

pytestmark = pytest.mark.anyio


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
        server.script = held("a")
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


@pytest.mark.parametrize("turns", range(6))
async def test_a_cancel_that_comes_into_a_close_leaves_no_connection(
    turns: int, server: ScriptedServer
) -> None:
    """At any of its steps, and twice: the server hears that its client has left."""
    server.script = held("a")
    engine = connected(server)

    async def leave() -> None:
        async with engine.server.exchange("POST", "/chat/completions", {}) as response:
            await anext(response.aiter_bytes())
            closing.set()

    closing, loop = asyncio.Event(), asyncio.get_running_loop()
    task = loop.create_task(leave())
    await closing.wait()
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    await eventually_async(lambda: server.exchanges[0].left.is_set())
    await eventually_async(lambda: server.open_connections == 0)
    await engine.aclose()
