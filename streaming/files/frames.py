"""The bytes of a segment: a magic number, then frames of length, checksum and payload.

A frame is `word, crc, payload`: two little-endian 32-bit numbers and the payload. The low 30 bits of `word` are the
payload's length, the high 2 its kind; `crc` is the CRC-32 (that of zlib and gzip) of the four bytes of `word` and the
payload. All-zero bytes, as some file systems leave behind after a power loss, are no frame.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from zlib import crc32

from ..errors import QueueError

__all__ = [
    "DATA",
    "END",
    "FOOTER",
    "FOOTER_SIZE",
    "HEADER",
    "HEAD_SIZE",
    "LONGEST",
    "MAGIC",
    "Parsed",
    "footer",
    "frame",
    "parse",
    "parse_footer",
]

MAGIC = b"millrun\x01"
"""The first eight bytes of a segment; the last of them is the version of the format."""

DATA, HEADER, END, FOOTER = range(4)
LONGEST = 2**30 - 1
"""Bytes that the payload of one frame may have."""

_HEAD = struct.Struct("<II")
_WORD = struct.Struct("<I")
_FOOTER = struct.Struct("<QQ16s")
HEAD_SIZE = _HEAD.size
FOOTER_SIZE = HEAD_SIZE + _FOOTER.size


def frame(kind: int, payload: bytes) -> bytes:
    """The bytes of one frame.

    Raises:
        QueueError: the payload is longer than a frame can be.
    """
    size = len(payload)
    if size > LONGEST:
        raise QueueError(f"a frame of {size} bytes: {LONGEST} is the most that one can have")
    word = _WORD.pack(size | kind << 30)
    return word + _WORD.pack(crc32(payload, crc32(word))) + payload


def footer(frames: int, end: int, mark: bytes) -> bytes:
    """The bytes that close a segment: how many frames it has, and where the last one begins (0: it has no end).

    `mark` is 16 bytes that no payload has, so that none can be taken for a footer.
    """
    return frame(FOOTER, _FOOTER.pack(frames, end, mark))


def parse_footer(data: bytes, mark: bytes) -> tuple[int, int] | None:
    """What `footer` was given, read from the last bytes of a file; None when they are no footer of this mark."""
    parsed = parse(data)
    if parsed.special == FOOTER and not parsed.payloads and parsed.stop == FOOTER_SIZE:
        frames, end, found = _FOOTER.unpack(parsed.closing)
        if found == mark:
            return frames, end
    return None


@dataclass(slots=True)
class Parsed:
    """What is there: `payloads` of whole DATA frames, which take `size` bytes.

    `special` is the kind of the whole frame behind them, where there is one and it is not DATA, `closing` its payload
    and `stop` the byte behind it. `needs` bytes from `size` on would be the next frame, as far as can be seen; `fault`:
    they are there and are none.
    """

    payloads: list[bytes] = field(default_factory=list)
    size: int = 0
    special: int = DATA
    closing: bytes = b""
    stop: int = 0
    needs: int = HEAD_SIZE
    fault: bool = False


def parse(data: bytes, most: int = LONGEST) -> Parsed:
    """Reads `most` frames from the beginning of `data`, as far as they are whole, and up to one that is not DATA."""
    found = Parsed()
    at, size, unpack = 0, len(data), _HEAD.unpack_from
    take = found.payloads.append
    while size - at >= HEAD_SIZE:
        word, crc = unpack(data, at)
        stop = at + HEAD_SIZE + (word & LONGEST)
        if stop > size:
            found.needs = stop - at
            break
        payload = data[at + HEAD_SIZE : stop]
        if crc32(payload, crc32(data[at : at + 4])) != crc:
            found.needs, found.fault = stop - at, True
            break
        if word > LONGEST:
            found.special, found.closing, found.stop, found.needs = word >> 30, payload, stop, stop - at
            break
        take(payload)
        at = stop
        most -= 1
        if not most:
            break
    found.size = at
    return found
