"""The reading end of a segment: frames in order, while they are written and after."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import EventsExpired, QueueError
from .frames import END, FOOTER, HEADER, LONGEST, Parsed
from .segments import Segment, read_footer, read_frames, shown

if TYPE_CHECKING:
    from .sharing import SharedFolder

__all__ = ["SegmentReader"]


class SegmentReader:
    """Reads the frames of one run after a number; one of any number of readers, and disturbs nobody.

    `number` is that of the last frame taken. `ended`: that was the run's last. `lost`: the writer died or gave up
    before the run's end, and all whole frames have been taken.
    """

    def __init__(self, shared: SharedFolder, run_id: str, segment: Segment) -> None:
        self.run_id = run_id
        self.number = 0
        self.ended = False
        self.lost = False
        self._shared = shared
        self._segment = segment
        self._at = self._seen = segment.start
        self._fault: str | None = None
        self._told = False
        self._unwatch: Callable[[], None] | None = None

    def take(self) -> list[bytes]:
        """The payloads of the next frames that are there, about 256 KiB at most; maybe none. Never waits.

        Raises:
            QueueError: the file is damaged here; every frame before was given.
            EventsExpired: the run expired while it was read.
        """
        self._told = False
        found = self._next()
        if not found and not self._over() and not self._shared.peers.lives(self._segment.lock):
            found = self._next()  # what it wrote before it died
            self.lost = not found and not self._over()
        if self._fault is not None and not found:
            raise QueueError(self._fault)
        return found

    def skip(self, count: int) -> None:
        """Passes over the next `count` frames.

        Raises:
            EventsExpired: there are not so many.
        """
        while self.number < count:
            most, before = count - self.number, self.number
            self._next(most)
            if self.number == before:
                raise EventsExpired(f"after={count}: run {shown(self.run_id)} has {before} frames so far")

    def _over(self) -> bool:
        return self.ended or self.lost or self._fault is not None

    def _next(self, most: int = LONGEST) -> list[bytes]:
        if self._over():
            return []
        with self._segment.file.using() as descriptor:
            parsed = self._parsed(descriptor, most)
            if not parsed.payloads and self._seen > self._at:
                parsed = self._look_closer(descriptor, parsed, most)
        self._at += parsed.size
        if parsed.special == FOOTER:
            parsed.payloads.pop()
            self.lost = True
        self.ended = parsed.special == END
        self.number += len(parsed.payloads)
        return parsed.payloads

    def _parsed(self, descriptor: int, most: int) -> Parsed:
        self._seen = os.fstat(descriptor).st_size
        return read_frames(descriptor, self._at, most)

    def _look_closer(self, descriptor: int, parsed: Parsed, most: int) -> Parsed:
        """Bytes that are no frame: still being written, torn by the writer's death, or damaged?"""
        size = os.fstat(descriptor).st_size
        if read_footer(descriptor, size) is not None:
            parsed = self._parsed(descriptor, most)  # it may have been closed since
            damaged = not parsed.payloads
        else:
            behind = size - self._at - parsed.needs
            damaged = parsed.fault is not None and behind > 0 and self._shared.peers.lives(self._segment.lock)
        if damaged or parsed.special == HEADER:
            self._fault = (
                f"the file of run {shown(self.run_id)} is damaged at byte {self._at}, behind frame {self.number}: "
                f"{self._segment.path}; what stands behind that is not read"
            )
        return parsed

    def watch(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls `callback` whenever there may be something to take, from the watcher's thread.

        It is called once for all that comes until the next `take`, and sometimes for nothing. What is returned ends
        that; one callback at a time.
        """
        self.unwatch()

        def tell() -> None:
            if not self._told:
                self._told = True
                callback()

        self._told = False
        self._unwatch = self._shared.follow(self._segment, tell)
        if self._more():
            self._shared.watcher.soon(tell)
        return self.unwatch

    def unwatch(self) -> None:
        unwatch, self._unwatch = self._unwatch, None
        if unwatch is not None:
            unwatch()

    def close(self) -> None:
        """Gives the file back; reading on opens it again."""
        self.unwatch()
        self._segment.file.close()

    def _more(self) -> bool:
        """Whether a `take` would find something new."""
        if self._over():
            return True
        with self._segment.file.using() as descriptor:
            if os.fstat(descriptor).st_size != self._seen:
                return True
        return not self._shared.peers.lives(self._segment.lock)
