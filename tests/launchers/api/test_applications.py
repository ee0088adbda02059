"""The routes around the one that matters: every error in OpenAI's shape, and a schema that says what there is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any, NoReturn

import pytest
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from millrace import Service
from millrace.launchers.api.chat_replies import ChatStream, ChatWhole
from millrace.launchers.api.chat_requests import ChatRequest
from millrace.launchers.api.guards import Guard
from millrace.launchers.api.response_replies import ResponseStream
from millrace.launchers.api.run_frames import RunStream
from millrace.streaming import Event, TextDelta
from tests.launchers.support import PATH, Running, echo, question, running
from tests.support.leaks import eventually
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


def breaking(*_: object) -> NoReturn:
    raise KeyError("the password is 123")


@pytest.mark.parametrize("added", [False, True], ids=["bare", "behind middleware"])
@pytest.mark.parametrize(
    "what", [(ChatWhole, "body"), (ChatRequest, "parse"), (Guard, "_check_host")], ids=lambda what: what[1]
)
def test_a_fault_of_the_services_own(
    what: tuple[type, str], added: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    caught: list[Exception] = []

    class Catching:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await self.app(scope, receive, send)
            except Exception as error:
                caught.append(error)
                raise

    def configure(service: Service) -> None:
        if added:
            service.app.add_middleware(Catching)

    with running(echo, configure) as server:
        monkeypatch.setattr(*what, breaking)
        status, _, answer = server.post(question("hi"))
        assert (status, answer["error"]["code"]) == (500, "internal_error")
        assert answer["error"]["message"] == "the server failed with KeyError"
        monkeypatch.undo()
        assert server.post(question("hi"))[0] == 200
        tally = server.service.admission.tally
        eventually(lambda: tally.started == tally.ended.total() == (2 if what[1] == "body" else 1))
    assert [type(error) for error in caught] == [KeyError] * added


@pytest.mark.parametrize(
    ("path", "dialect", "asked"),
    [
        (PATH, ChatStream, {"messages": [{"role": "user", "content": "hi"}]}),
        ("/v1/responses", ResponseStream, {"input": "hi"}),
        ("/v1/runs", RunStream, {"input": "hi"}),
    ],
    ids=["chat", "responses", "runs"],
)
def test_a_fault_within_a_stream_ends_it_with_an_error(
    path: str, dialect: type, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = dialect.piece  # type: ignore[attr-defined]

    def piece(self: Any, event: Event) -> str:
        if isinstance(event, TextDelta) and event.text == "third ":
            breaking()
        return str(whole(self, event))

    async def speaks(text: str) -> AsyncIterator[str]:
        for word in ("first ", "second ", "third ", "fourth "):
            yield word
            await asyncio.sleep(0.05)

    monkeypatch.setattr(dialect, "piece", piece)
    with running(speaks) as server, server.connect() as connection:
        connection.send("POST", path, {**asked, "stream": True})
        assert connection.reply().status == 200
        said = connection.read().decode()
        assert connection.closed_by_server()
        eventually(server.idle)
        assert not server.runs
    assert "second" in said
    assert "failed with KeyError" in said.rstrip().rpartition("data: ")[2]
    assert not [word for word in ("third", "fourth", "[DONE]", "password") if word in said]


def test_a_fault_before_the_first_word_of_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ChatStream, "end", breaking)
    with running(echo) as server, server.connect() as connection:
        connection.send("POST", PATH, question("hi", stream=True))
        reply = connection.reply()
        assert (reply.status, reply.headers["connection"]) == (500, "close")
        assert connection.json()["error"]["message"] == "the server failed with KeyError"
        assert connection.closed_by_server()


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
