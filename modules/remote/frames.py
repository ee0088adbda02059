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
    stream cuts off is dropped. `longest` is how many bytes may come without the end of an event.
    """

    def __init__(self, longest: int | None = None) -> None:
        self._longest = LONGEST if longest is None else longest
        self._rest: list[bytes] = []
        self._held = 0
        self._data: list[bytes] = []
        self._size = 0
        self._first = True

    def feed(self, received: bytes) -> list[str]:
        """The data of the events that these bytes complete.

        Raises:
            RemoteError: a frame has no end.
        """
        pending = self._first or (bool(self._rest) and self._rest[-1].endswith(b"\r"))
        self._rest.append(received)
        self._held += len(received)
        ended = pending or b"\n" in received or b"\r" in received
        found = (
            self._cut(b"".join(self._rest)) if ended else []
        )  # a long line is looked at once, when it is whole
        if self._held + self._size > self._longest:
            raise RemoteError(
                f"the server sent {self._longest} bytes without the end of an event; is it one that streams?"
            )
        return [data for data in found if data]

    def _cut(self, text: bytes) -> list[str]:
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
        rest = text[start:]
        self._rest, self._held = [rest] if rest else [], len(rest)
        return found

    def _take(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
            self._size += len(value)
