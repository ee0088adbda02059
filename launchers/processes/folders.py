"""Folders: the runs' directory of a service of several processes, for as long as one of these is there."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import ExitStack
from types import TracebackType
from typing import Self

__all__ = ["Folder", "Lodger"]


class Folder:
    """A new directory that is this user's alone, and is removed with the block; `path` is where it is."""

    def __enter__(self) -> Self:
        self.path = tempfile.mkdtemp(prefix="millrace-")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


class Lodger:
    """A worker that uses a Folder: where the supervisor is gone, the last of them clears it away.

    Each holds a shared lock on the directory; whoever can have it alone at its end is the last.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def leave(self, orphaned: bool) -> None:
        """Gives the lock back; what the supervisor would have removed is removed, where there is none any more."""
        with ExitStack() as stack:
            stack.callback(os.close, self._descriptor)
            if orphaned:
                try:
                    fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:  # somebody else is still in there
                    return
                shutil.rmtree(self._path, ignore_errors=True)
