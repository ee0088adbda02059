"""Who a browser is: the owner of a key, or whoever has a cookie that this chat has signed."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from ..owners import Owner, owner_of

__all__ = ["Identities", "Identity", "cookies", "identity_of"]

KEY = "millrace.identity"
"""Where the ASGI scope of a request has its identity."""

YEAR = 365 * 24 * 3600
SIZE = 16


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose conversations they are; `owner` is who the runs belong to, and takes turns with the others."""

    name: str
    owner: Owner

    @classmethod
    def of_owner(cls, owner: Owner) -> Identity:
        """Of somebody with a key, in whichever browser."""
        return cls(f"key:{owner.name}", owner)

    @classmethod
    def of_browser(cls, kind: str, name: str) -> Identity:
        """Of a browser without one; nobody else can be taken for it."""
        whole = f"{kind}:{name}"
        return cls(whole, Owner("chat:" + sha256(whole.encode()).hexdigest()[:16]))


class Identities:
    """Tells browsers apart by a cookie, which nobody can make without the secret."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self.cookie = "millrace-" + sha256(secret).hexdigest()[:8]
        """Of this chat alone: browsers give the cookies of one host to all its ports."""

    def read(self, scope: Mapping[str, Any]) -> Identity | None:
        """Whose request it is; None for a browser that has not been here before, or takes no cookies."""
        owner = owner_of(scope)
        if owner.name is not None:
            return Identity.of_owner(owner)
        value = self.value(scope)
        return None if value is None else Identity.of_browser("cookie", value.partition(".")[0])

    def value(self, scope: Mapping[str, Any]) -> str | None:
        """The value of the cookie that came along, if it is one of ours."""
        for value in cookies(scope, self.cookie):
            name, _, signature = value.partition(".")
            if hmac.compare_digest(self._sign(name).encode(), signature.encode("utf-8", "replace")):
                return value
        return None

    def new(self) -> str:
        """The value of a cookie for somebody new."""
        name = secrets.token_hex(SIZE)
        return f"{name}.{self._sign(name)}"

    def header(self, value: str, path: str, secure: bool) -> bytes:
        """The header that sets the cookie."""
        return (
            f"{self.cookie}={value}; Path={path or '/'}; Max-Age={YEAR}; HttpOnly; SameSite=Lax"
            + ("; Secure" if secure else "")
        ).encode()

    def _sign(self, name: str) -> str:
        return hmac.new(self._secret, f"cookie:{name}".encode("utf-8", "replace"), sha256).hexdigest()


def identity_of(scope: Mapping[str, Any] | None, page: str) -> Identity:
    """Whose request it is, as the chat's middleware has found out; else the page itself is somebody, while it lasts."""
    found: Identity | None = None if scope is None else scope.get(KEY)
    return found or Identity.of_browser("page", page)


def cookies(scope: Mapping[str, Any], wanted: str) -> Iterator[str]:
    """The values of the cookies of a name that a request has."""
    for header, value in scope.get("headers", ()):
        if header == b"cookie":
            for part in value.decode("latin-1").split(";"):
                name, _, text = part.strip().partition("=")
                if name == wanted:
                    yield text
