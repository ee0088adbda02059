"""Logging in: over real sockets, with an application behind the guard that tells whose a request is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from millrace.launchers.api.guards import Guard
from millrace.launchers.api.keys import Keys
from millrace.launchers.owners import owner_of
from millrace.launchers.web.account_lines import account
from millrace.launchers.web.logins import FREE, Attempts, Login
from tests.support.servers import Served, serving

PAGE = {"accept": "text/html,*/*;q=0.8"}
SECRET = b"s" * 32


async def behind(scope: Any, receive: Any, send: Any) -> None:
    body = f"{owner_of(scope).name} {account(scope)}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def login(tmp_path: Path) -> Login:
    path = tmp_path / "keys"
    path.write_text("alice: sk-alice\nbob: sk-bob\n")
    path.chmod(0o600)
    return Login(Keys(path), SECRET, "Mill <b>")


@pytest.fixture
def served(login: Login) -> Iterator[Served]:
    with serving(Guard(behind, login.keys, None, login), lifespan="off") as served:
        yield served


@pytest.fixture
def browser(served: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, headers=PAGE, follow_redirects=True, trust_env=False) as client:
        yield client


def log_in(client: httpx.Client, key: str = "sk-alice", **more: str) -> httpx.Response:
    return client.post("/login", data={"key": key, **more})


def test_a_browser_is_led_to_the_page_and_back(browser: httpx.Client) -> None:
    asked = browser.get("/docs")
    assert (asked.url.path, asked.status_code) == ("/login", 200)
    assert "Mill &lt;b&gt;" in asked.text
    assert "<b>" not in asked.text
    back = re.search(r'name="next" value="([^"]*)"', asked.text)
    assert back is not None
    answer = log_in(browser, next=back[1])
    assert (answer.url.path, answer.text[:6]) == ("/docs", "alice ")
    assert browser.get("/login").url.path == "/"


def test_the_cookie(browser: httpx.Client) -> None:
    response = browser.post("/login", data={"key": "sk-bob"}, follow_redirects=False)
    cookie = response.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "sk-bob" not in cookie
    assert browser.get("/").text.startswith("bob ")
    name, value = next(iter(browser.cookies.items()))
    until, _, mark = value.partition(".")
    browser.cookies.clear()
    for forged in (f"{int(until) + 1}.{mark}", f"{until}.{'0' * 64}", f"1.{mark}", "x", "."):
        assert browser.get("/", headers={"cookie": f"{name}={forged}"}).url.path == "/login"
    assert browser.get("/v1/models", headers={"cookie": f"{name}={value}"}).status_code == 401


def test_a_wrong_key(browser: httpx.Client) -> None:
    for key in ("sk-carol", "", "\udcff".encode("utf-8", "surrogateescape").decode("latin-1")):
        answer = log_in(browser, key)
        assert "This key is not known" in answer.text
        assert 'role="alert"' in answer.text
        assert "set-cookie" not in answer.headers


def test_guessing_is_slowed(browser: httpx.Client) -> None:
    for _ in range(FREE):
        assert log_in(browser, "wrong").status_code == 200
    slowed = log_in(browser)
    assert slowed.status_code == 429
    assert int(slowed.headers["retry-after"]) >= 1
    assert "Too many attempts" in slowed.text
    assert "set-cookie" not in slowed.headers


def test_each_further_attempt_waits_longer() -> None:
    attempts = Attempts()
    waits = []
    for _ in range(12):
        attempts.failed("a")
        waits.append(attempts.wait("a"))
    assert waits == [0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]
    assert attempts.wait("b") == 0
    attempts.succeeded("a")
    assert attempts.wait("a") == 0


def test_logging_out(browser: httpx.Client) -> None:
    log_in(browser)
    assert 'action="/logout"' in browser.get("/").text
    assert browser.post("/logout").url.path == "/login"
    assert browser.get("/").url.path == "/login"


def test_a_key_that_is_gone_ends_it(browser: httpx.Client, login: Login) -> None:
    log_in(browser)
    assert login.keys.path is not None
    login.keys.path.write_text("alice: sk-new\nbob: sk-bob\n")
    login.keys.reload()
    assert browser.get("/").url.path == "/login"


def test_programs_go_on_as_before(served: Served) -> None:
    with httpx.Client(base_url=served.url, trust_env=False) as client:
        refused = client.get("/", headers=PAGE | {"accept": "*/*"})
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert client.get("/v1/models", headers=PAGE).status_code == 401
        basic = client.get("/", auth=("x", "sk-bob"))
        assert basic.text == "bob "  # without a way out, as there is none
        assert client.get("/v1/x", headers={"authorization": "Bearer sk-alice"}).text == "alice "


@pytest.mark.parametrize("path", ["/login", "/logout"])
@pytest.mark.parametrize(
    "headers", [{"origin": "http://evil.test"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}]
)
def test_other_sites_cannot_log_in_or_out(browser: httpx.Client, path: str, headers: dict[str, str]) -> None:
    assert browser.post(path, data={"key": "sk-alice"}, headers=headers).status_code == 403


@pytest.mark.parametrize("back", ["//evil.test", "http://evil.test", "/\\evil.test", "/a\r\nb: c", "x"])
def test_the_way_back_leads_nowhere_else(browser: httpx.Client, back: str) -> None:
    answer = browser.post("/login", data={"key": "sk-alice", "next": back}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


def test_in_chinese(browser: httpx.Client) -> None:
    page = browser.get("/login", headers={"accept-language": "zh-CN"})
    assert '<html lang="zh">' in page.text
    assert "您的密钥" in page.text
