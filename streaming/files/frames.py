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
_COUNTS = struct.Struct("<QQ")
HEAD_SIZE = _HEAD.size
FOOTER_SIZE = HEAD_SIZE + _COUNTS.size


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


def footer(frames: int, last: int) -> bytes:
    """The bytes that close a segment: how many frames it has, and where the last one begins (0: it has no end)."""
    return frame(FOOTER, _COUNTS.pack(frames, last))


def parse_footer(data: bytes) -> tuple[int, int] | None:
    """What `footer` was given, read from a file's last bytes; None when they are no footer."""
    parsed = parse(data[-FOOTER_SIZE:])
    if parsed.special == FOOTER and parsed.size == FOOTER_SIZE:
        frames, last = _COUNTS.unpack(parsed.payloads[0])
        return frames, last
    return None


@dataclass(slots=True)
class Parsed:
    """What is there: `payloads` of the whole frames, which take `size` bytes.

    `special` is the kind of the last of them where that is not DATA: nothing is read beyond it. `needs` bytes from
    `size` on would be one frame more, as far as can be seen; `fault` says why they are none although they are there.
    """

    payloads: list[bytes] = field(default_factory=list)
    size: int = 0
    special: int = DATA
    needs: int = HEAD_SIZE
    fault: str | None = None


def parse(data: bytes, most: int = LONGEST) -> Parsed:
    """Reads frames from the beginning of `data`: those that are whole, `most` of them, up to one that is not DATA."""
    found = Parsed()
    at, size, unpack = 0, len(data), _HEAD.unpack_from
    take = found.payloads.append
    while size - at >= HEAD_SIZE:
        word, crc = unpack(data, at)
        start = at + HEAD_SIZE
        stop = start + (word & LONGEST)
        if stop > size:
            found.needs = stop - at
            break
        payload = data[start:stop]
        if crc32(payload, crc32(data[at : at + 4])) != crc:
            found.needs, found.fault = stop - at, "its checksum is wrong"
            break
        take(payload)
        at = stop
        if kind := word >> 30:
            found.special = kind
            break
        most -= 1
        if not most:
            break
    found.size = at
    return found
