"""Writes: an answer's head leaves in one piece with what stands behind it, where that comes at once.

Servers write one after the other, and each write is a call of the system's, a packet, and a client that wakes.
"""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["JoinedHeads"]

HEAD = b"HTTP/1.1 "


class JoinedHeads:
    """A transport that holds a head back until the next write, or the loop's next turn; in all else the given one."""

    __slots__ = ("_head", "_loop", "_transport", "_write")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._write = transport.write
        self._head: bytes | None = None

    def write(self, data: bytes) -> None:
        """As the transport's own; in order."""
        if self._head is not None:
            head, self._head = self._head, None
            self._write(head + data)
        elif data.startswith(HEAD):
            self._head = data
            self._loop.call_soon(self.flush)
        else:
            self._write(data)

    def flush(self) -> None:
        """Writes what is held back."""
        if self._head is not None:
            head, self._head = self._head, None
            self._write(head)

    def write_eof(self) -> None:
        """As the transport's own, behind what is held back."""
        self.flush()
        self._transport.write_eof()

    def close(self) -> None:
        """As the transport's own, behind what is held back."""
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
