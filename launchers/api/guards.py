"""Who may ask, and who asks: API keys, and the Host header where there are none. Checked before anything is read.

Without keys a server listens on loopback only. Its Host header is checked then, since any page in a browser on this
machine can have its own name resolve to 127.0.0.1 (DNS rebinding).
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Awaitable, Iterable
from functools import lru_cache

from starlette.types import ASGIApp, Receive, Scope, Send

from ..owners import KEY
from ..web.logins import LOGGED_IN, Login
from .keys import Keys
from .refusals import Refusal

__all__ = ["Guard", "Keys", "is_loopback"]

OPEN = ("/health/live", "/health/ready")
LOCAL = ("localhost", "127.0.0.1", "[::1]")


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


class Guard:
    """A pure ASGI middleware in front of everything but the health checks; it says whose a request is (owners.py).

    Args:
        keys: demanded as `Authorization: Bearer <key>`; browsers, which open pages and not `/v1`, may give one
            as the password of HTTP Basic.
        hosts: names that the Host header may have; None: any.
        login: where browsers are led that have no key with them; without it they ask for one themselves.
    """

    def __init__(
        self, app: ASGIApp, keys: Keys | None, hosts: Iterable[str] | None, login: Login | None = None
    ) -> None:
        self.app = app
        self.keys = keys
        self.login = login
        self.hosts = None if hosts is None else frozenset(name.encode() for name in (*LOCAL, *hosts))
        self._is_ours = lru_cache(maxsize=64)(self._is_known)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.lead(scope, receive, send)

    def lead(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """The same, for whoever awaits it at once; where all is well it is the application's own answer."""
        if scope["type"] == "lifespan":
            return self.app(scope, receive, send)
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path in OPEN:
            return self.app(scope, receive, send)
        login = None if scope["type"] == "websocket" else self.login
        try:
            self._check_host(scope)
            if login is not None and login.serves(path):
                return login(scope, receive, send, path)
            self._check_key(scope, path)
        except Refusal as refusal:
            if scope["type"] == "websocket":
                return send({"type": "websocket.close", "code": 1008})
            if login is not None and refusal.status == 401 and _opens_page(scope, path):
                return login.ask(scope, send)
            return refusal.send_to(send)
        return self.app(scope, receive, send)

    def _check_host(self, scope: Scope) -> None:
        if self.hosts is None:
            return
        named = scope.get("http_version") == "1.0"  # only there a request may do without (RFC 9112, 3.2)
        for name, value in scope["headers"]:
            if name != b"host":
                continue
            named = True
            if not self._is_ours(value):
                raise Refusal(
                    403,
                    "this server answers to localhost only, as it has no API keys; "
                    "to be reached by another name, start it with api_keys",
                    "host_not_allowed",
                )
        if not named:
            raise Refusal(400, "the request names no host; send the header Host", "invalid_request")

    def _is_known(self, host: bytes) -> bool:
        assert self.hosts is not None
        host = host.lower()
        name, _, port = host.rpartition(b":")
        return host in self.hosts or (name in self.hosts and port.isdigit())

    def _check_key(self, scope: Scope, path: str) -> None:
        if self.keys is None:
            return
        for_programs = path.startswith("/v1/")
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        scheme, _, key = given.partition(b" ")
        if scheme.lower() == b"basic" and not for_programs:
            key = _password(key)
        elif scheme.lower() != b"bearer":
            key = b""
        owner = self.keys.owner(key.strip())
        if owner is None and self.login is not None and not for_programs:
            owner = self.login.owner(scope)
            scope[LOGGED_IN] = owner is not None
        if owner is None:
            asks_itself = not for_programs and self.login is None
            raise Refusal(
                401,
                "send a valid API key, as the header Authorization: Bearer <key>",
                "invalid_api_key",
                headers={"www-authenticate": 'Basic realm="millrace"' if asks_itself else "Bearer"},
            )
        scope[KEY] = owner


def _opens_page(scope: Scope, path: str) -> bool:
    """Whether somebody opens a page in a browser: then a page is what they are to get."""
    accepted = next((value for name, value in scope["headers"] if name == b"accept"), b"")
    return scope["method"] == "GET" and b"text/html" in accepted and not path.startswith("/v1/")


def _password(encoded: bytes) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True).partition(b":")[2]
    except binascii.Error:
        return b""
