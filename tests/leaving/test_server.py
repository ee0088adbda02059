"""A whole server process: its limits over whole bodies, its refusals, its end; counted from outside."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from statistics import quantiles
from typing import Any

import pytest

from millrace import Limits
from tests.support.gated_server import GatedServer, gated_server
from tests.support.leaks import eventually
from tests.support.servers import Connection

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def started() -> Iterator[GatedServer]:
    with gated_server(limits=Limits(running=4, waiting=8)) as server:
        yield server


@pytest.fixture
def server(started: GatedServer) -> Iterator[GatedServer]:
    """One at rest, whose gate is closed; it serves several tests."""
    started.close()
    yield started
    started.open_all()
    eventually(started.idle, timeout=20)


def served(server: GatedServer, count: int, stream: bool) -> list[Connection]:
    """That many requests at once."""
    return [server.ask(f"the mill {i}", stream, max_tokens=5) for i in range(count)]


def refused(connection: Connection) -> bool:
    """Whether an answer is there already, and is a refusal; nothing is read."""
    connection.socket.setblocking(False)
    try:
        return connection.socket.recv(12, socket.MSG_PEEK) == b"HTTP/1.1 429"
    except BlockingIOError:
        return False
    finally:
        connection.socket.settimeout(30)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_thirty_two_at_once_with_room_for_twelve(server: GatedServer, stream: bool) -> None:
    before = server.engine()["tokens_produced"]
    connections = served(server, 32, stream)
    eventually(lambda: sum(map(refused, connections)) == 20, timeout=20)
    now = server.counters()
    assert (now["running"], now["waiting"]) == (4, 8)
    kept = [connection for connection in connections if not refused(connection)]
    for connection in filter(refused, connections):
        reply = connection.reply()
        assert reply.status == 429
        assert int(reply.headers["retry-after"]) >= 1
        assert connection.json()["error"]["code"] == "overloaded"
    assert len(kept) == 12

    began = time.perf_counter()  # nothing of this stands behind the limit
    with Connection(server.port, 30.0) as health:
        health.send("GET", "/health/ready")
        assert health.reply().status == 200
    assert time.perf_counter() - began < 0.1

    took = [refusal(server, stream) for _ in range(40)]
    assert quantiles(took, n=20)[-1] < 0.05

    server.open_all()
    for connection in kept:
        assert connection.reply().status == 200
        body = connection.read().decode()
        assert "[DONE]" in body if stream else '"usage"' in body
        connection.close()
    for connection in connections:
        connection.close()
    eventually(server.idle, timeout=20)
    assert server.engine()["tokens_produced"] - before == 12 * 5


def refusal(server: GatedServer, stream: bool) -> float:
    """Seconds from a request's last byte to its 429."""
    with Connection(server.port, 30.0) as connection:
        body = {"messages": [{"role": "user", "content": "x"}], "stream": stream}
        began = time.perf_counter()
        connection.send("POST", "/v1/chat/completions", body)
        assert connection.reply().status == 429
        return time.perf_counter() - began


def test_a_permit_is_held_over_the_whole_body_of_a_stream() -> None:
    with gated_server(limits=Limits(running=1, waiting=1)) as server:
        first = server.ask("the mill", True, max_tokens=5)
        server.wait_reached()
        server.open(2)
        assert len(first.events(2)) == 2
        second = server.ask("the river", True, max_tokens=5)
        eventually(lambda: server.counters()["waiting"] == 1)
        with server.ask("one more", True) as third:
            assert third.reply().status == 429
        server.open_all()
        first.read()
        second.read()
        first.close()
        second.close()
        eventually(server.idle)


@pytest.mark.parametrize("leave", [Connection.close, Connection.reset], ids=["FIN", "RST"])
def test_leaving_while_it_decodes_and_a_thousand_more_would_come(server: GatedServer, leave: Any) -> None:
    before = server.engine()["tokens_produced"]
    connection = server.ask("the mill", True)
    server.wait_reached()
    server.open(3)
    connection.events(3)
    eventually(lambda: server.engine()["tokens_produced"] - before == 3 and server.counters()["reached"])
    leave(connection)
    eventually(lambda: server.counters()["stopping"] == 1)
    server.open(1)  # the forward that was launched; its token is dropped
    eventually(server.idle)
    assert server.engine()["tokens_produced"] - before == 3
    server.open_all()
    with server.ask("the mill", False, max_tokens=4) as again:
        assert again.reply().status == 200
    eventually(server.idle)


def test_five_hundred_clients_leave_and_nothing_is_left(server: GatedServer) -> None:
    server.open_all()
    before: dict[str, Any] = {}
    for turn in range(50):
        for connection in served(server, 10, stream=bool(turn % 2)):
            (Connection.reset if turn % 3 else Connection.close)(connection)
        eventually(server.idle, timeout=20)
        if turn == 1:
            before = server.counters()
    eventually(lambda: server.counters()["descriptors"] <= before["descriptors"])
    assert server.counters()["threads"] <= before["threads"]


def test_sigterm_in_the_midst_of_a_stream_ends_it_and_the_process() -> None:
    with gated_server() as server:
        connection = server.ask("the mill", True)
        server.wait_reached()
        server.open(2)
        connection.events(2)
        server.process.send_signal(signal.SIGTERM)
        connection.read()
        connection.close()
        assert server.process.wait(30) == 0
