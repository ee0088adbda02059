"""Pipe: frames of JSON over a socket pair; a frame is its length in 4 bytes (big endian), then UTF-8."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

__all__ = ["Pipe"]

HEAD = struct.Struct(">I")
MOST = 1 << 30
"""Bytes in a frame at most."""


class Pipe:
    """One end. `send` never waits: a thread of its own writes; `frames` is for one reading thread."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._file = end.makefile("rb")
        self._changed = threading.Condition()
        self._waiting: deque[bytes] = deque()
        self._writing = False
        self._closed = False
        self._thread = threading.Thread(target=self._write, name="millrace-pipe", daemon=True)
        self._thread.start()

    def send(self, frame: dict[str, Any]) -> None:
        """Sends a frame after those before it; what is sent to an end that is gone is lost."""
        data = json.dumps(frame, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
        with self._changed:
            self._waiting.append(HEAD.pack(len(data)) + data)
            self._changed.notify_all()

    def frames(self) -> Iterator[dict[str, Any]]:
        """The frames of the other end, until it is gone."""
        try:
            while len(head := self._file.read(HEAD.size)) == HEAD.size:
                (length,) = HEAD.unpack(head)
                data = self._file.read(length) if length <= MOST else b""
                if len(data) < length:
                    return
                yield json.loads(data.decode("utf-8", "surrogatepass"))
        except (OSError, ValueError):  # reset, or closed while we read
            return

    def flush(self, timeout: float) -> None:
        """Waits until everything has been written, `timeout` seconds at most."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not (self._waiting or self._writing), timeout)

    def close(self) -> None:
        """Ends both directions; what has not been written is lost."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the other end is gone
        if threading.current_thread() is not self._thread:
            self._thread.join(5)

    def dispose(self) -> None:
        """Gives the descriptor back; for the thread that reads, when it is through."""
        self._file.close()
        self._socket.close()

    def _write(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                data = b"".join(self._waiting)
                self._waiting.clear()
                self._writing = True
            try:
                self._socket.sendall(data)
            except OSError:
                with self._changed:
                    self._closed = True
                    self._changed.notify_all()
                return
