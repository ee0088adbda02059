"""Behind a real nginx, as docs/deploy/nginx.conf sets it up: leaving stops the work, and nothing is held back."""

from __future__ import annotations

import json
import select
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from millrace import Limits
from millrace.launchers.api.patience import Timings
from tests.launchers.support import PATH, Asking, Running, Source, echo, question, running
from tests.leaving.clients import LEAVES, leave_at_work, leave_in_line
from tests.support.leaks import eventually
from tests.support.proxies import nginx
from tests.support.servers import free_port

pytestmark = pytest.mark.slow

BOTH = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
STOPPED_WITHIN = 1.0
"""Seconds from a client's leaving, which nginx has to notice first, to the stop of the work."""


class Proxied(Running):
    """A service that is asked by way of nginx."""

    def __init__(self, server: Running, port: int) -> None:
        super().__init__(server.service, server.loop)
        self.proxy = port

    @property
    def port(self) -> int:
        return self.proxy


@contextmanager
def proxied(flow: Any, directory: Path, **options: Any) -> Iterator[Proxied]:
    with running(flow, **options) as server, nginx(server.port, directory) as port:
        yield Proxied(server, port)


class TestLeaving:
    @BOTH
    @pytest.mark.parametrize("how", LEAVES)
    @pytest.mark.parametrize("kind", ["async generator", "awaiting", "model decoding"])
    def test_at_work(self, kind: str, how: str, stream: bool, tmp_path: Path) -> None:
        took = leave_at_work(kind, partial(proxied, directory=tmp_path), PATH, stream, how)
        assert took < STOPPED_WITHIN

    @BOTH
    @pytest.mark.parametrize("how", LEAVES)
    def test_in_line(self, how: str, stream: bool, tmp_path: Path) -> None:
        leave_in_line(partial(proxied, directory=tmp_path), PATH, stream, how)

    def test_many_one_after_another(self, tmp_path: Path) -> None:
        """Connections to the service are used again, and none of them is left in a state."""
        source = Source()
        source.open()
        with proxied(source, tmp_path, limits=Limits(running=2, waiting=8)) as server:
            for turn, leave in enumerate([Asking.close, Asking.reset] * 10, 1):
                asking = server.ask(stream=bool(turn % 3))
                eventually(lambda turn=turn: source.started == turn)
                leave(asking)
            eventually(server.idle)
            assert source.cleaned == 20


class TestStreams:
    def test_each_piece_comes_at_once(self, tmp_path: Path) -> None:
        source = Source()
        with proxied(source, tmp_path, timings=Timings(first_output=0.1, heartbeat=0.1)) as server:
            with server.ask() as asking:
                source.allow(1)
                assert '"content":"0 "' in asking.events(2)[1]
                for i in range(1, 20):
                    assert source.produced == i
                    source.allow(1)
                    assert f'"content":"{i} "' in asking.events(1)[0]
                before = bytes(asking.body)
                assert asking._more()  # silence
                assert (before, asking.body) == (b"", b": keep-alive\n\n")
            eventually(server.idle)

    def test_a_client_that_reads_slowly_is_waited_for(self, tmp_path: Path) -> None:
        async def wide(text: str) -> Any:
            nonlocal made
            for _ in range(100_000):
                made += 1
                yield "x" * 1000

        made = 0
        with proxied(wide, tmp_path) as server:
            with server.ask() as asking:
                asking.events(10)
                eventually(lambda: at_rest(lambda: made), 20)
                most = made
                assert most < 20_000
                asking.events(most)
                assert made > most
            eventually(server.idle)

    def test_a_stream_that_fails_says_so(self, tmp_path: Path) -> None:
        async def broken(text: str) -> Any:
            yield "so "
            raise ValueError("private")

        with proxied(broken, tmp_path) as server, server.ask() as asking:
            events = asking.events()
            assert json.loads(events[-1])["error"]["code"] == "flow_error"


class TestRefusals:
    @BOTH
    @pytest.mark.parametrize("size", [1, 3_000_000], ids=["short", "long"])
    def test_too_many(self, stream: bool, size: int, tmp_path: Path) -> None:
        source = Source()
        with proxied(source, tmp_path, limits=Limits(running=1, waiting=0)) as server:
            first = server.ask()
            eventually(lambda: source.started == 1)
            with server.ask("x" * size, stream=stream) as asking:
                reply = asking.reply()
                assert (reply.status, asking.json()["error"]["code"]) == (429, "overloaded")
                assert int(reply.headers["retry-after"]) >= 1
            first.close()
            eventually(server.idle)

    @pytest.mark.parametrize("size", [4.5, 6], ids=["by the service", "by nginx"])
    def test_too_large(self, size: float, tmp_path: Path) -> None:
        with proxied(echo, tmp_path) as server, server.connect() as connection:
            try:
                connection.send("POST", PATH, question("x" * int(size * 2**20)))
            except OSError:
                pass  # it was refused before it was there
            assert connection.reply().status == 413
            error = connection.json()["error"]
            assert (error["code"], error["type"]) == ("body_too_large", "invalid_request_error")

    def test_names_of_others_without_keys(self, tmp_path: Path) -> None:
        with proxied(echo, tmp_path) as server, server.connect() as connection:
            connection.send("GET", "/v1/models", headers={"Host": "mill.example"})
            assert connection.reply().status == 403
            assert connection.json()["error"]["code"] == "host_not_allowed"

    def test_nobody_is_there(self, tmp_path: Path) -> None:
        with nginx(free_port(), tmp_path) as port, Asking(port) as connection:
            connection.send("POST", PATH, question())
            reply = connection.reply()
            assert (reply.status, connection.json()["error"]["code"]) == (503, "unavailable")
            assert reply.headers["retry-after"] == "5"


def at_rest(read: Any) -> bool:
    """Whether a figure stays what it is for a while."""
    before = read()
    select.select([], [], [], 0.2)
    return bool(read() == before)
