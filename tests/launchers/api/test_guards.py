"""Who may ask: keys, and names of the machine."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from millrace import MillraceError, Service
from millrace.launchers.api.guards import Guard, is_loopback
from millrace.launchers.api.keys import Keys
from millrace.launchers.owners import ANYBODY, Owner, owner_of
from millrace.launchers.quotas import Quota
from tests.launchers.support import PATH, Running, echo, question, running

KEY = "sk-one"


@pytest.fixture(scope="module")
def locked() -> Iterator[Running]:
    with running(echo, api_keys=[KEY, "sk-two"]) as server:
        yield server


@pytest.fixture(scope="module")
def open_server() -> Iterator[Running]:
    with running(echo) as server:
        yield server


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def basic(key: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'user:{key}'.encode()).decode()}"}


class TestKeys:
    @pytest.mark.parametrize("key", [KEY, "sk-two"])
    def test_each_key_opens(self, locked: Running, key: str) -> None:
        assert locked.post(question(), bearer(key))[0] == 200

    @pytest.mark.parametrize(
        "headers", [{}, bearer("sk-three"), bearer(""), {"Authorization": KEY}, bearer(KEY + "x"), basic(KEY)]
    )
    def test_nothing_else_does(self, locked: Running, headers: dict[str, str]) -> None:
        status, got, answer = locked.post(question(), headers)
        assert status == 401
        assert answer["error"]["code"] == "invalid_api_key"
        assert "Authorization: Bearer <key>" in answer["error"]["message"]
        assert got["www-authenticate"] == "Bearer"

    def test_the_openai_client(self, locked: Running) -> None:
        with openai.OpenAI(base_url=f"{locked.url}/v1", api_key=KEY) as client:
            assert client.models.list().data[0].id == "echo"
        wrong = openai.OpenAI(base_url=f"{locked.url}/v1", api_key="wrong")
        with wrong, pytest.raises(openai.AuthenticationError):
            wrong.models.list()

    def test_they_are_checked_before_the_body_is_read(self, locked: Running) -> None:
        with locked.connect() as connection:
            connection.send("POST", PATH, b"", {"Content-Length": "100"})
            assert connection.reply().status == 401

    @pytest.mark.parametrize("path", ["/v1/models", "/openapi.json", "/", "/nothing"])
    def test_everything_is_behind_them(self, locked: Running, path: str) -> None:
        assert locked.get(path)[0] == 401

    @pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
    def test_but_health(self, locked: Running, path: str) -> None:
        assert locked.get(path)[0] == 200

    def test_browsers_log_in_to_pages_only(self, locked: Running) -> None:
        with locked.connect() as connection:
            connection.send("GET", "/openapi.json")
            assert connection.reply().headers["www-authenticate"].startswith("Basic ")
        assert locked.get("/openapi.json", basic(KEY))[0] == 200
        assert locked.get("/openapi.json", basic("wrong"))[0] == 401
        assert locked.get("/openapi.json", {"Authorization": "Basic %%%"})[0] == 401
        assert locked.get("/v1/models", basic(KEY))[0] == 401


class TestHosts:
    @pytest.mark.parametrize("host", ["127.0.0.1:1", "localhost", "LOCALHOST:80", "[::1]:9"])
    def test_names_of_this_machine(self, open_server: Running, host: str) -> None:
        assert open_server.get("/v1/models", {"Host": host})[0] == 200

    @pytest.mark.parametrize(
        "host", ["example.com", "127.0.0.1.example.com", "localhost.", "[::2]", "", "a:b:c"]
    )
    def test_others_are_refused(self, open_server: Running, host: str) -> None:
        status, answer = open_server.get("/v1/models", {"Host": host})
        assert (status, answer["error"]["code"]) == (403, "host_not_allowed")
        assert "api_keys" in answer["error"]["message"]

    def test_a_request_names_its_host(self, open_server: Running) -> None:
        """From HTTP/1.1 on it has to; no browser leaves it out."""
        for version, status in ((b"1.1", 400), (b"1.0", 200)):
            with open_server.connect() as connection:
                connection.socket.sendall(b"GET /v1/models HTTP/" + version + b"\r\n\r\n")
                assert connection.reply().status == status
                if status == 400:
                    assert "header Host" in connection.json()["error"]["message"]

    def test_health_answers_to_any_name(self, open_server: Running) -> None:
        assert open_server.get("/health/live", {"Host": "10.0.0.7"})[0] == 200

    def test_with_keys_any_name_will_do(self, locked: Running) -> None:
        assert locked.get("/v1/models", {"Host": "example.com", **bearer(KEY)})[0] == 200

    def test_insecure_takes_any_name(self) -> None:
        with running(echo, insecure=True) as server:
            assert server.get("/v1/models", {"Host": "example.com"})[0] == 200

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "example.com"])
    def test_other_addresses_need_keys(self, host: str) -> None:
        with pytest.raises(MillraceError, match=r"--api-keys FILE.*--insecure"):
            Service(echo, host=host)
        Service(echo, host=host, insecure=True)
        Service(echo, host=host, api_keys=[KEY])

    def test_what_is_loopback(self) -> None:
        assert all(map(is_loopback, ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost"]))
        assert not any(map(is_loopback, ["0.0.0.0", "10.0.0.1", "::", "example.com", ""]))


@pytest.mark.anyio
class TestOwners:
    """Whose a request is stands in its scope."""

    async def owner(self, scope: dict[str, Any], keys: Keys | None) -> Owner | None:
        seen: list[Owner] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            seen.append(owner_of(scope))

        async def send(message: Any) -> None:
            pass

        await Guard(app, keys, None)({"type": "http", "path": "/v1/x", "headers": [], **scope}, send, send)
        return seen[0] if seen else None

    async def test_the_keys(self) -> None:
        keys = Keys(["alice: sk-a running=2", "sk-b"])
        alice = {"headers": [(b"authorization", b"Bearer sk-a")]}
        assert await self.owner(alice, keys) == Owner("alice", Quota(running=2))
        unnamed = await self.owner({"headers": [(b"authorization", b"bearer sk-b")]}, keys)
        assert unnamed is not None
        assert str(unnamed.name).startswith("key-")
        assert await self.owner({}, keys) is None

    async def test_without_keys_anybody(self) -> None:
        assert await self.owner({}, None) is ANYBODY

    async def test_an_application_around_it_may_say_who_it_is(self) -> None:
        assert await self.owner({"millrace.owner": Owner("carol")}, None) == Owner("carol")
        mine = {"headers": [(b"authorization", b"Bearer sk-a")], "millrace.owner": Owner("carol")}
        assert await self.owner(mine, Keys(["alice: sk-a"])) == Owner("alice")

    async def test_health_is_nobodys(self) -> None:
        health = {"path": "/health/ready", "headers": [(b"authorization", b"Bearer sk-a")]}
        assert await self.owner(health, Keys(["alice: sk-a"])) is ANYBODY


@pytest.mark.anyio
async def test_websockets_are_guarded_too() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def let_in(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})

    guard = Guard(let_in, Keys([KEY]), None)
    scope: dict[str, Any] = {"type": "websocket", "path": "/", "headers": []}
    await guard(scope, send, send)
    scope["headers"] = [(b"authorization", f"Bearer {KEY}".encode())]
    await guard(scope, send, send)
    assert sent == [{"type": "websocket.close", "code": 1008}, {"type": "websocket.accept"}]


def test_other_sites_are_not_let_in(open_server: Running) -> None:
    with open_server.connect() as connection:
        asked = {"Origin": "http://example.com", "Access-Control-Request-Method": "POST"}
        connection.send("OPTIONS", PATH, headers=asked)
        reply = connection.reply()
        assert reply.status == 405
        assert not [name for name in reply.headers if name.startswith("access-control")]
