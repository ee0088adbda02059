"""A segment to read from: its header, and the file behind it."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from ..errors import EventsExpired, QueueError
from .descriptors import OpenFile, with_room
from .folders import Folder, identity_of
from .frames import FOOTER_SIZE, HEAD_SIZE, HEADER, LONGEST, MAGIC, Parsed, frame, parse, parse_footer
from .names import RUN, is_lock_name, mark_of
from .names import stem as stem_of

__all__ = [
    "CHUNK",
    "READ_ONLY",
    "RESERVED",
    "Segment",
    "State",
    "encode_header",
    "is_forsaken",
    "read_footer",
    "read_frames",
    "shown",
]

State = Literal["live", "ended", "lost"]

RESERVED = ("created", "lock", "pid", "run_id", "ttl")
"""What the store itself writes into each header."""

LONGEST_HEADER = 1 << 20
FIRST = 4096

READ_ONLY = 0o400
"""The mode of a file whose writer has given it up and could not write that into it."""

CHUNK = 256 * 1024
"""Bytes that are read at once."""


def shown(run_id: str) -> str:
    """A run's id in a message, shortened."""
    return repr(run_id) if len(run_id) <= 60 else f"{repr(run_id[:60])[:57]}..."


def encode_header(header: dict[str, Any]) -> bytes:
    """The first bytes of a segment.

    Raises:
        QueueError: the header is not JSON, or longer than 1 MiB.
    """
    try:
        payload = json.dumps(header, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise QueueError(f"the header of a run must be JSON: {error}") from None
    if len(payload) > LONGEST_HEADER:
        raise QueueError(f"the header of a run has {len(payload)} bytes; {LONGEST_HEADER} is the most")
    return MAGIC + frame(HEADER, payload)


def is_forsaken(found: os.stat_result) -> bool:
    """Whether the writer made the file read-only, and so has given it up."""
    return not found.st_mode & stat.S_IWUSR


def read_footer(descriptor: int, size: int, lock: str) -> tuple[int, int] | None:
    """How many frames a closed segment has, and where its end stands (0: nowhere); None for one that was not closed."""
    return parse_footer(os.pread(descriptor, FOOTER_SIZE, max(0, size - FOOTER_SIZE)), mark_of(lock))


def read_frames(descriptor: int, at: int, most: int = LONGEST) -> Parsed:
    """The frames from byte `at` on: `most` of them, about 256 KiB, or a single one that is longer."""
    parsed = parse(os.pread(descriptor, CHUNK, at), most)
    if not parsed.size and parsed.needs > CHUNK and os.fstat(descriptor).st_size >= at + parsed.needs:
        parsed = parse(os.pread(descriptor, parsed.needs, at), most)
    return parsed


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment to read from; frames begin at byte `start`."""

    name: str
    path: str
    file: OpenFile
    header: dict[str, Any]
    start: int

    @classmethod
    def open(cls, folder: Folder, stem: str) -> Segment:
        """Opens the segment of a run.

        Raises:
            FileNotFoundError: there is none, or its writer has only begun to make it.
            QueueError: it is not a segment, or that of another run.
        """
        name = stem + RUN
        descriptor = with_room(partial(folder.open_to_read, name))
        try:
            found = os.fstat(descriptor)
            header, start = _read_header(descriptor, folder.path(name))
            if _stem_of(header) != stem:
                raise QueueError(f"{folder.path(name)} is the file of another run under this name; remove it")
        except BaseException:
            os.close(descriptor)
            raise
        again = partial(_open_again, folder, name, header["run_id"], identity_of(found))
        return cls(name, folder.path(name), OpenFile(again, descriptor), header, start)

    @property
    def run_id(self) -> str:
        return str(self.header["run_id"])

    @property
    def lock(self) -> str:
        """The name of its writer's lock."""
        return str(self.header["lock"])

    @property
    def ttl(self) -> float:
        """Seconds that the run is kept after its last change."""
        return float(self.header["ttl"])


def _read_header(descriptor: int, path: str) -> tuple[dict[str, Any], int]:
    """The header, and the byte behind it."""
    data = os.pread(descriptor, FIRST, 0)
    if len(data) < len(MAGIC) and MAGIC.startswith(data):
        raise FileNotFoundError(path)
    if not data.startswith(MAGIC):
        raise QueueError(f"{path} is no segment of this format; it was not touched, remove it")
    parsed = parse(data[len(MAGIC) :])
    if parsed.special != HEADER and not parsed.fault and parsed.needs <= LONGEST_HEADER + HEAD_SIZE:
        data = os.pread(descriptor, parsed.needs, len(MAGIC))
        parsed = parse(data)
        if len(data) < parsed.needs:
            raise FileNotFoundError(path)
    header = _decoded(parsed.closing) if parsed.special == HEADER and not parsed.payloads else None
    if header is None:
        raise QueueError(f"{path} is damaged: its header cannot be read; remove it")
    return header, len(MAGIC) + parsed.stop


def _decoded(payload: bytes) -> dict[str, Any] | None:
    """A header whose own entries are what they should be."""
    try:
        header = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    if not isinstance(header, dict) or not is_lock_name(header.get("lock")):
        return None
    numbers = (header.get("created"), header.get("ttl"))
    if not all(isinstance(number, (int, float)) for number in numbers):
        return None
    return header if isinstance(header.get("run_id"), str) else None


def _stem_of(header: dict[str, Any]) -> str | None:
    return stem_of(header["run_id"]) if header["run_id"] else None


def _open_again(folder: Folder, name: str, run_id: str, identity: tuple[int, int]) -> int:
    try:
        return folder.open_same(name, identity)
    except FileNotFoundError:
        raise EventsExpired(f"run {shown(run_id)} was removed from {folder.root} while it was read") from None
