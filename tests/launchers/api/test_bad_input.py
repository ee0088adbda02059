"""What may be wrong with a request, tried on every endpoint: each is refused in OpenAI's shape, and nothing is hurt."""

from __future__ import annotations

import gzip
import json
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import psutil
import pytest
from pydantic import BaseModel, Field

from millrace import LocalEmbedding
from millrace.launchers.api.bodies import DEEPEST
from millrace.launchers.api.patience import Timings
from millrace.modules.embeddings import EmbeddingEngine
from tests.launchers.support import Asking, Running, Source, running
from tests.support.encoders import tiny_encoder

LIMIT = 300_000
CHAT, RUNS = "/v1/chat/completions", "/v1/runs"

TYPES = ("invalid_request_error", "rate_limit_error", "server_error")


class Order(BaseModel):
    """What goes into the flow."""

    count: int = Field(ge=0)
    notes: list[str] = []


async def bill(order: Order | str) -> str:
    return str(order)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    queue = f"file://{tmp_path_factory.mktemp('runs')}"
    with running(bill, max_body=LIMIT, timings=Timings(body=0.3), queue=queue) as server:
        yield server


@pytest.fixture(scope="module")
def run_id(server: Running) -> str:
    """Of a response, which is a run as well."""
    with server.connect() as connection:
        connection.send("POST", "/v1/responses", {"input": "one"})
        connection.reply()
        found: str = connection.json()["id"]
        return found.removeprefix("resp_")


@pytest.fixture(scope="module")
def document(server: Running) -> dict[str, Any]:
    found: dict[str, Any] = server.get("/openapi.json")[1]
    return found


