"""The writing end of a segment: one run's frames, appended by the process that made it."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import QueueError, QueueFull
from .descriptors import CLOSED, OpenFile
from .folders import identity_of
from .frames import DATA, END, footer, frame
from .names import RUN, mark_of, stem
from .segments import READ_ONLY, shown
from .states import scan

if TYPE_CHECKING:
    from .sharing import SharedFolder

__all__ = ["SegmentWriter", "sync_data"]

logger = logging.getLogger("millrace.streaming")

sync_data = getattr(os, "fdatasync", os.fsync)


class SegmentWriter:
    """Appends the frames of one run; made by `FileStore.create`.

    It is closed by `end` or `abandon`; one that is dropped unclosed is abandoned soon after. `descriptor` is that of
    the file, which has `start` bytes of header so far and may have `most` in all.
    """

    def __init__(
        self, shared: SharedFolder, header: dict[str, Any], descriptor: int, start: int, most: int, sync: bool
    ) -> None:
        self.run_id: str = header["run_id"]
        self._mark = mark_of(header["lock"])
        self._shared = shared
        identity = identity_of(os.fstat(descriptor))
        again = partial(shared.folder.open_same, stem(self.run_id) + RUN, identity, append=True)
        self._file = OpenFile(again, descriptor)
        self._start = start
        self._written = start, 0
        self._most = most
        self._sync = sync
        self._closed: str | None = None
        self._cancelled: str | None = None
        self._on_cancel: Callable[[str], None] | None = None
        self._cancel_lock = threading.Lock()

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._written[0]

    @property
    def frames(self) -> int:
        """How many frames there are."""
        return self._written[1]

    def append(self, payload: bytes) -> None:
        """Writes one frame, whole and at once; from any thread.

        Raises:
            QueueFull: the run has reached the store's `max_bytes`.
            QueueError: it is closed, or the system could not write; the frames before stay whole.
        """
        data = frame(DATA, payload)
        file = self._file
        with file.lock:
            size, frames = self._written
            size += len(data)
            if size > self._most:
                raise QueueFull(
                    f"run {shown(self.run_id)} has {self.size} bytes, and its queue holds {self._most}: "
                    "raise max_bytes, or say less"
                )
            self._write(file, data)
            self._written = size, frames + 1

    def end(self, payload: bytes) -> None:
        """Writes the last frame and closes; it may go beyond `max_bytes`. Raises QueueError as `append` does."""
        last = frame(END, payload)
        with self._file.lock:
            self._count_again()
            size, frames = self._written
            self._write(self._file, last + footer(frames + 1, size, self._mark))
            if not os.fstat(self._file.descriptor).st_nlink:
                logger.warning("the file of run %s was removed while it was written", shown(self.run_id))
            self._written = size + len(last), frames + 1
        self._close("it has ended")

    def abandon(self) -> None:
        """Closes without a last frame: readers get what there is, and then know that the run is lost.

        Where the disk is full, the file is made read-only, which says the same.
        """
        if self._closed is not None:
            return
        file = self._file
        try:
            with file.lock:
                self._count_again()
                self._write(file, footer(self.frames, 0, self._mark))
        except QueueError as error:
            logger.warning("run %s is abandoned: %s", shown(self.run_id), error)
            self._forsake()
        self._close("it was abandoned")

    def _forsake(self) -> None:
        try:
            with self._file.using() as descriptor:
                os.fchmod(descriptor, READ_ONLY)
        except (OSError, QueueError) as error:
            logger.warning("readers of run %s cannot be told of it: %s", shown(self.run_id), error)

    # ------------------------------------------------------------ cancelling

    @property
    def on_cancel(self) -> Callable[[str], None] | None:
        """Called once, with the reason, when the run is cancelled through the store; from the watcher's thread.

        Set late, it is called at once when the cancel has come already.
        """
        return self._on_cancel

    @on_cancel.setter
    def on_cancel(self, call: Callable[[str], None] | None) -> None:
        with self._cancel_lock:
            self._on_cancel = call
            reason = self._cancelled
        if call is not None and reason is not None:
            call(reason)

    def cancel(self, reason: str) -> None:
        """Tells the run, the first time."""
        with self._cancel_lock:
            if self._cancelled is not None or self._closed is not None:
                return
            self._cancelled = reason
            call = self._on_cancel
        if call is not None:
            call(reason)

    # ------------------------------------------------------------ the file

    def _write(self, file: OpenFile, data: bytes) -> None:
        file.used = True
        try:
            held = file.held
            descriptor = held[0] if held else self._reopen()
            written = os.write(descriptor, data)
            while written < len(data):
                written += os.write(descriptor, data[written:])
            if self._sync:
                sync_data(descriptor)
        except OSError as error:
            self._mend()
            raise QueueError(f"run {shown(self.run_id)} could not be written: {error.strerror}") from error

    def _reopen(self) -> int:
        if self._closed is not None:
            self._refuse()
        return self._file.reopen()

    def _refuse(self) -> int:
        raise QueueError(f"nothing can be added to run {shown(self.run_id)}: {self._closed}")

    def _count_again(self) -> None:
        """A write that a signal's handler interrupted may have been done all the same."""
        descriptor = self._file.descriptor
        if descriptor != CLOSED and os.fstat(descriptor).st_size != self.size:
            self._mend()

    def _mend(self) -> None:
        """Takes back a frame that did not become whole, and counts the others."""
        descriptor = self._file.descriptor
        if descriptor == CLOSED:
            return
        try:
            seen = scan(descriptor, self._start)
            os.ftruncate(descriptor, seen.whole)
            self._written = seen.whole, seen.frames
        except OSError as error:
            logger.warning("the file of run %s cannot be mended: %s", shown(self.run_id), error)
            self._closed = "a write to its file failed"

    def _close(self, why: str) -> None:
        self._closed = why
        self._file.close()
        self._shared.leave(self.run_id)

    def disown(self) -> None:
        """In a forked child: the run stays the parent's."""
        self._closed = "it belongs to the process that this one was forked from; start workers with spawn"
        self._file = OpenFile(self._refuse)
        self._cancel_lock = threading.Lock()

    def __del__(self) -> None:  # it may run anywhere, so it takes no lock
        if getattr(self, "_closed", "") is None:
            self._shared.dropped.append(self)
