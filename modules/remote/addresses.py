"""Address: where a server is, as whom it is asked, and what may be shown of that."""

from __future__ import annotations

import os
from urllib.parse import SplitResult, urlsplit, urlunsplit

from ...streaming.errors import RemoteError

__all__ = ["Address"]

ENDPOINTS = ("/chat/completions", "/completions", "/embeddings", "/responses", "/models")
EXAMPLE = "http://localhost:8000/v1"
HIDDEN = "***"
UNSENDABLE = "is empty, or has characters that no HTTP header can carry; was a line end read with it?"


class Address:
    """The base URL of an OpenAI-compatible server, and the key that it asks for.

    Args:
        url: what clients of OpenAI call the base URL; it mostly ends in `/v1`. A query is kept for every request.
        api_key: sent as `Authorization: Bearer`; never shown.
        api_key_env: the environment variable that has the key, read when the first connection is made.
        example: what such a URL looks like, for the message where it is none.

    Raises:
        ValueError: no URL of http or https, one with a user's name or an endpoint in it, or two keys.
    """

    def __init__(
        self, url: str, api_key: str | None = None, api_key_env: str | None = None, example: str = EXAMPLE
    ) -> None:
        if api_key is not None and api_key_env is not None:
            raise ValueError("both api_key and api_key_env are given; give one of them")
        if api_key is not None and not _can_be_sent(api_key):
            raise ValueError(f"api_key {UNSENDABLE}")
        parts = _checked(url, example)
        self._parts = parts._replace(path=parts.path.rstrip("/"), fragment="")
        self._api_key = api_key
        self._api_key_env = api_key_env

    def __str__(self) -> str:
        """The URL as messages show it: without its query, which may hold secrets."""
        return urlunsplit(self._parts._replace(query=""))

    def __repr__(self) -> str:
        return f"Address({str(self)!r})"

    @property
    def host(self) -> str:
        return self._parts.hostname or ""

    @property
    def secure(self) -> bool:
        """Whether it is HTTPS."""
        return self._parts.scheme == "https"

    def endpoint(self, path: str) -> str:
        """The URL of an endpoint, such as `/chat/completions`, which may have a query of its own."""
        path, _, query = path.partition("?")
        queries = "&".join(part for part in (self._parts.query, query) if part)
        return urlunsplit(self._parts._replace(path=self._parts.path + path, query=queries))

    def headers(self) -> dict[str, str]:
        """Who asks.

        Raises:
            RemoteError: the environment variable is not set.
        """
        key = self._key()
        return {} if key is None else {"authorization": f"Bearer {key}"}

    def hide(self, text: str) -> str:
        """A text of the server's without the key, which some quote back when they refuse it."""
        key = self._api_key or self._of_environment()
        return text.replace(key, HIDDEN) if key else text

    def _of_environment(self) -> str:
        return os.environ.get(self._api_key_env or "", "").strip()

    def _key(self) -> str | None:
        if self._api_key_env is None:
            return self._api_key
        key = self._of_environment()
        if not key:
            raise RemoteError(
                f"the environment variable {self._api_key_env} is not set, and it has the key for {self}; set it, "
                "or give api_key"
            )
        if not _can_be_sent(key):
            raise RemoteError(f"the environment variable {self._api_key_env} {UNSENDABLE}")
        return key


def _can_be_sent(key: str) -> bool:
    """Whether an HTTP header can carry it; what refuses it later would quote it."""
    return bool(key) and key.isascii() and key.isprintable() and key == key.strip()


def _checked(url: object, example: str) -> SplitResult:
    shown = repr(url)
    if isinstance(url, str) and url == url.strip():
        try:
            parts = urlsplit(url)
            _ = parts.port  # raises when it is none
        except ValueError:
            parts = urlsplit("")
        if "@" in parts.netloc:
            raise ValueError("the URL has a user's name or password in it; give the key as api_key instead")
        if wrong := next((end for end in ENDPOINTS if parts.path.rstrip("/").endswith(end)), None):
            raise ValueError(f"{shown} is the URL of an endpoint; give the base URL, without {wrong}")
        if parts.scheme in ("http", "https") and parts.hostname:
            return parts
    raise ValueError(f"{shown} is no base URL of a server; give one such as {example!r}")
