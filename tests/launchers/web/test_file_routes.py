"""Files over real sockets: what is refused, at once, and who gets what."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from millrace import Limits, step
from millrace.launchers.admission import Admission
from millrace.launchers.web.archives import FileArchives
from millrace.launchers.web.identities import Identity
from millrace.launchers.web.policies import ChatPolicy
from millrace.launchers.web.tabs import Tabs
from millrace.streaming import NamedFile
from tests.support.servers import Served, serving

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20


async def behind(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def back(question: str, files: list[NamedFile]) -> list[NamedFile]:
    return [NamedFile(f"of {file.name}", file.read_bytes()) for file in files]


@pytest.fixture
def tabs(tmp_path: Path) -> Tabs:
    archives = FileArchives(tmp_path / "chats")
    return Tabs(step(back), Admission(Limits()), archives=archives, max_upload=1000)


@pytest.fixture
def served(tabs: Tabs) -> Iterator[Served]:
    with serving(ChatPolicy(behind, tabs, "flow"), lifespan="off") as served:
        yield served


@pytest.fixture
def client(served: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, trust_env=False) as client:
        client.get("/")  # which gives the cookie
        yield client


def files(tabs: Tabs) -> list[Path]:
    assert isinstance(tabs.archives, FileArchives)
    return [path for path in Path(tabs.archives.root, "files").rglob("*") if path.is_file()]


def identity_in(client: httpx.Client) -> Identity:
    return Identity.of_browser("cookie", next(iter(client.cookies.values())).partition(".")[0])


def test_a_file_goes_in_and_out(client: httpx.Client, served: Served, tabs: Tabs) -> None:
    sent = client.post("/files", params={"name": '../a"<i>.png'}, content=PNG)
    identity = identity_in(client)
    file = tabs.uploads.pop((identity.name, sent.json()["id"]))
    assert (file.name, file.type) == ('a"<i>.png', "image/png")
    tab = tabs.open("tab", identity)

    async def ask() -> None:
        tabs.attended = False
        live = tabs.begin(tab, "", [file])
        await live.ended.wait()

    asyncio.run(ask())
    turn = tab.turns[0]
    assert (turn.state, [made.name for made in turn.made]) == ("done", ['of a"<i>.png'])
    assert [message.content for message in tab.history()] == ['[a"<i>.png]', '[of a"<i>.png]']
    path = f"/files/{tab.conversation.id}/{turn.made[0].id}"
    got = client.get(path)
    assert (got.content, got.headers["content-type"]) == (PNG, "image/png")
    assert got.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert got.headers["content-disposition"] == "inline; filename*=UTF-8''of%20a%22%3Ci%3E.png"
    with httpx.Client(base_url=served.url, trust_env=False) as other:
        assert other.get(path).status_code == 404
        other.get("/")
        assert other.get(path).status_code == 404
    assert len(files(tabs)) == 2
    tab.conversations.delete(tab.conversation.id)
    assert files(tabs) == []
    assert client.get(path).status_code == 404


def test_only_images_are_shown(client: httpx.Client, tabs: Tabs) -> None:
    for name, content in (
        ("a.svg", b"<svg onload=alert(1)>"),
        ("a.html", b"<script>"),
        ("a.png", b"<script>"),
    ):
        id = client.post("/files", params={"name": name}, content=content).json()["id"]
        tab = tabs.open("tab", identity_in(client))
        file = tabs.uploads[tab.identity.name, id]

        async def ask(tab: Any = tab, file: Any = file) -> None:
            await tabs.begin(tab, "x", [file]).ended.wait()

        asyncio.run(ask())
        got = client.get(f"/files/{tab.conversation.id}/{id}")
        assert got.headers["content-type"] == "application/octet-stream"
        assert got.headers["content-disposition"].startswith("attachment")
        assert got.headers["x-content-type-options"] == "nosniff"


def test_too_much_is_refused_before_it_is_sent(client: httpx.Client, served: Served, tabs: Tabs) -> None:
    with socket.create_connection(("127.0.0.1", served.port), 10) as connection:
        connection.sendall(
            b"POST /files?name=a.bin HTTP/1.1\r\nhost: x\r\ncontent-length: 52428800\r\n"
            + f"cookie: {'; '.join('='.join(item) for item in client.cookies.items())}\r\n\r\n".encode()
        )  # and nothing of the body
        answer = b""
        while piece := connection.recv(4096):
            answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413 ")
    assert json.loads(body) == {"error": "a.bin is too large: 1 kB at most"}
    assert files(tabs) == []


def test_too_much_is_refused_while_it_comes(client: httpx.Client, tabs: Tabs) -> None:
    sent = 0

    def pieces() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(100_000):
            sent += 1000
            yield b"x" * 1000

    try:
        answer = client.post("/files", params={"name": "a.bin"}, content=pieces())
        assert answer.status_code == 413
    except httpx.TransportError:
        pass  # it was still sending
    assert sent < 50_000_000
    assert files(tabs) == []


def test_what_is_not_taken(served: Served, client: httpx.Client, tabs: Tabs) -> None:
    assert client.post("/files", headers={"origin": "http://evil.test"}, content=b"x").status_code == 403
    assert client.put("/files", content=b"x").status_code == 404
    for path in ("/files", "/files/x/y", "/files/%2e%2e/secret", f"/files/{'0' * 32}/{'0' * 32}"):
        assert client.get(path).status_code == 404
    with httpx.Client(base_url=served.url, trust_env=False) as nobody:
        assert nobody.post("/files", content=b"x").status_code == 404
    tabs.intake = Tabs(step(str.upper), Admission(Limits())).intake
    assert client.post("/files", params={"name": "a"}, content=b"x").status_code == 404


def test_words_in_the_language_of_the_request(client: httpx.Client) -> None:
    answer = client.post(
        "/files", params={"name": "a"}, content=b"x" * 1001, headers={"accept-language": "zh"}
    )
    assert answer.json()["error"] == "a 太大：最多 1 kB"
