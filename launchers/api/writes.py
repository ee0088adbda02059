"""Writes: what is written in one turn of the event loop leaves in one piece, an answer's head with its body.

Servers write them one after the other, and each write is a call of the system's, a packet, and a client that wakes.
"""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["JoinedWrites"]

LARGEST = 16 * 1024
"""Bytes from which on nothing is held back: joining them costs more than it saves, and the transport must know how
much waits for a slow client.
"""


class JoinedWrites:
    """A transport that holds small writes back until the loop's next turn, and is the given one in all else."""

    __slots__ = ("_held", "_loop", "_size", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        """As the transport's own; in order."""
        if not self._held:
            self._loop.call_soon(self.flush)
        self._held.append(data)
        self._size += len(data)
        if self._size >= LARGEST:
            self.flush()

    def flush(self) -> None:
        """Writes what is held back."""
        if self._held:
            held, self._held, self._size = self._held, [], 0
            self._transport.write(held[0] if len(held) == 1 else b"".join(held))

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
