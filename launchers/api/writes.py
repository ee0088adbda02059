"""Writes: an answer's head leaves in one piece with what stands behind it, where that comes at once.

Servers write one after the other, and each write is a call of the system's, a packet, and a client that wakes.
"""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["HeldHeads", "JoinedHeads"]

HEAD = b"HTTP/1.1 "


class HeldHeads:
    """The heads that a server's connections hold back, until the loop's next turn at most: one call for all of them."""

    __slots__ = ("_held", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._held: list[JoinedHeads] = []

    def add(self, transport: JoinedHeads) -> None:
        """Its head is to be written in the next turn, unless it has been by then."""
        if not self._held:
            self._loop.call_soon(self._flush)
        self._held.append(transport)

    def _flush(self) -> None:
        held, self._held = self._held, []
        for transport in held:
            try:
                transport.flush()
            except Exception as error:  # those of others leave all the same
                told = {"message": "the head of an answer could not be written", "exception": error}
                self._loop.call_exception_handler(told)


class JoinedHeads:
    """A transport that holds a head back until the next write, or the loop's next turn; in all else the given one."""

    __slots__ = ("_ended", "_head", "_held", "_transport", "_write", "is_closing")

    def __init__(self, transport: asyncio.Transport, held: HeldHeads) -> None:
        self._transport = transport
        self._held = held
        self._write = transport.write
        self._head: bytes | None = None
        self._ended = False
        self.is_closing = transport.is_closing  # asked for after each answer

    def write(self, data: bytes) -> None:
        """As the transport's own; in order. What comes behind the end is lost, as where the client has left."""
        if self._ended:
            return
        if self._head is not None:
            head, self._head = self._head, None
            self._write(head + data)
        elif data.startswith(HEAD):
            self._head = data
            self._held.add(self)
        else:
            self._write(data)

    def flush(self) -> None:
        """Writes what is held back, where the connection is still there."""
        if self._head is not None:
            head, self._head = self._head, None
            if not self.is_closing():
                self._write(head)

    def write_eof(self) -> None:
        """As the transport's own, behind what is held back."""
        self.flush()
        self._ended = True
        self._transport.write_eof()

    def close(self) -> None:
        """As the transport's own, behind what is held back."""
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