@pytest.fixture(autouse=True)
def nothing_in_the_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No request of these is worth an error in the log, let alone a traceback."""
    yield
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


GOOD: Mapping[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": "hello"}]},
    "/v1/responses": {"input": "hello"},
    "/v1/embeddings": {"input": ["hello"]},
    RUNS: {"input": {"count": 1}},
    RUNS + "/{run_id}/cancel": {"reason": "enough"},
}
"""Every endpoint that takes a body, with one that it takes."""


@dataclass
class Target:
    """One of them: `name` in the document, `path` where it can be asked, on a service that has it."""

    server: Running
    name: str
    path: str

    @property
    def good(self) -> dict[str, Any]:
        return GOOD[self.name]

    @property
    def stops(self) -> bool:
        return self.name.endswith("/cancel")


@pytest.fixture(scope="module")
def embedder() -> Iterator[Running]:
    engine = EmbeddingEngine(tiny_encoder)
    with running(LocalEmbedding(engine, name="tiny"), max_body=LIMIT, timings=Timings(body=0.3)) as server:
        yield server
    engine.close()


SLOW = {"/v1/embeddings": pytest.mark.slow}


@pytest.fixture(params=[pytest.param(name, marks=SLOW.get(name, ())) for name in GOOD])
def target(request: pytest.FixtureRequest, server: Running, run_id: str) -> Target:
    name: str = request.param
    if name == "/v1/embeddings":
        server = request.getfixturevalue("embedder")
    return Target(server, name, name.replace("{run_id}", run_id))


def refused(connection: Asking, statuses: int | tuple[int, ...]) -> dict[str, Any]:
    """The error of an answer that is one, in OpenAI's shape and with no trace of the code behind it."""
    connection.head = None
    reply = connection.reply()
    allowed = statuses if isinstance(statuses, tuple) else (statuses,)
    assert reply.status in allowed, connection.read()
    assert reply.headers["content-type"] == "application/json"
    text = connection.read().decode("ascii")
    assert "Traceback" not in text
    assert not re.search(r"\.py\b|line \d+, in", text)
    answer = json.loads(text, parse_constant=pytest.fail)
    json.dumps(answer, ensure_ascii=False).encode()  # no half of a surrogate pair comes back
    assert list(answer) == ["error"]
    error: dict[str, Any] = answer["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] in TYPES
    assert 0 < len(error["message"]) < 1000
    return error


def still_good(target: Target, connection: Asking) -> None:
    """The next request is answered: on the same connection, or, where that has been closed, on another one."""
    reply = connection.head
    assert reply is not None
    if reply.headers.get("connection") == "close":
        assert connection.closed_by_server()
        with target.server.connect() as another:
            another.send("POST", target.path, target.good)
            assert another.reply().status == 200
    else:
        connection.send("POST", target.path, target.good)
        assert connection.reply().status == 200
        connection.read()


# ---------------------------------------------------------------- bodies


def nested(levels: int, kind: str = "[]") -> bytes:
    opening = "[" if kind == "[]" else '{"a":'
    return b'{"input":' + opening.encode() * levels + b"1" + kind[1].encode() * levels + b"}"


BODIES: Mapping[str, bytes] = {
    "nothing": b"",
    "a blank": b" ",
    "half": b'{"input": ',
    "a list": b"[]",
    "null": b"null",
    "text": b'"input"',
    "a number": b"1",
    "two objects": b"{} {}",
    "a comma too much": b'{"input": 1,}',
    "single quotes": b"{'input': 1}",
    "a comment": b'{"input": 1} // one',
    "a control character": b'{"input": "\x01"}',
    "NaN": b'{"input": NaN}',
    "Infinity": b'{"input": [Infinity]}',
    "-Infinity": b'{"input": -Infinity}',
    "an endless number": b'{"input": 1e999}',
    "thousands of digits": b'{"input": ' + b"9" * 5000 + b"}",
    "a name twice": b'{"input": 1, "input": 2}',
    "a name twice, inside": b'{"input": {"a": 1, "a": 1}}',
    "not UTF-8": b'{"input": "\xff"}',
    "UTF-16": '{"input": "one"}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"input": 1}',
    "half a surrogate pair": b'{"input": "\\ud800"}',
    "half a surrogate pair as a name": b'{"\\udfff": 1}',
    "half a surrogate pair as a name, inside": b'{"input": {"\\udfff": 1}}',
    "an unknown name": b'{"input": "one", "nonsense": 1}',
    "__proto__": b'{"__proto__": {}, "input": 1}',
    f"{DEEPEST + 1} levels": nested(DEEPEST),
    "500 levels": nested(500),
    "900 levels of objects": nested(900, "{}"),
    "10,000 levels": nested(10_000),
    "10,000 levels of objects": nested(10_000, "{}"),
    "10,000 levels that do not end": b"[" * 10_000,
}


class TestBodies:
    @pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
    def test_malformed(self, target: Target, body: bytes) -> None:
        with target.server.connect() as connection:
            connection.send("POST", target.path, body)
            if target.stops and not body:
                assert connection.reply().status == 200  # nothing need be said
            else:
                refused(connection, (400, 422))
                still_good(target, connection)

    def test_the_deepest(self, server: Running) -> None:
        with server.connect() as connection:
            connection.send("POST", RUNS, nested(DEEPEST - 1))
            assert refused(connection, 422)["param"].startswith("input")

    def test_every_field_of_a_wrong_type(self, target: Target) -> None:
        """What the document does not allow is refused, naming the field."""
        document = target.server.get("/openapi.json")[1]
        content = document["paths"][target.name]["post"]["requestBody"]["content"]["application/json"]
        schema = {"allOf": [content["schema"]], "components": document["components"]}
        validator = jsonschema.Draft202012Validator(schema)
        name = content["schema"].get("$ref", "").rpartition("/")[2]
        fields = (document["components"]["schemas"][name] if name else content["schema"])["properties"]
        tried = 0
        with target.server.connect() as connection:
            for field in fields:
                for value in (True, 0, -1, 1.5, 10**30, 1e300, "", "x", [], [None], {}, {"": {}}):
                    body = {**target.good, field: value}
                    if not validator.is_valid(body):
                        tried += 1
                        connection.send("POST", target.path, body)
                        error = refused(connection, (400, 404, 422))
                        assert str(error["param"]).startswith((field, "stream_options")), (body, error)
            still_good(target, connection)
        assert tried > 5 * len(fields)


KINDS: Mapping[str, dict[str, str]] = {
    "none": {"Content-Type": ""},
    "text": {"Content-Type": "text/plain"},
    "a form": {"Content-Type": "application/x-www-form-urlencoded"},
    "a form with files": {"Content-Type": "multipart/form-data; boundary=a"},
    "nearly JSON": {"Content-Type": "application/jsonl"},
    "JSON and more": {"Content-Type": "text/json, application/json"},
    "gzip": {"Content-Encoding": "gzip"},
    "br": {"Content-Encoding": "br"},
    "twice": {"Content-Encoding": "identity, gzip"},
}


class TestKinds:
    @pytest.mark.parametrize("headers", KINDS.values(), ids=KINDS)
    def test_what_is_not_declared_as_plain_json(self, target: Target, headers: dict[str, str]) -> None:
        packed = gzip.compress(json.dumps(target.good).encode())
        with target.server.connect() as connection:
            connection.send(
                "POST", target.path, packed if "gzip" in headers.values() else target.good, headers
            )
            assert refused(connection, 415)["code"] == "unsupported_media_type"
            still_good(target, connection)

    @pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON ;a=b"])
    def test_other_ways_to_say_json(self, target: Target, kind: str) -> None:
        with target.server.connect() as connection:
            connection.send("POST", target.path, target.good, {"Content-Type": kind})
            assert connection.reply().status == 200


class TestSizes:
    def test_too_large_as_declared(self, target: Target) -> None:
        with target.server.connect() as connection:
            connection.send("POST", target.path, b"", {"Content-Length": str(LIMIT + 1)})
            assert refused(connection, 413)["code"] == "body_too_large"

    def test_too_large_in_pieces_is_not_kept(self, target: Target) -> None:
        piece = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
        process = psutil.Process()
        with target.server.connect() as connection:
            head = f"POST {target.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            connection.socket.sendall(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n")
            before = process.memory_info().rss
            try:
                for _ in range(50):
                    connection.socket.sendall(piece)
            except OSError:
                pass  # it was cut off
            assert process.memory_info().rss - before < 10 * 2**20
            try:
                refused(connection, 413)
            except ConnectionResetError:
                pass
        with target.server.connect() as connection:
            connection.send("POST", target.path, target.good)
            assert connection.reply().status == 200

    def test_too_slow(self, target: Target) -> None:
        with target.server.connect() as connection:
            connection.send("POST", target.path, b"{", {"Content-Length": "100"})
            assert refused(connection, 408)["code"] == "request_timeout"
            still_good(target, connection)


# ---------------------------------------------------------------- heads


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
