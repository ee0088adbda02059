"""Logging in with an API key in a browser: a page that asks for it, and a cookie by which its owner is known.

The cookie says until when it holds, signed with the chat's secret and the key's digest: it is over with either of
them, and the key cannot be found from it. It opens pages, never `/v1`.
"""

from __future__ import annotations

import hmac
import time
from collections import OrderedDict
from collections.abc import Mapping
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote

from ..owners import Owner
from .identities import cookies
from .login_pages import HEADERS, login_page
from .origins import is_foreign
from .words import language_of, said

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from ..api.keys import Keys

__all__ = ["LOGGED_IN", "Attempts", "Login"]

LOGGED_IN = "millrace.logged_in"
"""Where the ASGI scope of a request says that its owner is known by this cookie."""

MONTH = 30 * 24 * 3600
MOST_BODY = 8192

FREE = 3
"""Wrong keys from one address before it has to wait."""

LONGEST = 60.0
ADDRESSES = 1000


class Login:
    """What stands at `/login` and `/logout`, and who is logged in.

    Args:
        keys: those of the service.
        secret: what cookies are signed with.
        title: the name on the page.
    """

    def __init__(self, keys: Keys, secret: bytes, title: str) -> None:
        self.keys = keys
        self.title = title
        self.attempts = Attempts()
        self.cookie = "millrace-login-" + sha256(secret).hexdigest()[:8]
        self._secret = secret

    def owner(self, scope: Mapping[str, Any]) -> Owner | None:
        """Who is logged in, in the browser that a request is from."""
        for value in cookies(scope, self.cookie):
            until, _, mark = value.partition(".")
            if not (until.isascii() and until.isdigit()) or int(until) < time.time():
                continue
            owner = self.keys.find(partial(self._signed, until, mark.encode("utf-8", "replace")))
            if owner is not None:
                return owner
        return None

    def _signed(self, until: str, mark: bytes, digest: bytes) -> bool:
        return hmac.compare_digest(self._sign(digest, until), mark)

    def _sign(self, digest: bytes, until: str) -> bytes:
        return hmac.new(self._secret, b"login:" + digest + until.encode(), sha256).hexdigest().encode()

    # ------------------------------------------------------------ what browsers are sent

    def serves(self, path: str) -> bool:
        return path in ("/login", "/logout")

    async def __call__(self, scope: Scope, receive: Receive, send: Send, path: str) -> None:
        root = str(scope.get("root_path", ""))
        if is_foreign(scope):
            await _answer(send, 403)
        elif path == "/logout" and scope["method"] == "POST":
            await _redirect(send, f"{root}/login", self._header(scope, "", 0))
        elif path == "/login" and scope["method"] == "POST":
            await self._log_in(scope, receive, send, root)
        elif path == "/login" and self.owner(scope) is None:
            query = parse_qs(scope["query_string"].decode("latin-1"))
            await self._page(scope, send, 200, query.get("next", [""])[0])
        else:
            await _redirect(send, f"{root}/")

    async def ask(self, scope: Scope, send: Send) -> None:
        """Leads a browser that is not logged in to the page, and back afterwards."""
        root, path = str(scope.get("root_path", "")), str(scope["path"])
        here = path.removeprefix(root)
        back = "" if here in ("", "/") else f"?next={quote(here, safe='')}"
        await _redirect(send, f"{root}/login{back}")

    async def _log_in(self, scope: Scope, receive: Receive, send: Send, root: str) -> None:
        address = scope["client"][0] if scope.get("client") else ""
        form = parse_qs((await _body(receive)).decode("latin-1"), max_num_fields=10)
        key, back = form.get("key", [""])[0].strip(), form.get("next", [""])[0]
        wait = self.attempts.wait(address)
        if wait:
            words = f"Too many attempts; try again in {wait} seconds"
            await self._page(scope, send, 429, back, words, [(b"retry-after", str(wait).encode())])
            return
        digest = sha256(key.encode("utf-8", "replace")).digest()
        if self.keys.owner(key.encode("utf-8", "replace")) is None:
            self.attempts.failed(address)
            await self._page(scope, send, 200, back, "This key is not known")
            return
        self.attempts.succeeded(address)
        until = str(int(time.time()) + MONTH)
        value = f"{until}.{self._sign(digest, until).decode()}"
        await _redirect(send, root + (back if _is_here(back) else "/"), self._header(scope, value, MONTH))

    async def _page(
        self,
        scope: Scope,
        send: Send,
        status: int,
        back: str,
        failure: str = "",
        headers: list[tuple[bytes, bytes]] | None = None,
    ) -> None:
        language = language_of(scope)
        page = login_page(
            self.title,
            f"{scope.get('root_path', '')}/login",
            back if _is_here(back) else "",
            said(failure, language),
            language,
        )
        kind = (b"content-type", b"text/html; charset=utf-8")
        await _answer(send, status, [kind, *HEADERS, *(headers or ())], page.encode())

    def _header(self, scope: Scope, value: str, age: int) -> tuple[bytes, bytes]:
        secure = "; Secure" if scope.get("scheme") == "https" else ""
        path = scope.get("root_path", "") or "/"
        text = f"{self.cookie}={value}; Path={path}; Max-Age={age}; HttpOnly; SameSite=Strict{secure}"
        return b"set-cookie", text.encode()


class Attempts:
    """Slows down who guesses: after a few wrong keys each further one makes an address wait twice as long."""

    def __init__(self) -> None:
        self._failed: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wait(self, address: str) -> int:
        """Seconds that an address still has to wait; 0 where it may try."""
        _, until = self._failed.get(address, (0, 0.0))
        return max(0, -int((time.monotonic() - until) // 1))

    def failed(self, address: str) -> None:
        """A key was wrong."""
        count = self._failed.pop(address, (0, 0.0))[0] + 1
        pause = min(LONGEST, 2.0 ** (count - FREE)) if count >= FREE else 0.0
        self._failed[address] = count, time.monotonic() + pause
        while len(self._failed) > ADDRESSES:
            self._failed.popitem(last=False)

    def succeeded(self, address: str) -> None:
        self._failed.pop(address, None)


def _is_here(path: str) -> bool:
    """Whether it is a path of this server, and no other address in disguise."""
    return path.startswith("/") and not path.startswith("//") and path.isprintable() and "\\" not in path


async def _body(receive: Receive) -> bytes:
    body = b""
    while len(body) <= MOST_BODY:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    return body[:MOST_BODY]


async def _redirect(send: Send, location: str, *headers: tuple[bytes, bytes]) -> None:
    target = (b"location", quote(location, safe="/?=%&").encode())
    await _answer(send, 303, [target, (b"cache-control", b"no-store"), *headers])


async def _answer(
    send: Send, status: int, headers: list[tuple[bytes, bytes]] | None = None, body: bytes = b""
) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*(headers or ()), length]})
    await send({"type": "http.response.body", "body": body})
