"""Whoever leaves stops the run: streams and whole answers, by FIN and RST, at every stage."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.types import Receive, Scope, Send

from millrace import Limits
from millrace.launchers.services import Service
from millrace.streaming import status
from tests.launchers.support import PATH, Asking, Running, Source, echo, question, running
from tests.support.leaks import eventually
from tests.support.servers import Connection, serving

Leave = Callable[[Connection], None]
LEAVE: dict[str, Leave] = {"FIN": Connection.close, "RST": Connection.reset}


@pytest.fixture(params=LEAVE)
def leave(request: pytest.FixtureRequest) -> Leave:
    return LEAVE[request.param]


def behind_middleware(service: Service) -> None:
    async def dispatch(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    service.app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)


HOW: dict[str, dict[str, Any]] = {
    "plain": {},
    "on uvloop": {"on_uvloop": True},
    "behind BaseHTTPMiddleware": {"configure": behind_middleware},
}


@pytest.fixture(params=HOW)
def source_and_server(request: pytest.FixtureRequest) -> Iterator[tuple[Source, Running]]:
    source = Source()
    with running(source, **HOW[request.param]) as server:
        yield source, server


def nothing_goes_on(source: Source, server: Running) -> None:
    """The generator was closed once, no run is left, the permits are back, and the next request works."""
    eventually(lambda: source.cleaned == source.started)
    eventually(lambda: status().runs == 0)
    eventually(server.idle)
    before = source.produced
    source.open()
    assert source.produced == before
    source.items = 3
    with server.ask("next", stream=False) as connection:
        assert connection.reply().status == 200
        assert connection.json()["choices"][0]["message"]["content"] == "0 1 2 "


class TestStreams:
    def test_leaving_after_some_pieces(self, source_and_server: tuple[Source, Running], leave: Leave) -> None:
        source, server = source_and_server
        connection = server.ask()
        source.allow(5)
        assert len(connection.events(6)) == 6
        leave(connection)
        eventually(lambda: source.cleaned == 1)
        assert source.produced == 5
        nothing_goes_on(source, server)

    def test_leaving_a_producer_that_never_waits(self, leave: Leave) -> None:
        source = Source(items=10_000_000)
        with running(source) as server:
            source.open()
            connection = server.ask()
            connection.events(100)
            leave(connection)
            eventually(lambda: source.cleaned == 1)
            assert source.produced < source.items
            nothing_goes_on(source, server)

    def test_leaving_before_the_first_piece(
        self, source_and_server: tuple[Source, Running], leave: Leave
    ) -> None:
        source, server = source_and_server
        connection = server.ask()
        eventually(lambda: source.started == 1)
        leave(connection)
        eventually(lambda: source.cleaned == 1)
        assert source.produced == 0
        nothing_goes_on(source, server)

    def test_a_client_that_is_killed(self) -> None:
        source = Source()
        with running(source) as server:
            source.allow(3)
            body = json.dumps(question(stream=True))
            command = [sys.executable, "-c", CLIENT, str(server.port), body]
            with subprocess.Popen(command, stdout=subprocess.PIPE) as client:
                assert client.stdout is not None
                while b'"2 "' not in client.stdout.readline():
                    pass
                client.kill()
            nothing_goes_on(source, server)

    @pytest.mark.parametrize("on_uvloop", [False, True])
    def test_at_most_two_items_after_the_close_was_received(self, on_uvloop: bool) -> None:
        """Counted in the server's own loop, from the moment at which it hears of the close."""
        heard: list[int] = []
        source = Source(items=10_000_000)

        def listen(service: Service) -> None:
            service.app.add_middleware(Heard, heard=heard, source=source)

        with running(source, listen, on_uvloop) as server:
            source.open()
            connection = server.ask()
            connection.events(50)
            connection.close()
            eventually(lambda: source.cleaned == 1)
            assert source.produced - heard[0] <= 2


