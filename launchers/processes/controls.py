"""Controls: a worker's end of the pair to its supervisor."""

from __future__ import annotations

import json
import select
import socket
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["GONE", "Control"]

MENTIONED = 64 * 1024
"""Bytes that are told at most without being asked for."""

GONE = {"say": "gone"}
"""What is heard when there is no supervisor any more."""


class Control:
    """Hears the supervisor in a thread of its own, whatever the worker is busy with."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._lines = end.makefile("rb")
        self._lock = threading.Lock()

    def first(self) -> dict[str, Any]:
        """Waits for what the supervisor says first."""
        return self._next()

    def listen(self, hear: Callable[[dict[str, Any]], None]) -> None:
        """From now on calls `hear` with all that the supervisor says, at last with GONE, in a thread of its own."""
        threading.Thread(target=self._listen, args=(hear,), name="millrace-control", daemon=True).start()

    def say(self, word: str, **more: Any) -> None:
        """Tells the supervisor; what is said to one that is gone is lost."""
        self._send(_line(word, more))

    def _send(self, line: bytes) -> None:
        with self._lock:
            try:
                self._socket.sendall(line)
            except OSError:
                pass

    def mention(self, word: str, **more: Any) -> bool:
        """As `say`, where that need not wait: the supervisor may be stopped, and not read. True: it has been told.

        A socket that can be written to has room for MENTIONED bytes.
        """
        line = _line(word, more)
        room = select.poll()
        room.register(self._socket, select.POLLOUT)
        if len(line) > MENTIONED or not room.poll(0):
            return False
        self._send(line)
        return True

    def _listen(self, hear: Callable[[dict[str, Any]], None]) -> None:
        while (said := self._next()) is not GONE:
            hear(said)
        hear(GONE)

    def _next(self) -> dict[str, Any]:
        try:
            line = self._lines.readline()
            said: dict[str, Any] = json.loads(line) if line.endswith(b"\n") else GONE
        except OSError:
            return GONE
        return said


def _line(word: str, more: dict[str, Any]) -> bytes:
    return json.dumps({"say": word, **more}).encode() + b"\n"
