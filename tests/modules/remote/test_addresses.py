"""Where a server is, and that its key is never shown."""

from __future__ import annotations

from typing import Any

import pytest

from millrace.modules.remote.addresses import Address
from millrace.streaming import RemoteError

KEY = "sk-very-secret"


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("http://localhost:8000/v1", "http://localhost:8000/v1/chat/completions"),
        ("http://localhost:8000/v1/", "http://localhost:8000/v1/chat/completions"),
        ("https://api.example.com", "https://api.example.com/chat/completions"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1/chat/completions"),
        (
            "https://host/deployments/a?api-version=1#x",
            "https://host/deployments/a/chat/completions?api-version=1",
        ),
    ],
)
def test_endpoints(url: str, endpoint: str) -> None:
    assert Address(url).endpoint("/chat/completions") == endpoint


@pytest.mark.parametrize(
    "url", ["", "localhost:8000", "ftp://host/v1", "http://", "http://host:99999/v1", " http://h", None, 5]
)
def test_what_is_no_base_url(url: Any) -> None:
    with pytest.raises(ValueError, match="no base URL"):
        Address(url)


def test_the_url_of_an_endpoint() -> None:
    with pytest.raises(ValueError, match="without /chat/completions"):
        Address("http://localhost:8000/v1/chat/completions")


def test_a_password_in_the_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="api_key") as refused:
        Address(f"http://me:{KEY}@host/v1")
    assert KEY not in str(refused.value)


def test_the_key_goes_into_a_header_and_nowhere_else() -> None:
    address = Address(f"http://host/v1?key={KEY}", KEY)
    assert address.headers() == {"authorization": f"Bearer {KEY}"}
    assert KEY not in repr(address) + str(address)
    assert address.hide(f"the key {KEY} is wrong") == "the key *** is wrong"
    assert Address("http://host/v1").headers() == {}


def test_the_key_of_an_environment_variable_is_read_when_it_is_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address = Address("http://host/v1", api_key_env="TEST_KEY")
    with pytest.raises(RemoteError, match="TEST_KEY is not set"):
        address.headers()
    monkeypatch.setenv("TEST_KEY", f"{KEY}\n")
    assert address.headers() == {"authorization": f"Bearer {KEY}"}
    assert address.hide(KEY) == "***"
    monkeypatch.setenv("TEST_KEY", f"{KEY}\n{KEY}")
    with pytest.raises(RemoteError, match="TEST_KEY is empty, or has characters") as refused:
        address.headers()
    assert KEY not in str(refused.value)


@pytest.mark.parametrize("key", [f"{KEY}\n", f"{KEY}ä", f" {KEY}"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(ValueError, match="api_key") as refused:
        Address("http://host/v1", key)
    assert key.strip() not in str(refused.value)


def test_one_key_only() -> None:
    with pytest.raises(ValueError, match="both"):
        Address("http://host/v1", KEY, "TEST_KEY")
