"""Heads with something wrong: run ids, headers, methods, origins; refused in OpenAI's shape, and nothing is hurt."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.launchers.api.bad_input.targets import CHAT, GOOD, RUNS, Target, bill, refused, still_good
from tests.launchers.support import Asking, Running, Source, running


@pytest.fixture(scope="module")
def document(server: Running) -> dict[str, Any]:
    found: dict[str, Any] = server.get("/openapi.json")[1]
    return found


WAYS_OUT = [
    "..",
    ".",
    "%2e%2e",
    "..%2f..%2f..%2fetc%2fpasswd",
    "%2fetc%2fpasswd",
    "..%5c..%5cwindows",
    "%00",
    "a%00b",
    "%ff%fe",
    "%0d%0aX-Evil:%20yes",
    "%ed%a0%80",
    "a" * 3000,
    "../../etc/passwd",
    "*",
    "%25s%25n",
    "'%20OR%201=1",
    "{run_id}",
]


class TestRunIds:
    @pytest.mark.parametrize("name", WAYS_OUT)
    @pytest.mark.parametrize("part", ["", "/events", "/cancel"])
    @pytest.mark.parametrize("root", [RUNS, "/v1/responses"])
    def test_that_are_none(self, server: Running, root: str, name: str, part: str) -> None:
        with server.connect() as connection:
            connection.send("POST" if part == "/cancel" else "GET", f"{root}/{name}{part}")
            error = refused(connection, (404, 405))
            assert "passwd" not in error["message"] or "etc" in name
            assert "X-Evil" not in str(connection.head)

    def test_nothing_is_written_outside(self, server: Running) -> None:
        folder = Path(server.service._desk.queue.url.removeprefix("file://").partition("?")[0])
        before = set(folder.parent.iterdir())
        for name in WAYS_OUT[:6]:
            with server.connect() as connection:
                connection.send("POST", RUNS, GOOD[RUNS], {"x-run-id": name})
                assert refused(connection, 400)["param"] == "x-run-id"
            with server.connect() as connection:
                connection.send("POST", RUNS, {**GOOD[RUNS], "session": name})
                assert refused(connection, 400)["param"] == "session"
        assert set(folder.parent.iterdir()) == before

    @pytest.mark.parametrize(
        "value",
        [b"", b"\xe4\xf6", b"\xff" * 32, b"A" * 32, b"0" * 31, b"0" * 33, b"g" * 32, b"0" * 32 + b" 0"],
    )
    def test_chosen_ones(self, target: Target, value: bytes) -> None:
        if target.stops:
            return
        with target.server.connect() as connection:
            send_raw(connection, "POST", target.path, {b"x-run-id": value}, target.good)
            assert refused(connection, 400)["param"] == "x-run-id"
            still_good(target, connection)

    @pytest.mark.parametrize("value", [b"", b"-1", b"1.5", b"\xb2", b"1e3", b"9" * 40, b"x", b"0x10", b"1 2"])
    def test_events_that_are_none(self, server: Running, run_id: str, value: bytes) -> None:
        with server.connect() as connection:
            send_raw(connection, "GET", f"{RUNS}/{run_id}/events", {b"Last-Event-ID": value})
            assert refused(connection, 400)["param"] == "Last-Event-ID"
        with server.connect() as connection:
            asked = "".join(f"%{byte:02x}" for byte in value)
            connection.send("GET", f"{RUNS}/{run_id}/events?after={asked}")
            assert refused(connection, 400)["param"] == "after"

    @pytest.mark.parametrize("limit", ["0", "101", "-1", "x", "", "1e1", "00000000199999", "9" * 5000, "%00"])
    def test_pages_that_are_none(self, server: Running, limit: str) -> None:
        with server.connect() as connection:
            connection.send("GET", f"{RUNS}?limit={limit}")
            assert refused(connection, 400)["param"] == "limit"


def send_raw(
    connection: Asking,
    method: str,
    path: str,
    headers: Mapping[bytes, bytes],
    body: dict[str, Any] | None = None,
) -> None:
    """A request with headers of any bytes."""
    payload = b"" if body is None else json.dumps(body).encode()
    lines = {
        b"Host": b"127.0.0.1",
        b"Content-Type": b"application/json",
        b"Content-Length": str(len(payload)).encode(),
        **headers,
    }
    head = f"{method} {path} HTTP/1.1\r\n".encode()
    head += b"".join(name + b": " + value + b"\r\n" for name, value in lines.items())
    connection.socket.sendall(head + b"\r\n" + payload)
    connection.body, connection.ended = bytearray(), False


class TestHeads:
    @pytest.mark.parametrize(
        ("name", "status"),
        [
            (b"Content-Type", 415),
            (b"Content-Encoding", 415),
            (b"Host", 403),
            (b"Accept", 200),
            (b"User-Agent", 200),
        ],
    )
    @pytest.mark.parametrize("value", [b"\xe4\xf6\xfc", b"\xff", "日本".encode(), b"a" * 5000])
    def test_values_of_any_bytes(self, server: Running, name: bytes, status: int, value: bytes) -> None:
        with server.connect() as connection:
            send_raw(connection, "POST", CHAT, {name: value}, GOOD[CHAT])
            if status == 200:
                assert connection.reply().status == 200
            else:
                refused(connection, status)

    @pytest.mark.parametrize(
        "value", [b"Bearer \xe4", b"\xff", b"Bearer", b"", b"Bearer  ", b"Basic " + b"\xff" * 9]
    )
    def test_keys_of_any_bytes(self, locked: Running, value: bytes) -> None:
        for path in (CHAT, "/docs", "/status"):
            with locked.connect() as connection:
                send_raw(connection, "POST", path, {b"Authorization": value}, GOOD[CHAT])
                refused(connection, 401)

    def test_a_model_that_is_not_there(self, server: Running) -> None:
        for name in ("other", "", "bill ", "../bill", "\udcff", "a" * 10_000):
            with server.connect() as connection:
                connection.send("POST", CHAT, {**GOOD[CHAT], "model": name})
                error = refused(connection, 404)
                assert (error["code"], error["param"]) == ("model_not_found", "model")


@pytest.fixture(scope="module")
def locked() -> Iterator[Running]:
    with running(bill, api_keys=["sk-one"]) as server:
        yield server


# ---------------------------------------------------------------- methods, and other sites


def places(document: dict[str, Any], run_id: str) -> Iterator[tuple[str, set[str]]]:
    """Every path, and the methods that it takes."""
    names = {"{run_id}": run_id, "{response_id}": f"resp_{run_id}", "{name}": "bill"}
    for path, item in document["paths"].items():
        known = {method.upper() for method in item if method in ("get", "post")}
        place = re.sub(r"\{\w+\}", lambda found: names[found[0]], path)
        yield place, known | ({"HEAD"} if "GET" in known else set())


class TestMethods:
    def test_those_that_an_endpoint_does_not_take(
        self, server: Running, document: dict[str, Any], run_id: str
    ) -> None:
        for place, known in places(document, run_id):
            for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"} - known:
                with server.connect() as connection:
                    connection.send(method, place, GOOD[CHAT])
                    reply = connection.reply()
                    assert reply.status == 405, (method, place)
                    assert set(reply.headers["allow"].split(", ")) <= known
                    if method != "HEAD":
                        assert refused_body(connection)["code"] == "method_not_allowed"

    def test_a_head_is_a_get_without_its_body(
        self, server: Running, document: dict[str, Any], run_id: str
    ) -> None:
        for place, known in places(document, run_id):
            if "HEAD" in known:
                with server.connect() as connection:
                    connection.send("HEAD", place)
                    reply = connection.reply()
                    assert reply.status == 200, place
                    connection.received = bytearray()
                    connection.send("GET", "/health/live")
                    connection.chunked, connection.remaining = False, None
                    assert connection.reply().status == 200

    def test_the_head_of_a_stream_does_not_wait_for_its_end(self) -> None:
        source = Source(items=1)
        with running(source) as server, server.connect() as asking, server.connect() as connection:
            asking.send("POST", RUNS, {"input": "go", "background": True})
            asking.reply()
            place = f"{RUNS}/{asking.json()['id']}/events"
            connection.send("HEAD", place)
            assert connection.reply().headers["content-type"].startswith("text/event-stream")
            connection.chunked = False
            connection.send("GET", "/health/live")
            assert Asking.reply(connection).status == 200
            assert not source.cleaned
            source.open()

    def test_nothing_there(self, server: Running) -> None:
        for path in (
            "/v1/nothing",
            "/v1/models/nothing",
            "/nothing",
            "/v1/runs/a/b/c",
            "/health",
            "//",
            "/%2e%2e",
        ):
            with server.connect() as connection:
                connection.send("GET", path)
                refused(connection, 404)


def refused_body(connection: Asking) -> dict[str, Any]:
    error: dict[str, Any] = connection.json()["error"]
    return error


class TestOtherSites:
    @pytest.mark.parametrize("origin", ["http://example.com", "null", "http://127.0.0.1:1"])
    def test_are_allowed_nothing(
        self, server: Running, document: dict[str, Any], run_id: str, origin: str
    ) -> None:
        for place, known in places(document, run_id):
            method = "POST" if "POST" in known else "GET"
            with server.connect() as connection:
                connection.send(method, place, GOOD.get(place, {"reason": "enough"}), {"Origin": origin})
                reply = connection.reply()
                assert reply.status == 200, place
                assert no_permission(reply.headers)

    def test_preflights_get_no_permission(
        self, server: Running, document: dict[str, Any], run_id: str
    ) -> None:
        asked = {
            "Origin": "http://example.com",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type, authorization",
            "Access-Control-Request-Private-Network": "true",
        }
        for place, _ in places(document, run_id):
            with server.connect() as connection:
                connection.send("OPTIONS", place, headers=asked)
                reply = connection.reply()
                assert reply.status == 405
                assert no_permission(reply.headers)


def no_permission(headers: Mapping[str, str]) -> bool:
    return not [name for name in headers if name.startswith("access-control")]
