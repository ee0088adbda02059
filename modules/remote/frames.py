"""Frames: the data of server-sent events, out of bytes that are cut anywhere."""

from __future__ import annotations

import re

from ...streaming.errors import RemoteError

__all__ = ["FrameReader"]

LINE_END = re.compile(rb"\r\n|\n|\r")
LONGEST = 4 * 1024 * 1024
"""Bytes that may come without the end of a frame."""


class FrameReader:
    """Takes the bytes of an event stream as they come and gives the data of each event that is complete.

    By the HTML standard, 9.2.6 "Interpreting an event stream": lines end in LF, CRLF or CR, several `data` lines
    of an event are joined by a newline, comments and other fields are skipped, and an event that the end of the
    stream cuts off is dropped.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0
        self._first = True

    def feed(self, received: bytes) -> list[str]:
        """The data of the events that these bytes complete.

        Raises:
            RemoteError: a frame has no end.
        """
        text = self._rest + received
        if self._first and len(text) >= 3:
            self._first = False
            text = text.removeprefix(b"\xef\xbb\xbf")
        whole = len(text) - 1 if text.endswith(b"\r") else len(text)  # an LF may belong to it
        found, start = [], 0
        for end in LINE_END.finditer(text, 0, whole):
            line, start = text[start : end.start()], end.end()
            if line:
                self._take(line)
            elif self._data:
                found.append(b"\n".join(self._data).decode("utf-8", "replace"))
                self._data, self._size = [], 0
        self._rest = text[start:]
        if len(self._rest) + self._size > LONGEST:
            raise RemoteError(
                f"the server sent {LONGEST} bytes without the end of an event; is it one that streams?"
            )
        return [data for data in found if data]

    def _take(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
            self._size += len(value)
