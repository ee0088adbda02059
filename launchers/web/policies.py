"""What a chat page may do in the browser, and what of its server is not for use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from ..owners import owner_of
from .exports import FORMS, disposition
from .file_routes import FILES, FileRoutes
from .identities import KEY, Identities, Identity, identity_of
from .origins import is_foreign

if TYPE_CHECKING:
    from .tabs import Tabs

__all__ = ["ChatPolicy"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

CONTENT = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'self'",
    )
)
"""Content-Security-Policy: nothing is loaded from another host, whatever a message says."""

HEADERS = [
    (b"content-security-policy", CONTENT.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]

CLOSED = (
    "/api/",
    "/call/",
    "/component_server",
    "/deep_link",
    "/info",
    "/openapi.json",
    "/proxy=",
    "/stream/",
    "/upload",
)
"""Parts of the page's server that this chat does not use; programs have the API under /v1."""

ANSWERS = "/queue/data"
"""The request by which a page waits for answers; it is there while one is on its way."""

ENDING = b'data: {"msg":"close_stream"'
"""How the last that is said on it begins: the page has all that it waited for."""

EXPORT = "/conversations/"
"""Where a conversation can be downloaded: its id, and `.md` or `.json`."""


class ChatPolicy:
    """Pure ASGI middleware around the page's server.

    Tells whose a request is, and gives a cookie to whoever opens the page without one. Safe headers on all answers;
    nothing from pages of other sites; no proxying or API pages, and files only by file_routes.py. A page that waits for
    an answer keeps one long request open, by which it is known to be there; one that waits for nothing keeps none: a
    browser has six for all of its tabs.
    """

    def __init__(self, app: App, tabs: Tabs, answerer: str) -> None:
        self.app = app
        self.tabs = tabs
        self.answerer = answerer
        self.files = FileRoutes(tabs)
        self.identities = Identities(tabs.archives.secret)
        tabs.attended = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = list(HEADERS)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *headers]
            await send(message)

        path = str(scope["path"]).removeprefix(scope.get("root_path", ""))
        scope[KEY] = identity = self.identities.read(scope)
        if path in ("", "/") and owner_of(scope).name is None:
            headers.append((b"set-cookie", self._cookie(scope)))
        if is_foreign(scope):
            await _answer(guarded, 403)
            return
        if path == FILES or path.startswith(FILES + "/"):
            await self.files(scope, receive, send, path.removeprefix(FILES), identity)
            return
        if path.startswith(EXPORT):
            await self._export(identity, path.removeprefix(EXPORT), guarded)
            return
        below = path.partition("/gradio_api")[2]
        if below.startswith(CLOSED):
            await _answer(guarded, 404)
            return
        if below == ANSWERS:
            await self._attend(scope, receive, guarded)
        else:
            await self.app(scope, receive, guarded)

    async def _attend(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A page waits for answers: it is there until it has them, or leaves."""
        asked = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        name = asked.get("session_hash", [""])[0]
        identity = identity_of(scope, name)
        heard = False

        async def hearing(message: Message) -> None:
            nonlocal heard
            heard = heard or message.get("body", b"").startswith(ENDING)
            await send(message)

        self.tabs.arrive(name, identity)
        try:
            await self.app(scope, receive, hearing)
        finally:
            self.tabs.depart(name, identity, left=not heard)

    def _cookie(self, scope: Scope) -> bytes:
        """The browser's own again, for another year, or a new one."""
        value = self.identities.value(scope) or self.identities.new()
        return self.identities.header(value, scope.get("root_path", ""), scope.get("scheme") == "https")

    async def _export(self, identity: Identity | None, name: str, send: Send) -> None:
        id, _, ending = name.partition(".")
        form = FORMS.get(ending)
        conversation = self.tabs.conversations(identity).open(id) if identity and form else None
        if form is None or conversation is None or not conversation.turns:
            await _answer(send, 404)
            return
        write, kind = form
        headers = [
            (b"content-type", f"{kind}; charset=utf-8".encode()),
            (b"content-disposition", disposition(conversation.title, ending)),
            (b"cache-control", b"no-store"),
        ]
        content = write(conversation, self.answerer)
        await _answer(send, 200, headers, content.encode("utf-8", "replace"))


async def _answer(
    send: Send, status: int, headers: list[tuple[bytes, bytes]] | None = None, body: bytes = b""
) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*(headers or ()), length]})
    await send({"type": "http.response.body", "body": body})
