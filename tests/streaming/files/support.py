"""Segments made and read by hand, as docs/streaming/files.md describes them, and waiting readers."""

from __future__ import annotations

import json
import os
import struct
import threading
import zlib
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from time import monotonic

from millrace.streaming.files import SegmentReader
from tests.support.leaks import eventually

DATA, HEADER, END, FOOTER = range(4)
LOCK = "00112233445566778899aabbccddeeff.lock"
"""A lock that nobody holds: what is written under it has a dead writer."""

MARK = bytes.fromhex(LOCK[:32])
GRACE = 1.0
"""Seconds within which a waiting reader knows that the writer died."""


def frame(kind: int, payload: bytes) -> bytes:
    word = struct.pack("<I", len(payload) | kind << 30)
    return word + struct.pack("<I", zlib.crc32(word + payload)) + payload


def file_of(root: Path | str, run_id: str, ending: str = ".run") -> Path:
    return Path(root) / (sha256(run_id.encode()).hexdigest() + ending)


def start_of(run_id: str, lock: str = LOCK, ttl: float = 3600.0) -> bytes:
    """Magic number and header."""
    header = {"run_id": run_id, "lock": lock, "pid": 1, "created": 1.0, "ttl": ttl}
    return b"millrun\x01" + frame(HEADER, json.dumps(header).encode())


def segment(run_id: str, payloads: list[bytes], end: bytes | None = None, lock: str = LOCK) -> bytes:
    """A whole segment, closed where it has an end."""
    data = start_of(run_id, lock) + b"".join(frame(DATA, payload) for payload in payloads)
    if end is not None:
        at = len(data)
        data += frame(END, end) + frame(FOOTER, struct.pack("<QQ", len(payloads) + 1, at) + MARK)
    return data


@dataclass
class Whole:
    """What the whole frames of a segment are; `at` is the byte behind them, the footer aside."""

    payloads: list[bytes]
    ended: bool
    closed: bool
    at: int


def whole(data: bytes) -> Whole:
    """Reads a segment up to the first frame that is not whole."""
    found = Whole([], False, False, 8)
    at = 8
    while len(data) - at >= 8:
        word, crc = struct.unpack_from("<II", data, at)
        payload = data[at + 8 : at + 8 + (word & 2**30 - 1)]
        if len(payload) < word & 2**30 - 1 or zlib.crc32(data[at : at + 4] + payload) != crc:
            break
        at += 8 + len(payload)
        if word >> 30 == FOOTER:
            found.closed = True
            break
        found.at = at
        if word >> 30 != HEADER:
            found.payloads.append(payload)
            found.ended = word >> 30 == END
    return found


def read_to_end(reader: SegmentReader, timeout: float = 30.0) -> list[bytes]:
    """Waits for frame after frame until the run has ended or is lost."""
    there, found, deadline = threading.Event(), [], monotonic() + timeout
    unwatch = reader.watch(there.set)
    try:
        while not (reader.ended or reader.lost):
            frames = reader.take()
            found += frames
            if not frames and not (reader.ended or reader.lost):
                assert there.wait(deadline - monotonic()), f"nothing more within {timeout} s"
                there.clear()
    finally:
        unwatch()
    return found


def read_what_is_there(reader: SegmentReader) -> list[bytes]:
    """All that can be taken without waiting."""
    found = []
    while frames := reader.take():
        found += frames
    return found


def swept_already() -> None:
    """Waits for the sweep that comes by itself with a process's first run; the next one is half a minute away."""
    eventually(lambda: not any(thread.name == "millrace-files-sweep" for thread in threading.enumerate()))


def mode_of(path: Path | str) -> int:
    return os.lstat(path).st_mode & 0o7777


def age(path: Path, seconds: float) -> None:
    """Makes a file look as if it was last changed so long ago."""
    found = path.stat()
    os.utime(path, (found.st_atime - seconds, found.st_mtime - seconds))
