"""Where the files of chats lie: for each identity a shelf, with a compartment for each conversation.

Names of files on disk are random, those of directories hashes: what people call a file is never part of a path.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from weakref import finalize

from ...streaming.errors import MillraceError
from ...streaming.files.folders import Folder
from ...streaming.named_files import NamedFile, type_of
from ..file_inputs import FileRefused
from .archives import Archives, FileArchives, hashed

__all__ = ["Shelf", "Shelves", "StoredFile", "size_of"]

logger = logging.getLogger("millrace.chat")

WAITING = "waiting"
"""The compartment of files that no question has taken yet."""

PATIENCE = 3600.0
"""Seconds for which they wait."""

MOST_BYTES = 256 * 2**20
"""What the files of one identity take together."""

LONGEST_NAME = 120
CHUNK = 2**18
INLINE = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
}
"""How images begin that a page may show; anything else is for downloading."""

_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_ENDING = re.compile(r"\.[a-z0-9]{1,8}", re.ASCII)


@dataclass(frozen=True, slots=True)
class StoredFile:
    """What is known of a file: `id` is its name on disk, `name` what its user calls it, `size` in bytes.

    `type` is what is in it where a page may show it as an image, else what its name says.
    """

    id: str
    name: str
    type: str
    size: int

    @property
    def entry(self) -> str:
        """Its name on disk. The ending is kept, for programs that go by it."""
        ending = os.path.splitext(self.name)[1].lower()
        return self.id + (ending if _ENDING.fullmatch(ending) else "")

    @property
    def shows(self) -> bool:
        """Whether a page may show it as an image."""
        return self.type in (*INLINE.values(), "image/webp")

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, kept: Any) -> StoredFile:
        """Raises TypeError, KeyError or ValueError where it is none."""
        id, name, kind = (kept[key] for key in ("id", "name", "type"))
        if not all(isinstance(text, str) for text in (id, name, kind)) or not _ID.fullmatch(id):
            raise ValueError("not a file")
        return cls(id, name, kind, int(kept["size"]))


class Shelves:
    """All shelves of a chat: beside its conversations, or until the process ends where those are in memory."""

    def __init__(self, archives: Archives) -> None:
        self._root = f"{archives.root}/files" if isinstance(archives, FileArchives) else ""

    def of(self, identity: str) -> Shelf:
        if not self._root:
            self._root = tempfile.mkdtemp(prefix="millrace-chat-")
            finalize(self, shutil.rmtree, self._root, True)
        return Shelf(f"{self._root}/{hashed(identity)}")


class Shelf:
    """The files of one identity, in a directory that is made with the first (0700, files 0600)."""

    def __init__(self, root: str) -> None:
        self.root = root

    # ------------------------------------------------------------ coming in

    async def receive(self, name: str, pieces: AsyncIterator[bytes], most: int) -> StoredFile:
        """Takes a file as it comes, to wait for its question.

        Raises:
            FileRefused: it has more than `most` bytes, or the shelf is full.
        """
        self._clear_waiting()
        free = MOST_BYTES - self._size()
        id, size, head = secrets.token_hex(16), 0, b""
        name = _clean(name)
        entry = StoredFile(id, name, "", 0).entry
        folder = self._folder(WAITING)
        try:
            with os.fdopen(folder.create(entry), "wb") as file:
                async for piece in pieces:
                    size += len(piece)
                    if size > most:
                        raise FileRefused(f"{name} is too large: {size_of(most)} at most")
                    if size > free:
                        raise FileRefused("There is no more room for files; delete conversations first")
                    head = head or bytes(piece[:16])
                    await asyncio.to_thread(file.write, piece)
        except BaseException:
            folder.remove(entry)
            raise
        return StoredFile(id, name, _type(name, head), size)

    def put(self, compartment: str, made: NamedFile, most: int) -> StoredFile:
        """Keeps a copy of what a flow has made.

        Raises:
            FileRefused: it is not there, or too large.
        """
        id, name = secrets.token_hex(16), _clean(made.name)
        try:
            size = len(made.content) if isinstance(made.content, bytes) else made.content.stat().st_size
            if size > min(most, MOST_BYTES - self._size()):
                raise FileRefused(f"{name} is too large: {size_of(min(most, MOST_BYTES))} at most")
            content = made.read_bytes()
        except OSError as error:
            raise FileRefused(f"{name} cannot be read: {error.strerror}") from None
        known = type_of(name) if made.type == type_of(made.name) else made.type
        file = StoredFile(id, name, _type(name, content[:16], known), len(content))
        self._folder(hashed(compartment)).write(file.entry, content)
        return file

    def claim(self, file: StoredFile, compartment: str) -> bool:
        """Makes a file one of a conversation's; false where it is gone."""
        mine = hashed(compartment)
        for place in (mine, WAITING, *self._compartments()):
            folder = self._found(place)
            if folder is None or file.entry not in folder.names():
                continue
            if place != mine:
                there = self._folder(mine)
                os.link(file.entry, file.entry, src_dir_fd=folder.descriptor, dst_dir_fd=there.descriptor)
            if place == WAITING:
                folder.remove(file.entry)
            return True
        return False

    def release(self, file: StoredFile, compartment: str) -> None:
        """Takes a file out of a conversation, to wait for another question."""
        folder = self._found(hashed(compartment))
        if folder is None or file.entry not in folder.names():
            return
        there = self._folder(WAITING)
        os.link(file.entry, file.entry, src_dir_fd=folder.descriptor, dst_dir_fd=there.descriptor)
        os.utime(file.entry, dir_fd=there.descriptor)
        folder.remove(file.entry)

    # ------------------------------------------------------------ going out

    def open(self, file: StoredFile, compartment: str) -> int | None:
        """A descriptor to read from; None where it is not there."""
        folder = self._found(hashed(compartment))
        try:
            return None if folder is None else folder.open_to_read(file.entry)
        except (OSError, MillraceError):
            return None

    def named(self, file: StoredFile, compartment: str) -> NamedFile:
        """As a flow gets it."""
        return NamedFile(file.name, Path(self.root, hashed(compartment), file.entry), file.type)

    # ------------------------------------------------------------ going away

    def drop(self, file: StoredFile) -> None:
        """Throws away a file that no question has taken."""
        folder = self._found(WAITING)
        if folder is not None:
            folder.remove(file.entry)

    def prune(self, compartment: str, kept: Iterable[StoredFile]) -> None:
        """Removes the files of a conversation but for those that are kept."""
        folder, named = self._found(hashed(compartment)), {file.entry for file in kept}
        if folder is not None:
            for entry in folder.names():
                if entry not in named:
                    folder.remove(entry)

    def forget(self, compartment: str) -> None:
        """Removes the files of a conversation."""
        self._remove(hashed(compartment))

    def sweep(self, kept: set[str]) -> None:
        """Removes the files of conversations that are no more; `kept` are the hashed names of those that are."""
        for place in self._compartments():
            folder = self._found(place)
            if place not in kept and folder is not None and _age(folder.root) > PATIENCE:
                self._remove(place)
        self._clear_waiting()

    def _clear_waiting(self) -> None:
        folder = self._found(WAITING)
        if folder is not None:
            for entry in folder.names():
                if _age(folder.path(entry)) > PATIENCE:
                    folder.remove(entry)

    def _remove(self, place: str) -> None:
        folder = self._found(place)
        if folder is None:
            return
        for entry in folder.names():
            folder.remove(entry)
        for directory in (folder.root, f"{self.root}/{WAITING}", self.root):
            try:
                os.rmdir(directory)
            except OSError:
                pass  # there is something in it, or it is gone

    # ------------------------------------------------------------ directories

    def _compartments(self) -> list[str]:
        try:
            return [name for name in os.listdir(self.root) if _ID.fullmatch(name)]
        except OSError:
            return []

    def _folder(self, place: str) -> Folder:
        Folder(self.root, holds="files of a chat")
        return Folder(f"{self.root}/{place}", holds="files of a chat")

    def _found(self, place: str) -> Folder | None:
        if not os.path.lexists(f"{self.root}/{place}"):
            return None
        return Folder(f"{self.root}/{place}", make=False, holds="files of a chat")

    def _size(self) -> int:
        return sum(_sizes(self.root))


