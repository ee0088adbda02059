"""The routes around the one that matters: every error in OpenAI's shape, and a schema that says what there is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from millrace import Service
from tests.launchers.support import PATH, Running, echo, question, running
from tests.support.servers import serving


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(echo, title="Echo") as server:
        yield server


@pytest.mark.parametrize("path", ["/nothing", "/v1/nothing", "/v1", "/v1/chat", "/"])
def test_nothing_there(server: Running, path: str) -> None:
    status, answer = server.get(path)
    assert status == 404
    assert answer["error"]["message"] == f"there is nothing at {path}"
    assert answer["error"]["code"] == "not_found"


def test_wrong_methods(server: Running) -> None:
    with server.connect() as connection:
        connection.send("DELETE", "/health/live")
        reply = connection.reply()
        assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD")
        assert connection.json()["error"]["message"] == "/health/live takes GET, HEAD, not DELETE"


def test_an_error_of_a_route_that_a_user_added() -> None:
    def configure(service: Service) -> None:
        @service.app.get("/broken")
        async def broken() -> None:
            raise ValueError("the password is 123")

    with running(echo, configure) as server:
        status, answer = server.get("/broken")
    assert status == 500
    assert answer["error"]["message"] == "the server failed with ValueError"


def test_the_schema(server: Running) -> None:
    status, schema = server.get("/openapi.json")
    assert status == 200
    assert schema["info"]["title"] == "Echo"
    assert {PATH, "/v1/runs", "/status"} <= set(schema["paths"])


def test_mounted_in_another_application() -> None:
    outer = FastAPI()
    outer.mount("/flows", Service(echo).app)
    with serving(outer) as server:
        with server.connect() as connection:
            connection.send("POST", f"/flows{PATH}", question("hi"))
            assert connection.reply().status == 200
            assert connection.json()["choices"][0]["message"]["content"] == "hi"
        with server.connect() as connection:
            connection.send("GET", "/flows/v1/models", headers={"Host": "example.com"})
            assert connection.reply().status == 403


def test_middleware_that_is_added_sees_every_request() -> None:
    seen: list[str] = []

    class Seeing:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(scope.get("path", ""))
            await self.app(scope, receive, send)

    with running(echo, lambda service: service.app.add_middleware(Seeing)) as server:
        server.post(question())
        server.get("/v1/models")
    assert {PATH, "/v1/models"} <= set(seen)


@pytest.mark.slow
class TestWithTheChat:
    def test_the_page_and_the_api_stand_side_by_side(self) -> None:
        with running(echo, chat=True) as server:
            with server.connect() as connection:
                connection.send("GET", "/")
                assert connection.reply().headers["content-type"].startswith("text/html")
            assert server.post(question("hi"))[2]["choices"][0]["message"]["content"] == "hi"
            assert server.get("/v1/models")[1]["data"][0]["id"] == "echo"
            assert server.get("/v1/nothing")[1]["error"]["code"] == "not_found"
            assert server.get("/health/ready")[0] == 200

    def test_keys_and_names_guard_the_page_as_well(self) -> None:
        with running(echo, chat=True, api_keys=["sk-one"]) as server:
            assert server.get("/")[0] == 401
            assert server.get("/config")[0] == 401
        with running(echo, chat=True) as server, server.connect() as connection:
            connection.send("GET", "/", headers={"Host": "example.com"})
            assert connection.reply().status == 403
