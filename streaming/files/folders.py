"""The one directory that a store touches: its files are opened, made and removed here, and no link is followed."""

from __future__ import annotations

import errno
import os
import stat
from weakref import finalize

from ..errors import QueueError
from .descriptors import with_room

__all__ = ["Folder", "identity_of"]

_READ = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_WRITE = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_CREATE = _WRITE | os.O_CREAT | os.O_EXCL

FILE_MODE, FOLDER_MODE = 0o600, 0o700


def identity_of(found: os.stat_result) -> tuple[int, int]:
    """Which file it is, whatever its name."""
    return found.st_dev, found.st_ino


class Folder:
    """A directory, held by its descriptor: renaming it, or putting a link in its place, leads nowhere else.

    It is made (0700) when it is not there, with those above it, unless `make` is false. `root` is its real path.
    Names are names of files in it, never paths. `holds` is what it is for, in errors.

    Raises:
        QueueError: it is no directory, or not there, or belongs to somebody else, or others may write in it.
    """

    def __init__(self, root: str, make: bool = True, holds: str = "runs") -> None:
        self.root = root
        self.holds = holds
        try:
            if make:
                os.makedirs(os.path.dirname(root), FOLDER_MODE, exist_ok=True)
                try:
                    os.mkdir(root, FOLDER_MODE)
                except FileExistsError:
                    pass
            self.descriptor = os.open(root, _READ | os.O_DIRECTORY)
        except OSError as error:
            raise QueueError(
                f"{root} cannot hold {holds}: {error.strerror}; name a directory of your own"
            ) from None
        finalize(self, os.close, self.descriptor).atexit = False
        found = os.fstat(self.descriptor)
        self.identity = identity_of(found)
        if found.st_uid != os.geteuid():
            raise QueueError(f"{root} belongs to another user; name a directory of your own for {holds}")
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            mode = stat.S_IMODE(found.st_mode)
            shared = f"name a directory in it, such as {root.rstrip('/')}/{holds}"  # /tmp is to stay as it is
            cure = shared if found.st_mode & stat.S_ISVTX else f"run: chmod 700 {root}"
            raise QueueError(f"{root} may be written by others (its mode is {mode:04o}); {cure}")

    def is_there(self) -> bool:
        """Whether the directory still stands where it was found."""
        try:
            found = os.stat(self.root)
        except OSError:
            return False
        return identity_of(found) == self.identity

    def path(self, name: str) -> str:
        """The path of a file, for those who watch it; it is not to be opened."""
        return f"{self.root}/{name}"

    def open_to_read(self, name: str) -> int:
        """A descriptor to read from.

        Raises:
            FileNotFoundError: there is no such file.
            QueueError: it is no plain file.
        """
        return self._open(name, _READ)

    def open_to_append(self, name: str) -> int:
        """As `open_to_read`; what is written goes to the end."""
        return self._open(name, _WRITE)

    def create(self, name: str) -> int:
        """A new file (0600), open to append.

        Raises:
            FileExistsError: something has this name.
        """
        return os.open(name, _CREATE, FILE_MODE, dir_fd=self.descriptor)

    def open_or_create(self, name: str) -> int:
        """As `open_to_append`; an empty file (0600) where there is none."""
        return self._open(name, _WRITE | os.O_CREAT)

    def write(self, name: str, content: bytes) -> None:
        """Writes a file (0600) that appears whole, in place of what has this name."""
        new = f"{name}.{os.urandom(4).hex()}.new"
        try:
            with open(self.create(new), "wb") as file:
                file.write(content)
            os.replace(new, name, src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)
        except BaseException:
            self.remove(new)
            raise

    def stat(self, name: str) -> os.stat_result:
        """What stands under a name, a link being a link."""
        return os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)

    def has(self, name: str) -> bool:
        """Whether anything has this name."""
        try:
            self.stat(name)
        except FileNotFoundError:
            return False
        return True

    def touch(self, name: str) -> None:
        """Has a file say that it was changed now; an empty one (0600) where there is none."""
        descriptor = with_room(lambda: self.open_or_create(name))
        try:
            os.utime(descriptor)
        finally:
            os.close(descriptor)

    def remove(self, name: str) -> bool:
        """Removes a name, and says whether this call did it."""
        try:
            os.unlink(name, dir_fd=self.descriptor)
        except FileNotFoundError:
            return False
        return True

    def open_same(self, name: str, identity: tuple[int, int], append: bool = False) -> int:
        """As `open_to_read` or `open_to_append`, but only the file that is meant.

        Raises:
            FileNotFoundError: it was removed; what has its name now is another one.
        """
        descriptor = self._open(name, _WRITE if append else _READ)
        if identity_of(os.fstat(descriptor)) != identity:
            os.close(descriptor)
            raise FileNotFoundError(errno.ENOENT, "it was removed", name)
        return descriptor

    def names(self) -> list[str]:
        """What is in the directory."""
        descriptor = os.open(
            ".", _READ | os.O_DIRECTORY, dir_fd=self.descriptor
        )  # with a position of its own
        try:
            return os.listdir(descriptor)
        finally:
            os.close(descriptor)

    def sync(self) -> None:
        """Makes new names survive a loss of power."""
        os.fsync(self.descriptor)

    def _open(self, name: str, flags: int) -> int:
        try:
            descriptor = os.open(name, flags, FILE_MODE, dir_fd=self.descriptor)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EMLINK):
                raise QueueError(self._planted(name, "a symbolic link")) from None
            if error.errno in (errno.EISDIR, errno.ENXIO):
                raise QueueError(self._planted(name, "no plain file")) from None
            raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise QueueError(self._planted(name, "no plain file"))
        return descriptor

    def _planted(self, name: str, what: str) -> str:
        return f"{self.path(name)} is {what}, which nobody leaves among {self.holds}; it was not touched, remove it"