def size_of(bytes: int) -> str:
    """A size for people."""
    if bytes < 1000:
        return f"{bytes} B"
    return f"{bytes / 1000:.0f} kB" if bytes < 999_500 else f"{bytes / 2**20:.3g} MiB"


def _sizes(root: str) -> Iterator[int]:
    for place, _, entries in os.walk(root):
        for entry in entries:
            try:
                yield os.lstat(os.path.join(place, entry)).st_size
            except OSError:
                pass


def _age(path: str) -> float:
    try:
        return time.time() - os.lstat(path).st_mtime
    except OSError:
        return 0.0


def _clean(name: str) -> str:
    """What a file is called: one line, and not too long."""
    last = re.split(r"[/\\]", name)[-1]
    words = " ".join("".join(" " if char < " " or char == "\x7f" else char for char in last).split())
    stem, ending = os.path.splitext(words)
    return (stem[: LONGEST_NAME - len(ending[:20])] + ending[:20]) or "file"


def _type(name: str, head: bytes, said: str = "") -> str:
    """An image's type is what is in it, whatever is said; what is said to be one and is none is unknown."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    for beginning, kind in INLINE.items():
        if head.startswith(beginning):
            return kind
    told = said or type_of(name)
    return "application/octet-stream" if told in (*INLINE.values(), "image/webp") else told
