"""Last words: what the client of a stream is told when the process that answers it is killed.

Such a process can say nothing any more. Where others stand beside it, somebody who survives it holds the connection
too, and knows what to say on it.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self

from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["LastWords", "Will", "tell_connection"]

CONNECTION = "millrace.connection"
"""Where a request's scope names the transport that it came by."""


class LastWords(Protocol):
    """Somebody who survives this process."""

    def leave(self, connection: int, words: bytes) -> int | None:
        """Has `words` said on the socket `connection`, should this process die; a number for it, None if it cannot be.

        The socket is held until that is taken back, and closes for its client no sooner.
        """

    def take_back(self, number: int) -> None:
        """The process will say itself what there is to say."""


class Will:
    """What the answer to one request leaves behind: made once the first of it is sent, taken back before the last.

    Without `last_words`, or where the request's connection is not known, there is none.
    """

    __slots__ = ("_last_words", "_number", "_scope")

    def __init__(self, last_words: LastWords | None, scope: Scope) -> None:
        self._last_words = last_words
        self._scope = scope
        self._number: int | None = None

    def make(self, words: Callable[[], str]) -> None:
        """Has what `words` returns said, should this process die; making it again changes nothing."""
        if self._last_words is None or self._number is not None:
            return
        connection = connection_of(self._scope)
        if connection is not None:
            self._number = self._last_words.leave(connection, in_last_chunk(words()))

    def take_back(self) -> None:
        """The client is about to be told the end, or is gone."""
        if self._last_words is not None and self._number is not None:
            self._last_words.take_back(self._number)
            self._last_words = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.take_back()


def tell_connection(transport: Any, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> Any:
    """An application that is told what connection its requests come by."""
    scope[CONNECTION] = transport
    return app(scope, receive, send)


def connection_of(scope: Scope) -> int | None:
    """The socket of a request that is answered in chunks; None where it is not known, or answered otherwise."""
    transport = scope.get(CONNECTION)
    if transport is None or scope.get("http_version") != "1.1" or scope["method"] == "HEAD":
        return None
    connection = transport.get_extra_info("socket")
    return None if connection is None else int(connection.fileno())


def in_last_chunk(text: str) -> bytes:
    """Text as the last chunk of a body, and its end (RFC 9112, 7.1)."""
    data = text.encode()
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)
