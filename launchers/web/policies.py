"""What a chat page may do in the browser, and what of its server is not for use."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

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

HEARTBEAT = "/heartbeat/"


class ChatPolicy:
    """Pure ASGI middleware around the page's server.

    Safe headers on all answers; no uploads, proxying or API pages. A page keeps one long request open, by which it
    is known to be there; when the server itself is to go, that request ends as if the page had left, so that
    nobody waits for it.
    """

    def __init__(self, app: App, tabs: Tabs) -> None:
        self.app = app
        self.tabs = tabs
        tabs.attended = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        below = str(scope["path"]).partition("/gradio_api")[2]
        if below.startswith(CLOSED):
            await guarded({"type": "http.response.start", "status": 404, "headers": []})
            await guarded({"type": "http.response.body", "body": b""})
            return
        if not below.startswith(HEARTBEAT):
            await self.app(scope, receive, guarded)
            return
        name = below.removeprefix(HEARTBEAT).strip("/")
        self.tabs.arrive(name)
        try:
            await self.app(scope, self._until_closed(receive, name), guarded)
        finally:
            self.tabs.depart(name)

    def _until_closed(self, receive: Receive, name: str) -> Receive:
        """`receive` of a page's long request, which is told that its client has left when the server closes."""

        async def receive_or_leave() -> Message:
            received = asyncio.ensure_future(receive())
            closed = asyncio.ensure_future(self.tabs.until_closed(name))
            try:
                await asyncio.wait((received, closed), return_when=asyncio.FIRST_COMPLETED)
                return received.result() if received.done() else {"type": "http.disconnect"}
            finally:
                received.cancel()
                closed.cancel()

        return receive_or_leave
