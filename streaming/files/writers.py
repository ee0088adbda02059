"""The writing end of a segment: one run's frames, appended by the process that made it."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import QueueError, QueueFull
from .descriptors import CLOSED, OpenFile
from .frames import DATA, END, footer, frame

if TYPE_CHECKING:
    from .sharing import SharedFolder

__all__ = ["SegmentWriter"]

logger = logging.getLogger("millrace.streaming")


class SegmentWriter:
    """Appends the frames of one run. `frames` and `size` (bytes) say how much there is.

    It is closed by `end` or `abandon`; one that is dropped unclosed abandons its run.
    """

    def __init__(
        self, shared: SharedFolder, run_id: str, file: OpenFile, size: int, most: int, sync: bool
    ) -> None:
        self.run_id = run_id
        self.frames = 0
        self.size = size
        self._shared = shared
        self._file = file
        self._most = most
        self._sync = sync
        self._closed: str | None = None
        self._cancelled: str | None = None
        self._on_cancel: Callable[[str], None] | None = None
        self._cancel_lock = threading.Lock()

    def append(self, payload: bytes) -> None:
        """Writes one frame, at once and whole; by one thread at a time.

        Raises:
            QueueFull: the run has reached the store's `max_bytes`.
            QueueError: it was closed, or the system could not write; the frames before stay whole.
        """
        data = frame(DATA, payload)
        file = self._file
        with file.lock:
            if self.size + len(data) > self._most:
                raise QueueFull(
                    f"run {self.run_id!r} has written {self.size} bytes, and its store holds {self._most}; "
                    "raise max_bytes, or say less"
                )
            self._write(file, data)
            self.frames += 1

    def end(self, payload: bytes) -> None:
        """Writes the last frame and closes; it may go beyond `max_bytes`."""
        data = frame(END, payload)
        with self._file.lock:
            self._write(self._file, data + footer(self.frames + 1, self.size))
            self.frames += 1
        self._close("it has ended")

    def abandon(self) -> None:
        """Closes without a last frame: readers get what there is, and then know that the run is lost."""
        if self._closed is not None:
            return
        try:
            with self._file.lock:
                self._write(self._file, footer(self.frames, 0))
        except QueueError as error:
            logger.warning("run %r was abandoned without a word of it in its file: %s", self.run_id, error)
        self._close("it was abandoned")

    @property
    def on_cancel(self) -> Callable[[str], None] | None:
        """Called once with the reason when anybody cancels the run through the store, from the watcher's thread.

        Set late, it is called at once where the cancel has come already.
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
        """Tells the run; only the first time."""
        with self._cancel_lock:
            if self._cancelled is not None or self._closed is not None:
                return
            self._cancelled = reason
            call = self._on_cancel
        if call is not None:
            call(reason)

    def disown(self) -> None:
        """In a forked child: the run stays the parent's."""
        self._closed = "it belongs to the process that this one was forked from; start workers with spawn"
        self._file = OpenFile(self._refuse)
        self._cancel_lock = threading.Lock()

    def _write(self, file: OpenFile, data: bytes) -> None:
        descriptor = file.descriptor
        file.used = True
        try:
            if descriptor == CLOSED:
                descriptor = self._reopen(file)
            written = os.write(descriptor, data)
            while written < len(data):
                written += os.write(descriptor, data[written:])
            if self._sync:
                os.fdatasync(descriptor)
        except OSError as error:
            self._cut(descriptor)
            raise QueueError(f"run {self.run_id!r} could not be written: {error.strerror}") from error
        self.size += len(data)

    def _reopen(self, file: OpenFile) -> int:
        if self._closed is not None:
            self._refuse()
        return file.reopen()

    def _refuse(self) -> int:
        raise QueueError(f"nothing can be added to run {self.run_id!r}: {self._closed}")

    def _cut(self, descriptor: int) -> None:
        """Takes back what was written of a frame that did not become whole."""
        try:
            if descriptor != CLOSED:
                os.ftruncate(descriptor, self.size)
        except OSError as error:
            self._closed = f"its file cannot be mended ({error.strerror})"
            self._file.shut()

    def _close(self, why: str) -> None:
        self._closed = why
        self._file.close()
        self._shared.leave(self.run_id)

    def __del__(self) -> None:
        if getattr(self, "_closed", "") is None:
            self.abandon()