CLIENT = """
import sys, urllib.request
url = f"http://127.0.0.1:{sys.argv[1]}/v1/chat/completions"
asked = urllib.request.Request(url, sys.argv[2].encode(), {"Content-Type": "application/json"})
for line in urllib.request.urlopen(asked):
    print(line.decode(), flush=True)
"""


class Heard:
    """Notes how much was produced when the server told of the disconnect."""

    def __init__(self, app: Any, heard: list[int], source: Source) -> None:
        self.app, self.heard, self.source = app, heard, source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def listening() -> Any:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.heard.append(self.source.produced)
            return message

        await self.app(scope, listening, send)


class TestWholeAnswers:
    def test_leaving_in_the_middle(self, source_and_server: tuple[Source, Running], leave: Leave) -> None:
        source, server = source_and_server
        connection = server.ask(stream=False)
        source.allow(5)
        eventually(lambda: source.produced == 5)
        leave(connection)
        eventually(lambda: source.cleaned == 1)
        assert source.produced == 5
        nothing_goes_on(source, server)

    def test_a_coroutine_is_cancelled(self, leave: Leave) -> None:
        begun, ended = threading.Event(), threading.Event()

        async def waits(text: str) -> str:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()
            return text

        with running(waits) as server:
            connection = server.ask(stream=False)
            assert begun.wait(5)
            leave(connection)
            assert ended.wait(5)
            eventually(server.idle)

    def test_cleanup_that_takes_its_time_holds_the_permit(self) -> None:
        begun, may_end = threading.Event(), threading.Event()

        async def stubborn(text: str) -> str:
            try:
                begun.set()
                await asyncio.Event().wait()
            finally:
                await asyncio.to_thread(may_end.wait)
            return text

        with running(stubborn) as server:
            connection = server.ask(stream=False)
            assert begun.wait(5)
            connection.close()
            eventually(lambda: status().runs == 1)
            assert server.service.admission.running == 1
            may_end.set()
            eventually(server.idle)


class TestWaiting:
    def test_a_request_whose_client_left_never_starts(self, leave: Leave) -> None:
        source = Source()
        with running(source, limits=Limits(running=1, waiting=2)) as server:
            first = server.ask()
            source.allow(1)
            first.events(2)
            second = server.ask(stream=False)
            eventually(lambda: server.service.admission.waiting == 1)
            leave(second)
            eventually(lambda: server.service.admission.waiting == 0)
            first.close()
            eventually(server.idle)
            assert source.started == 1
            nothing_goes_on(source, server)

    def test_leaving_in_the_middle_of_the_body(self, leave: Leave) -> None:
        with running(echo) as server:
            connection = server.connect()
            connection.send("POST", PATH, b'{"messages": ', {"Content-Length": "100"})
            leave(connection)
            assert server.post(question("next"))[0] == 200
            eventually(server.idle)


class Announces24:
    """What a server of ASGI spec_version 2.4 does: it says so, and sending to a client that left fails."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Any) -> None:
            if send.__self__.disconnected:  # type: ignore[attr-defined]
                raise OSError("the client has left")
            await send(message)

        if scope["type"] == "http":
            scope["asgi"]["spec_version"] = "2.4"
            await self.app(scope, receive, sending)
        else:
            await self.app(scope, receive, send)


class TestOtherServers:
    @pytest.mark.parametrize("stream", [True, False])
    def test_spec_version_2_4(self, stream: bool, leave: Leave) -> None:
        source = Source()
        with serving(Announces24(Service(source).app)) as server:
            connection = server.connect()
            connection.send("POST", PATH, question(stream=stream))
            source.allow(3)
            eventually(lambda: source.produced == 3)
            leave(connection)
            eventually(lambda: source.cleaned == 1)
            assert source.produced == 3

    def test_a_producer_that_never_waits_on_spec_version_2_4(self) -> None:
        source = Source(items=10_000_000)
        source.open()
        with serving(Announces24(Service(source).app)) as server:
            connection = Asking(server.port)
            connection.send("POST", PATH, question(stream=True))
            connection.events(10)
            connection.reset()
            eventually(lambda: source.cleaned == 1)
            assert source.produced < source.items
