"""Bodies are bounded in size and in time, and never kept beyond that."""

from __future__ import annotations

import json
import select
import time
import tracemalloc
from collections.abc import Iterator

import pytest

from millrace.launchers.api.bodies import read_object
from millrace.launchers.api.patience import Timings
from millrace.launchers.api.refusals import Refusal
from tests.launchers.support import PATH, Running, echo, question, running
from tests.support.leaks import eventually
from tests.support.servers import Connection

LIMIT = 1000


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(echo, max_body=LIMIT, timings=Timings(body=0.1)) as server:
        yield server


def body_of(size: int) -> bytes:
    empty = len(json.dumps(question("")))
    return json.dumps(question("x" * (size - empty))).encode()


def send_chunks(connection: Connection, chunks: list[bytes]) -> None:
    head = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    connection.socket.sendall(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n")
    for chunk in chunks:
        connection.socket.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))


def test_the_largest_body(server: Running) -> None:
    assert server.post(body_of(LIMIT))[0] == 200


def test_a_larger_one(server: Running) -> None:
    status, _, answer = server.post(body_of(LIMIT + 1))
    assert (status, answer["error"]["code"]) == (413, "body_too_large")
    assert "larger than 1000 bytes" in answer["error"]["message"]


def test_a_declared_size_is_refused_before_it_comes(server: Running) -> None:
    with server.connect() as connection:
        connection.send("POST", PATH, b"", {"Content-Length": str(10**12)})
        assert connection.reply().status == 413


def test_a_chunked_body(server: Running) -> None:
    body = body_of(LIMIT)
    with server.connect() as connection:
        send_chunks(connection, [body[i : i + 100] for i in range(0, LIMIT, 100)])
        connection.socket.sendall(b"0\r\n\r\n")
        assert connection.reply().status == 200


def test_a_chunked_body_that_does_not_end(server: Running) -> None:
    with server.connect() as connection:
        send_chunks(connection, [b"x" * 100] * 11)
        assert connection.reply().status == 413


@pytest.mark.anyio
async def test_what_is_too_much_is_not_kept() -> None:
    piece = b"x" * 100_000

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": bytes(piece), "more_body": True}

    tracemalloc.start()
    try:
        with pytest.raises(Refusal):
            await read_object({"headers": [(b"content-type", b"application/json")]}, receive, LIMIT, 1)
        assert tracemalloc.get_traced_memory()[1] < 3 * len(piece)
    finally:
        tracemalloc.stop()


def test_a_body_that_stops_coming(server: Running) -> None:
    with server.connect() as connection:
        connection.send("POST", PATH, b'{"messages": ', {"Content-Length": "100"})
        assert connection.reply().status == 408
        assert "send it again" in connection.json()["error"]["message"]
    with server.connect() as connection:
        send_chunks(connection, [b'{"messages": '])
        assert connection.reply().status == 408
    eventually(server.idle)


def test_the_body_is_asked_for_only_when_it_is_wanted(server: Running) -> None:
    for length, wanted in ((10, b"100 Continue"), (LIMIT + 1, b" 413 ")):
        with server.connect() as connection:
            connection.send("POST", PATH, b"", {"Content-Length": str(length), "Expect": "100-continue"})
            assert wanted in connection.socket.recv(1000).split(b"\r\n")[0]


def test_a_large_one_does_not_keep_others_waiting() -> None:
    body = b'{"messages": [' + b"{}," * 600_000 + b"{}]}"
    with running(echo) as server, server.connect() as connection:
        started = time.monotonic()
        connection.send("POST", PATH, body)
        waits = []
        while not select.select([connection.socket], [], [], 0)[0]:
            before = time.monotonic()
            assert server.get("/health/live")[0] == 200
            waits.append(time.monotonic() - before)
        assert connection.reply().status == 400
        assert max(waits) < (time.monotonic() - started) / 2
        assert len(waits) > 3
