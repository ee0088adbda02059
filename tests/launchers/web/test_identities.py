"""Who a browser is: nobody can make a cookie of somebody else's."""

from __future__ import annotations

from typing import Any

import pytest

from millrace.launchers.owners import KEY, Owner
from millrace.launchers.web.identities import Identities, Identity, identity_of

SECRET = bytes(32)


def scope(cookie: str = "", **more: Any) -> dict[str, Any]:
    return {"headers": [(b"cookie", cookie.encode("latin-1"))] if cookie else [], **more}


def test_a_cookie_of_ours_names_its_browser_for_ever() -> None:
    ours = Identities(SECRET)
    value = ours.new()
    found = ours.read(scope(f"other=1; {ours.cookie}={value}"))
    assert found is not None
    assert found == Identities(SECRET).read(scope(f"{ours.cookie}={value}"))
    assert found != ours.read(scope(f"{ours.cookie}={ours.new()}"))
    assert found.owner.name is not None
    assert value.partition(".")[0] not in found.owner.name


@pytest.mark.parametrize("change", ["other", "cut", "unsigned", "name", "odd", "none"])
def test_any_other_cookie_names_nobody(change: str) -> None:
    ours, others = Identities(SECRET), Identities(b"x" * 32)
    name, _, signature = ours.new().partition(".")
    value = {
        "other": others.new(),
        "cut": f"{name}.{signature[:-1]}",
        "unsigned": name,
        "name": f"{'0' * 32}.{signature}",
        "odd": f"{name}.\xff\xfe",
        "none": "",
    }[change]
    assert ours.read(scope(f"{ours.cookie}={value}")) is None
    assert ours.cookie != others.cookie


def test_the_owner_of_a_key_is_the_same_in_every_browser() -> None:
    ours, alice = Identities(SECRET), Owner("alice")
    cookie = f"{ours.cookie}={ours.new()}"
    found = ours.read(scope(cookie, **{KEY: alice}))
    assert found == ours.read(scope(**{KEY: alice})) == Identity("key:alice", alice)


def test_a_page_that_takes_no_cookies_is_somebody_while_it_lasts() -> None:
    assert identity_of(scope(), "page1") == identity_of(None, "page1") != identity_of(scope(), "page2")


def test_the_cookie_is_for_this_server_alone() -> None:
    header = Identities(SECRET).header("v", "/chat", secure=True).decode()
    assert header.split("; ")[1:] == [
        "Path=/chat",
        "Max-Age=31536000",
        "HttpOnly",
        "SameSite=Lax",
        "Secure",
    ]
    assert "Secure" not in Identities(SECRET).header("v", "", secure=False).decode()
