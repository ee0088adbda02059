"""Bodies with something wrong, on every endpoint that takes one: refused in OpenAI's shape, and nothing is hurt."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping

import jsonschema
import psutil
import pytest

from millrace.launchers.api.bodies import DEEPEST
from tests.launchers.api.bad_input.targets import LIMIT, RUNS, Target, refused, still_good
from tests.launchers.support import Running


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
