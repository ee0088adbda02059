"""Who lives: each process that writes holds one lock, and the system lets go of it when the process dies.

The lock is a whole-file `flock`, taken through filelock, which never falls back to anything weaker here. Others look
at it by trying a shared one, so that those who look do not disturb each other.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass

from ..errors import QueueError
from .descriptors import with_room
from .folders import Folder
from .names import lock_name, mail_name

__all__ = ["WriterLock", "is_held"]


@dataclass(frozen=True, slots=True)
class WriterLock:
    """The lock of this process on a store; `name` stands in the header of each segment it writes."""

    folder: Folder
    name: str
    descriptor: int

    @classmethod
    def take(cls, folder: Folder) -> WriterLock:
        """Makes a lock that nobody has had, and holds it.

        Raises:
            QueueError: the file system knows no locks, or does not heed them.
            OSError: nothing can be made in the directory.
        """
        from filelock import lock_descriptor

        name = lock_name()
        descriptor = with_room(lambda: folder.create(name))
        lock = cls(folder, name, descriptor)
        try:
            fault = None if lock_descriptor(descriptor, blocking=False) else "a new lock was held already"
            if fault is None and not is_held(folder, name):
                fault = "a lock that is held can be taken again"
        except OSError as error:
            fault = error.strerror
        if fault is not None:
            lock.drop()
            raise QueueError(
                f"{folder.root} is on a file system without working locks ({fault}), so that nobody could tell "
                "a dead writer from a slow one; use a directory on a local disk"
            )
        try:
            os.close(with_room(lambda: folder.create(mail_name(name))))
        except OSError:
            lock.drop()
            raise
        return lock

    def drop(self) -> None:
        """Lets go of the lock and removes it, with its mailbox."""
        self.folder.remove(mail_name(self.name))
        self.folder.remove(self.name)
        os.close(self.descriptor)

    def disown(self) -> None:
        """In a forked child: the lock stays the parent's, and ends with it."""
        os.close(self.descriptor)


def is_held(folder: Folder, name: str) -> bool:
    """Whether the writer of this lock lives. A lock that is gone is held by nobody."""
    try:
        descriptor = with_room(lambda: folder.open_to_read(name))
    except (FileNotFoundError, QueueError):
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # file systems differ in how they say that it is held
        return True
    finally:
        os.close(descriptor)
    return False
