"""What a client may send before there is a request, and after its answer; over both of uvicorn's parsers."""

from __future__ import annotations

import json
import select
from collections.abc import Iterator
from typing import Any

import pytest
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from millrace import Limits
from millrace.launchers.api.connections import LARGEST_HEAD, LONGEST_TARGET, MOST_LINES
from millrace.launchers.api.patience import Timings
from tests.launchers.support import PATH, Asking, Running, Source, echo, question, running
from tests.support.leaks import eventually

HEAD = 0.2
LINGER = 0.2
LIMIT = 300_000
ALIVE = b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n"
ASKED = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n".encode()


@pytest.fixture(scope="module", params=[HttpToolsProtocol, H11Protocol], ids=["httptools", "h11"])
def parser(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The parser that uvicorn has found to be installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("millrace.launchers.api.connections.AutoHTTPProtocol", request.param)
        patch.setattr("millrace.launchers.api.connections.LINGER", LINGER)
        yield request.param


@pytest.fixture(scope="module", params=[False, True], ids=["asyncio", "uvloop"])
def server(parser: Any, request: pytest.FixtureRequest) -> Iterator[Running]:
    timings = Timings(head=HEAD, body=0.2)
    with running(echo, on_uvloop=request.param, timings=timings, max_body=LIMIT) as server:
        yield server


def open_connections(server: Running) -> list[Any]:
    assert server.service._server is not None
    return list(server.service._server.server_state.connections)


def told(connection: Asking, status: int, code: str) -> str:
    """The message of a refusal, after which nothing else comes and the connection ends."""
    assert connection.reply().status == status
    error = connection.json()["error"]
    assert (error["code"], error["type"], error["param"]) == (code, "invalid_request_error", None)
    assert connection.received == b""
    assert connection.closed_by_server()
    return str(error["message"])


def again(connection: Asking) -> Asking:
    """Ready for the next answer."""
    connection.read()
    connection.head, connection.ended = None, False
    return connection


def head_of(size: int) -> bytes:
    """A head of so many bytes."""
    before, after = ALIVE + b"X-Long: ", b"\r\n\r\n"
    return before + b"a" * (size - len(before) - len(after)) + after


class TestHeads:
    def test_the_largest_head(self, server: Running) -> None:
        with server.connect() as connection:
            for _ in range(2):
                connection.socket.sendall(head_of(LARGEST_HEAD))
                assert connection.reply().status == 200
                again(connection)

    def test_a_larger_one(self, server: Running) -> None:
        for size in (LARGEST_HEAD + 1, 3 * LARGEST_HEAD):
            with server.connect() as connection:
                connection.socket.sendall(head_of(size))
                assert "larger than 65536 bytes" in told(connection, 431, "head_too_large")

    def test_the_answer_is_not_lost_with_what_is_still_sent(
        self, server: Running, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A close while something unread lies there would reset the connection, at the latest at the second piece."""
        monkeypatch.setattr("millrace.launchers.api.connections.LINGER", 5.0)
        with server.connect() as connection:
            connection.socket.sendall(head_of(3 * LARGEST_HEAD))
            assert connection.reply().status == 431
            connection.read()
            assert connection.socket.recv(100) == b""
            for _ in range(2):
                connection.socket.sendall(b"a")
                assert not select.select([], [], [connection.socket], 0.02)[2]
        eventually(lambda: not open_connections(server))

    def test_one_that_does_not_end(self, server: Running) -> None:
        with server.connect() as connection:
            connection.socket.sendall(ALIVE + b"X: ")
            while not select.select([connection.socket], [], [], 0)[0]:
                connection.socket.sendall(b"a" * 1000)
            told(connection, 431, "head_too_large")
        eventually(lambda: not open_connections(server))

    def test_a_later_one_on_the_same_connection(self, server: Running) -> None:
        with server.connect() as connection:
            connection.send("POST", PATH, question())
            assert connection.reply().status == 200
            again(connection)
            connection.socket.sendall(head_of(2 * LARGEST_HEAD))
            told(connection, 431, "head_too_large")

    def test_too_many_headers(self, server: Running) -> None:
        for count, status in ((MOST_LINES, 200), (MOST_LINES + 1, 431)):
            with server.connect() as connection:
                connection.socket.sendall(ALIVE + b"a: b\r\n" * (count - 1) + b"\r\n")
                if status == 200:
                    assert connection.reply().status == 200
                else:
                    assert "more than 100 headers" in told(connection, 431, "head_too_large")

    @pytest.mark.parametrize("mark", ["/", "?"])
    def test_too_long_a_target(self, server: Running, mark: str) -> None:
        path = "/health/live" + mark
        for length, statuses in ((LONGEST_TARGET, (200, 404)), (LONGEST_TARGET + 2, (414,))):
            with server.connect() as connection:
                connection.send("GET", path + "a" * (length - len(path)))
                assert connection.reply().status in statuses
                if statuses == (414,):
                    told(connection, 414, "target_too_long")

    def test_a_body_is_no_head(self, server: Running) -> None:
        body = json.dumps(question("x" * 200_000)).encode()
        with server.connect() as connection:
            for _ in range(2):
                connection.send("POST", PATH, body)
                assert connection.reply().status == 200
                assert len(connection.read()) > 200_000

    def test_many_at_once_are_answered_one_by_one(self, server: Running) -> None:
        """Together they have more bytes than a head may have."""
        with server.connect() as connection:
            connection.socket.sendall(head_of(LARGEST_HEAD // 2) * 4)
            for _ in range(4):
                assert connection.reply().status == 200
                again(connection)


class TestSlowHeads:
    def test_one_that_stops_coming(self, server: Running) -> None:
        with server.connect() as connection:
            connection.socket.sendall(b"GET /health")
            assert "within 0.2 s" in told(connection, 408, "request_timeout")
        eventually(lambda: not open_connections(server))

    def test_one_that_trickles(self, server: Running) -> None:
        with server.connect() as connection:
            connection.socket.sendall(ALIVE + b"X: ")
            while not select.select([connection.socket], [], [], HEAD / 10)[0]:
                connection.socket.sendall(b"a")
            told(connection, 408, "request_timeout")

    def test_a_later_one_on_the_same_connection(self, server: Running) -> None:
        with server.connect() as connection:
            connection.send("GET", "/health/live")
            again(connection)
            connection.socket.sendall(b"GET /heal")
            told(connection, 408, "request_timeout")

    def test_a_client_that_says_nothing_is_told_nothing(self, server: Running) -> None:
        with server.connect() as connection:
            assert connection.socket.recv(100) == b""

    def test_a_connection_that_is_kept_is_none(self, server: Running) -> None:
        with server.connect(timeout=2 * HEAD) as connection:
            for _ in range(2):
                connection.send("GET", "/health/live")
                assert connection.reply().status == 200
                connection.read()
                assert not connection.closed_by_server()

    def test_a_run_that_takes_longer_is_not_hurried(self, parser: Any) -> None:
        source = Source(items=1)
        with running(source, timings=Timings(head=HEAD)) as server, server.ask() as connection:
            assert not select.select([connection.socket], [], [], 2 * HEAD)[0]
            source.open()
            assert connection.events()[-1] == "[DONE]"


class TestNoHeads:
    @pytest.mark.parametrize(
        "sent",
        [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"HELLO\r\n\r\n",
            b"GET /health/live HTTP/1.1\r\nHost: a\r\nbad header\r\n\r\n",
            b"GET /health/live HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
            ASKED + b"Content-Length: -1\r\n\r\n{}",
            ASKED + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
            ASKED + b"Content-Length: 0x2\r\n\r\n{}",
            ASKED + b"Content-Length: 99999999999999999999999999\r\n\r\n{}",
            ASKED + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        ],
    )
    def test_what_is_no_request(self, server: Running, sent: bytes) -> None:
        with server.connect() as connection:
            connection.socket.sendall(sent)
            status = connection.reply().status
            if status == 413:  # a length that the parser takes, however long
                assert b"9999" in sent
            else:
                assert "no HTTP/1.1 request" in told(connection, 400, "invalid_request")
        eventually(server.idle)
        eventually(lambda: not open_connections(server))

    def test_a_length_beside_chunks_does_not_hide_a_second_request(self, server: Running) -> None:
        """Whatever a proxy takes for the end of the body: nothing behind it is answered (RFC 9112, 6.3)."""
        with server.connect() as connection:
            hidden = b"0\r\n\r\n" + ALIVE + b"\r\n"
            head = b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n" % len(hidden)
            connection.socket.sendall(ASKED + head + hidden)
            assert connection.reply().status == 400

    def test_in_the_middle_of_an_answer_it_only_ends(self, parser: Any) -> None:
        source = Source()
        with running(source) as server:
            with server.ask() as connection:
                source.allow(1)
                connection.events(2)
                connection.socket.sendall(b"\x00\x00\r\n\r\n" * 3)
                if parser is HttpToolsProtocol:  # h11 reads no further before the answer is over
                    eventually(lambda: source.cleaned == 1)
                    assert connection.socket.recv(1000) == b""
            eventually(lambda: source.cleaned == 1)
            eventually(server.idle)


class TestOffers:
    """Other protocols are offered by Java's HTTP client with every request, and by curl --http2."""

    @pytest.mark.parametrize("name", [b"Upgrade", b"upgrade", b"UPGRADE"])
    @pytest.mark.parametrize("protocol", [b"h2c", b"websocket"])
    def test_they_are_not_taken_up(self, server: Running, name: bytes, protocol: bytes) -> None:
        body = json.dumps(question("\r\nupgrade: me")).encode()
        offer = (
            name + b": " + protocol + b"\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMA\r\n"
        )
        for cut in (0, len(ASKED)):  # with the head, and after it
            with server.connect() as connection:
                for _ in range(2):
                    head = ASKED + offer + f"Content-Length: {len(body)}\r\n\r\n".encode()
                    connection.socket.sendall(head + body[:cut])
                    connection.socket.sendall(body[cut:])
                    assert connection.reply().status == 200
                    again(connection)


class TestRests:
    """A body that had not come when its request was answered."""

    def refused(self, server: Running, length: int) -> Asking:
        connection = server.connect(timeout=2.0)
        connection.socket.sendall(ASKED + b"Content-Length: %d\r\n\r\n" % length)
        assert connection.reply().status == 413
        return again(connection)

    def test_it_is_thrown_away_and_the_connection_ends(self, server: Running) -> None:
        with self.refused(server, 10**12) as connection:
            sent = 0
            try:
                while not select.select([connection.socket], [], [], 0)[0]:
                    sent += connection.socket.send(b"GET /health/live HTTP/1.1\r\n\r\n" * 1000)
                    for other in open_connections(server):
                        assert len(other.cycle.body) < 2**20
                assert connection.socket.recv(1000) == b""
            except OSError:
                pass
            assert sent > 2**20
        eventually(lambda: not open_connections(server))

    def test_a_client_that_waits_for_more_is_let_go(self, server: Running) -> None:
        with self.refused(server, LIMIT + 1) as connection:
            assert connection.closed_by_server()

    def test_one_that_ends_soon_leaves_the_connection_as_it_was(self, parser: Any) -> None:
        with running(echo, api_keys=["sk-a"]) as server, server.connect() as connection:
            connection.socket.sendall(ASKED + b"Content-Length: 9\r\n\r\n")
            assert connection.reply().status == 401
            again(connection)
            connection.socket.sendall(b"012345678")
            connection.send("POST", PATH, question(), {"Authorization": "Bearer sk-a"})
            assert connection.reply().status == 200

    def test_a_request_that_follows_it_is_not_cut_off(self, parser: Any) -> None:
        source = Source(items=1)
        with running(source, api_keys=["sk-a"]) as server, server.connect() as connection:
            connection.socket.sendall(ASKED + b"Content-Length: 9\r\n\r\n")
            assert connection.reply().status == 401
            again(connection)
            connection.socket.sendall(b"012345678")
            connection.send("POST", PATH, question(stream=True), {"Authorization": "Bearer sk-a"})
            eventually(lambda: source.started == 1)
            assert not select.select([connection.socket], [], [], 2 * LINGER)[0]
            source.open()
            assert connection.events()[-1] == "[DONE]"

    def test_a_slow_body_ends_its_connection(self, server: Running) -> None:
        with server.connect() as connection:
            connection.send("POST", PATH, b"{", {"Content-Length": "10"})
            reply = connection.reply()
            assert (reply.status, reply.headers["connection"]) == (408, "close")
            told(connection, 408, "request_timeout")

    def test_refused_for_want_of_a_place(self, parser: Any) -> None:
        source = Source()
        with running(source, limits=Limits(running=1, waiting=0)) as server, server.ask() as holder:
            eventually(lambda: source.started == 1)
            with server.connect() as connection:
                connection.send("POST", PATH, b"", {"Content-Length": "1000"})
                assert connection.reply().status == 429
                connection.read()
                assert connection.closed_by_server()
            holder.close()
            eventually(server.idle)


class TestRequestsBehindOthers:
    def test_who_leaves_stops_the_one_that_runs(self, parser: Any) -> None:
        """Two at once on one connection: the first is stopped, the second never starts."""
        source = Source()
        with running(source) as server:
            connection = server.ask()
            eventually(lambda: source.started == 1)
            connection.send("POST", PATH, question(stream=True))
            source.allow(1)
            eventually(lambda: source.produced == 1)
            connection.close()
            eventually(lambda: source.cleaned == 1)
            eventually(server.idle)
            assert source.started == 1
