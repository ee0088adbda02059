"""In what state a run is, as its file and its writer's lock tell."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial

from .descriptors import with_room
from .folders import Folder, identity_of
from .frames import END, footer
from .names import mark_of
from .peers import Peers
from .segments import CHUNK, Segment, State, is_forsaken, read_footer, read_frames

__all__ = ["Condition", "condition", "repair"]


@dataclass(frozen=True, slots=True)
class Condition:
    """`frames` is None where that would need reading the whole file; `last` is the end's payload."""

    state: State
    size: int
    modified: float
    frames: int | None = None
    last: bytes | None = None


@dataclass(slots=True)
class Scan:
    """What reading a whole segment shows.

    `whole` is the byte behind the last whole frame, `end` where the run's end begins (0: it has none), and `needs` how
    many bytes from `whole` on would be the next frame.
    """

    whole: int
    frames: int = 0
    end: int = 0
    needs: int = 0


def condition(segment: Segment, peers: Peers) -> Condition:
    """The state of a run, with the least reading."""
    with segment.file.using() as descriptor:
        found = os.fstat(descriptor)
        closing = read_footer(descriptor, found.st_size, segment.lock)
        if closing is None and (is_forsaken(found) or not peers.lives(segment.lock)):
            found = os.fstat(descriptor)  # nobody writes any more
            closing = read_footer(descriptor, found.st_size, segment.lock)
            if closing is None:
                seen = scan(descriptor, segment.start)
                closing = seen.frames, seen.end
        if closing is None:
            return Condition("live", found.st_size, found.st_mtime)
        frames, end = closing
        last = _read_last(descriptor, end) if end else None
    return Condition("ended" if end else "lost", found.st_size, found.st_mtime, frames, last)


def _read_last(descriptor: int, at: int) -> bytes | None:
    parsed = read_frames(descriptor, at)
    return parsed.closing if parsed.special == END and not parsed.payloads else None


def scan(descriptor: int, start: int) -> Scan:
    """Reads a segment that nobody writes any more, as far as it is whole."""
    seen = Scan(start)
    while True:
        parsed = read_frames(descriptor, seen.whole)
        seen.frames += len(parsed.payloads)
        if parsed.special == END:
            seen.frames += 1
            seen.end = seen.whole + parsed.size
            seen.whole += parsed.stop
            return seen
        seen.whole += parsed.size
        if parsed.special or not parsed.size:
            seen.needs = parsed.needs
            return seen


def repair(folder: Folder, segment: Segment) -> int:
    """Cuts the torn tail of a run whose writer is dead and closes its file; returns how many bytes were cut.

    The caller has made sure of the death. A file that is closed, read-only, or damaged before its tail stays as it
    is. The time of the last change stays too, since a run expires some time after it.
    """
    with segment.file.using() as reading:
        found = os.fstat(reading)
    if is_forsaken(found):
        return 0
    descriptor = with_room(partial(folder.open_same, segment.name, identity_of(found), append=True))
    try:
        if read_footer(descriptor, found.st_size, segment.lock) is not None:
            return 0
        seen = scan(descriptor, segment.start)
        if not _is_torn(descriptor, seen):
            return 0
        os.ftruncate(descriptor, seen.whole)
        os.write(descriptor, footer(seen.frames, seen.end, mark_of(segment.lock)))
        os.utime(descriptor, ns=(found.st_atime_ns, found.st_mtime_ns))
    finally:
        os.close(descriptor)
    return found.st_size - seen.whole


def _is_torn(descriptor: int, seen: Scan) -> bool:
    """Whether behind the last whole frame there is at most one that is not, and zeros; anything else is damage."""
    if seen.end:
        return True
    at = seen.whole + seen.needs
    while chunk := os.pread(descriptor, CHUNK, at):
        if chunk.strip(b"\0"):
            return False
        at += len(chunk)
    return True
