"""Files on their way in and out of a chat, each of them its owner's alone.

`POST /files?name=...` takes one, as the request's body; `GET /files/<conversation>/<file>` gives one back.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote

from ...streaming.errors import MillraceError
from ...streaming.named_files import type_of
from ..file_inputs import FileRefused
from .identities import Identity
from .shelves import CHUNK, StoredFile, size_of
from .words import language_of, said

if TYPE_CHECKING:
    from .tabs import Tabs

__all__ = ["FILES", "FileRoutes"]

FILES = "/files"
REMEMBERED = 1000
"""Files that have come and that no question has taken yet."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

SAFE = [
    (b"content-security-policy", b"default-src 'none'; sandbox"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"private, no-store"),
]
"""Whatever is in a file, a browser runs none of it."""


class FileRoutes:
    """What the chat's middleware does with requests below `/files`."""

    def __init__(self, tabs: Tabs) -> None:
        self.tabs = tabs

    async def __call__(
        self, scope: Scope, receive: Receive, send: Send, path: str, identity: Identity | None
    ) -> None:
        if identity is None:
            await _answer(send, 404)
        elif scope["method"] == "POST" and path in ("", "/") and self.tabs.intake.files:
            await self._take(scope, receive, send, identity)
        elif scope["method"] == "GET":
            await self._give(send, path.strip("/"), identity)
        else:
            await _answer(send, 404)

    # ------------------------------------------------------------ in

    async def _take(self, scope: Scope, receive: Receive, send: Send, identity: Identity) -> None:
        name = parse_qs(scope["query_string"].decode("latin-1")).get("name", [""])[0]
        language, most = language_of(scope), self.tabs.max_upload
        try:
            if not self.tabs.intake.takes(name, type_of(name)):
                raise FileRefused(f"{name} is not of a kind that is taken here")
            if _length(scope) > most:
                raise FileRefused(f"{name} is too large: {size_of(most)} at most")
            file = await self.tabs.shelves.of(identity.name).receive(name, _body(receive), most)
        except FileRefused as error:
            await _answer(send, 413, {"error": said(str(error), language)}, [(b"connection", b"close")])
        except ConnectionError:
            pass
        except (MillraceError, OSError):
            await _answer(send, 500, {"error": said("The file could not be kept", language)})
        else:
            uploads = self.tabs.uploads
            uploads[identity.name, file.id] = file
            while len(uploads) > REMEMBERED:
                uploads.popitem(last=False)
            await _answer(send, 200, {"id": file.id})

    # ------------------------------------------------------------ out

    async def _give(self, send: Send, path: str, identity: Identity) -> None:
        conversation_id, _, id = path.partition("/")
        conversations = self.tabs.conversations(identity)
        conversation = conversations.open(conversation_id)
        file = None if conversation is None else _found(conversation.turns, id)
        descriptor = None
        if file is not None and conversations.shelf is not None:
            descriptor = conversations.shelf.open(file, conversation_id)
        if file is None or descriptor is None:
            await _answer(send, 404)
            return
        with os.fdopen(descriptor, "rb") as content:
            size = os.fstat(content.fileno()).st_size
            await send({"type": "http.response.start", "status": 200, "headers": _headers(file, size)})
            while piece := await asyncio.to_thread(content.read, CHUNK):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


def _found(turns: list[Any], id: str) -> StoredFile | None:
    return next((file for turn in turns for file in (*turn.files, *turn.made) if file.id == id), None)


def _headers(file: StoredFile, size: int) -> list[tuple[bytes, bytes]]:
    kind = file.type if file.shows else "application/octet-stream"
    place = "inline" if file.shows else "attachment"
    named = f"{place}; filename*=UTF-8''{quote(file.name, safe='')}"
    return [
        *SAFE,
        (b"content-type", kind.encode()),
        (b"content-disposition", named.encode()),
        (b"content-length", str(size).encode()),
    ]


def _length(scope: Scope) -> int:
    """What a request says of its length; 0 where it says nothing."""
    said_length = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    return int(said_length) if said_length.isdigit() else 0


async def _body(receive: Receive) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError("the client has left")
        if message.get("body"):
            yield message["body"]
        if not message.get("more_body"):
            return


async def _answer(
    send: Send,
    status: int,
    told: dict[str, str] | None = None,
    headers: list[tuple[bytes, bytes]] | None = None,
) -> None:
    body = b"" if told is None else json.dumps(told, ensure_ascii=False).encode("utf-8", "replace")
    length = (b"content-length", str(len(body)).encode())
    start = [*SAFE, (b"content-type", b"application/json"), length, *(headers or ())]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})
