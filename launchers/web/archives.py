"""Where conversations are kept: for each identity an archive of small files, or the same in memory.

Names are hashes, so that no name leads anywhere; files appear whole or not at all, for their owner alone.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
from collections import OrderedDict
from collections.abc import Iterator
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Protocol

from ...streaming.errors import MillraceError, QueueError
from ...streaming.files.folders import Folder

__all__ = [
    "USUAL",
    "Archive",
    "Archives",
    "FileArchives",
    "MemoryArchives",
    "Stamp",
    "open_archives",
    "usual_folder",
]

logger = logging.getLogger("millrace.chat")

Stamp = tuple[int, int]
"""What changes with a file: when it was written, in nanoseconds, and its size in bytes."""

ENDING, SECRET = ".jsonl", "secret"
SECRET_SIZE = 32
IDENTITIES = 1000
"""Identities whose conversations are kept in memory; the one longest unused goes first."""


class Archive(Protocol):
    """What one identity keeps: bytes under names."""

    def stamps(self) -> dict[str, Stamp]:
        """What is there."""
        ...

    def stamp(self, name: str) -> Stamp | None:
        """The stamp of one; None where it is not there."""
        ...

    def read(self, name: str, most: int = -1) -> bytes | None:
        """Its first `most` bytes, or all; None where it is not there, or is not to be touched."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Keeps it, in place of what had that name."""
        ...

    def remove(self, name: str) -> None:
        """Removes it, if it is there."""
        ...


class Archives(Protocol):
    """The archives of all identities, and the secret that their cookies are signed with."""

    secret: bytes

    def of(self, identity: str) -> Archive: ...


def hashed(name: str) -> str:
    """What a name is called on disk."""
    return sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def open_archives(directory: str | os.PathLike[str] | Archives | None) -> Archives:
    """Archives in a directory; in memory for None; those that are given.

    Raises:
        MillraceError: the directory cannot be had, or is not for this user alone.
    """
    if directory is None:
        return MemoryArchives()
    return FileArchives(directory) if isinstance(directory, (str, os.PathLike)) else directory


USUAL = "<usual>"
"""Stands for `usual_folder` in what a worker is told: only the worker knows the flow's name."""


def usual_folder(flow: str | None) -> Path:
    """Where the conversations with a flow of this name are kept, where nobody says otherwise."""
    data = os.environ.get("XDG_DATA_HOME", "")
    base = Path(data) if os.path.isabs(data) else Path.home() / ".local" / "share"
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", flow or "").strip(".-")[:80]
    return base / "millrace" / (name or "chat")


# ---------------------------------------------------------------- in memory


class MemoryArchive:
    """Ends with the process."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[Stamp, bytes]] = {}
        self._time = count(1)

    def stamps(self) -> dict[str, Stamp]:
        return {name: stamp for name, (stamp, _) in self._kept.items()}

    def stamp(self, name: str) -> Stamp | None:
        kept = self._kept.get(name)
        return None if kept is None else kept[0]

    def read(self, name: str, most: int = -1) -> bytes | None:
        kept = self._kept.get(name)
        return None if kept is None else kept[1] if most < 0 else kept[1][:most]

    def write(self, name: str, content: bytes) -> None:
        self._kept[name] = (next(self._time), len(content)), content

    def remove(self, name: str) -> None:
        self._kept.pop(name, None)


class MemoryArchives:
    """Of the identities seen last."""

    def __init__(self) -> None:
        self.secret = secrets.token_bytes(SECRET_SIZE)
        self._archives: OrderedDict[str, MemoryArchive] = OrderedDict()

    def of(self, identity: str) -> MemoryArchive:
        archive = self._archives.setdefault(identity, MemoryArchive())
        self._archives.move_to_end(identity)
        while len(self._archives) > IDENTITIES:
            self._archives.popitem(last=False)
        return archive


# ---------------------------------------------------------------- in files


class FileArchive:
    """A directory of its own, made at the first write (0700, files 0600) and gone with its last file."""

    def __init__(self, root: str) -> None:
        self.root = root

    def stamps(self) -> dict[str, Stamp]:
        folder = self._folder(make=False)
        return {} if folder is None else dict(_stamps(folder))

    def stamp(self, name: str) -> Stamp | None:
        folder = self._folder(make=False)
        return None if folder is None else _stamp(folder, name)

    def read(self, name: str, most: int = -1) -> bytes | None:
        folder = self._folder(make=False)
        if folder is None:
            return None
        try:
            with open(folder.open_to_read(name + ENDING), "rb") as file:
                return file.read(most)
        except FileNotFoundError:
            return None
        except (OSError, QueueError) as error:
            logger.warning("a conversation is passed over: %s", error)
            return None

    def write(self, name: str, content: bytes) -> None:
        for _ in range(2):
            folder = self._folder(make=True)
            assert folder is not None
            try:
                folder.write(name + ENDING, content)
                return
            except FileNotFoundError:
                continue  # another process has removed the last file, and with it the directory

    def remove(self, name: str) -> None:
        folder = self._folder(make=False)
        if folder is not None:
            folder.remove(name + ENDING)
            try:
                os.rmdir(self.root)
            except OSError:
                pass  # there are others in it

    def _folder(self, make: bool) -> Folder | None:
        if not make and not os.path.lexists(self.root):
            return None
        try:
            return Folder(self.root, make=make, holds="conversations")
        except QueueError:
            if make or os.path.lexists(self.root):
                raise
            return None  # its last file has just been removed


class FileArchives:
    """Archives in one directory, which is made where it is not there; only its user may get at it.

    Raises:
        MillraceError: the directory cannot be had, or is not for this user alone.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.root = os.path.realpath(directory)
        self.secret = _secret(Folder(self.root, holds="conversations"))

    def of(self, identity: str) -> FileArchive:
        return FileArchive(f"{self.root}/{hashed(identity)}")


def _secret(folder: Folder) -> bytes:
    """The secret of a directory, made where there is none; of two processes that make one, both take the first."""
    new = f"{SECRET}.{secrets.token_hex(4)}.new"
    place = {"src_dir_fd": folder.descriptor, "dst_dir_fd": folder.descriptor, "follow_symlinks": False}
    if SECRET not in folder.names():
        with open(folder.create(new), "wb") as file:
            file.write(secrets.token_bytes(SECRET_SIZE))
        try:
            os.link(new, SECRET, **place)  # type: ignore[arg-type]
        except FileExistsError:
            pass
        finally:
            folder.remove(new)
    with open(folder.open_to_read(SECRET), "rb") as file:
        secret = file.read(SECRET_SIZE + 1)
    if len(secret) != SECRET_SIZE:
        raise MillraceError(f"{folder.path(SECRET)} is no secret of {SECRET_SIZE} bytes; remove it")
    return secret


def _stamps(folder: Folder) -> Iterator[tuple[str, Stamp]]:
    for file in folder.names():
        if file.endswith(ENDING):
            name = file.removesuffix(ENDING)
            stamp = _stamp(folder, name)
            if stamp is not None:
                yield name, stamp


def _stamp(folder: Folder, name: str) -> Stamp | None:
    try:
        found = folder.stat(name + ENDING)
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_size
