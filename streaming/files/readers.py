"""The reading end of a segment: frames in order, while they are written and after."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import EventsExpired, QueueError
from .frames import DATA, END, FOOTER, LONGEST, Parsed
from .segments import Segment, is_forsaken, read_footer, read_frames, shown

if TYPE_CHECKING:
    from .sharing import SharedFolder

__all__ = ["SegmentReader"]


class SegmentReader:
    """Reads the frames of one run; one of any number of readers, and disturbs nobody. Made by `FileStore.read`.

    `number` is that of the last frame taken. `ended`: that was the run's last. `lost`: the writer died, or gave up,
    before the run's end, and every whole frame has been taken. One thread at a time may use it.
    """

    def __init__(self, shared: SharedFolder, segment: Segment) -> None:
        self.run_id = segment.run_id
        self.number = 0
        self.ended = False
        self.lost = False
        self._shared = shared
        self._segment = segment
        self._at = self._seen = segment.start
        self._forsaken = False
        self._fault: str | None = None
        self._told = False
        self._unwatch: Callable[[], None] | None = None

    def take(self) -> list[bytes]:
        """The payloads of the next frames that are there, about 256 KiB at most; maybe none. Never waits.

        Raises:
            QueueError: the file is damaged here; every frame before was given.
            EventsExpired: the run was removed while it was read.
        """
        self._told = False
        found = self._next()
        if not found and not self._over() and not self._writer_lives():
            found = self._next()  # what it wrote before it died
            self.lost = not found and not self._over()
        if self._fault is not None and not found:
            raise QueueError(self._fault)
        return found

    def skip(self, count: int) -> None:
        """Passes over the first `count` frames.

        Raises:
            EventsExpired: there are not so many.
            QueueError: the file is damaged before that.
        """
        while self.number < count:
            if not self._next(count - self.number):
                if self._fault is not None:
                    raise QueueError(self._fault)
                raise EventsExpired(
                    f"after={count}: run {shown(self.run_id)} has {self.number} frames so far"
                )

    def watch(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls `callback` whenever there may be something to take, from the watcher's thread.

        It is called once for all that comes until the next `take`, and sometimes for nothing. What is returned ends
        that, as `unwatch` does. There is one callback at a time.
        """
        self.unwatch()

        def tell() -> None:
            if not self._told:
                self._told = True
                callback()

        self._told = False
        self._unwatch = self._shared.follow(self._segment, tell)
        if self._may_take():
            self._shared.watcher.soon(tell)
        return self.unwatch

    def unwatch(self) -> None:
        """Ends `watch`; a callback that is on its way may still come."""
        unwatch, self._unwatch = self._unwatch, None
        if unwatch is not None:
            unwatch()

    def close(self) -> None:
        """Gives the file back; reading on opens it again."""
        self.unwatch()
        self._segment.file.close()

    # ------------------------------------------------------------ the file

    def _over(self) -> bool:
        return self.ended or self.lost or self._fault is not None

    def _next(self, most: int = LONGEST) -> list[bytes]:
        if self._over():
            return []
        with self._segment.file.using() as descriptor:
            parsed = self._parsed(descriptor, most)
            if not parsed.payloads and parsed.special == DATA and self._seen > self._at:
                parsed = self._look_closer(descriptor, parsed, most)
        payloads = parsed.payloads
        self._at += parsed.size
        if parsed.special == END:
            payloads = [*payloads, parsed.closing]
            self.ended = True
        elif parsed.special == FOOTER:  # and no end before it
            self.lost = True
        elif parsed.special != DATA:
            self._is_damaged()
        self.number += len(payloads)
        return payloads

    def _parsed(self, descriptor: int, most: int) -> Parsed:
        found = os.fstat(descriptor)
        self._seen, self._forsaken = found.st_size, is_forsaken(found)
        return read_frames(descriptor, self._at, most)

    def _look_closer(self, descriptor: int, parsed: Parsed, most: int) -> Parsed:
        """Bytes that are no frame: still being written, torn by the writer's death, or damaged?"""
        size = os.fstat(descriptor).st_size
        closed = read_footer(descriptor, size, self._segment.lock) is not None
        if closed or (parsed.fault and size > self._at + parsed.needs and self._writer_lives()):
            parsed = self._parsed(descriptor, most)  # it may have changed since
            if not parsed.payloads and parsed.special == DATA and (closed or parsed.fault):
                self._is_damaged()
        return parsed

    def _is_damaged(self) -> None:
        self._fault = (
            f"the file of run {shown(self.run_id)} is damaged at byte {self._at}, behind frame {self.number}: "
            f"{self._segment.path}; what stands behind that is not read"
        )

    def _writer_lives(self) -> bool:
        return not self._forsaken and self._shared.peers.lives(self._segment.lock)

    def _may_take(self) -> bool:
        """Whether a `take` would show something new."""
        if self._over():
            return True
        with self._segment.file.using() as descriptor:
            found = os.fstat(descriptor)
        return found.st_size != self._seen or is_forsaken(found) or not self._writer_lives()
