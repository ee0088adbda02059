"""FileCache: values in a directory, one JSON file each, for this process, others, and later ones."""

from __future__ import annotations

import json
import math
import os
import secrets
import time
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import Any

from ...streaming.errors import FlowBuildError
from .caches import Cache, Entry, limits_of

__all__ = ["FileCache"]

VERSION = 1
LEFT_OVER = 3600.0
"""Seconds after which a file that was never finished is taken for one of a process that died."""
TOUCH = 60.0
"""Seconds; whether a file was used is written down no more often."""


class FileCache(Cache):
    """Keeps values in a directory, as JSON and nothing else; the least recently used ones go first.

    A value is None, a bool, a finite number, text, a list, or a dict with text for keys, all the way down: what
    JSON gives back equal. Keys stand on disk as hashes alone. Any number of processes may use one directory: files
    appear whole or not at all. The directory is made at the first write, for its owner alone (0700, files 0600).

    Args:
        directory: where; it should hold nothing else.
        max_bytes: how much the files take together at most; a number, or text such as `"1g"`.
        ttl: for how long a value is good, in seconds or as text such as `"1h"`; by default for ever.
        shared: whether all sessions find the values of all others; otherwise each finds its own alone.
        key: a function that is called as the step is, and gives what to tell calls apart by.

    Raises:
        FlowBuildError: a setting that cannot be; it says which.
    """

    durable = True
    blocking = True

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        max_bytes: int | str = "1g",
        ttl: float | str | None = None,
        shared: bool = False,
        key: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__(shared=shared, key=key)
        if not isinstance(directory, (str, os.PathLike)) or not os.fspath(directory):
            raise FlowBuildError(f"FileCache({directory!r}): give the path of a directory")
        self.directory = Path(os.path.abspath(directory))
        if self.directory.exists() and not self.directory.is_dir():
            raise FlowBuildError(f"FileCache({str(directory)!r}): there is a file of that name")
        self.max_bytes, self.ttl = limits_of("FileCache", max_bytes, ttl)
        self._unswept = math.inf

    def path_of(self, key: Hashable) -> Path:
        """The file of a key."""
        name = str(key)
        return self.directory / name[:2] / f"{name[2:]}.json"

    def get(self, key: Hashable) -> Entry | None:
        path = self.path_of(key)
        try:
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        except FileNotFoundError:
            return None
        with open(descriptor, "rb") as file:
            content = file.read()
            used = os.fstat(descriptor).st_mtime
        try:
            kept = json.loads(content.decode("utf-8", "surrogatepass"))
            entry = Entry(kept["value"], kept["pieces"], kept["reason"])
            fresh = kept["version"] == VERSION and (
                self.ttl is None or time.time() - kept["made"] <= self.ttl
            )
        except (ValueError, KeyError, TypeError):  # the machine went down before all of it was written
            fresh = False
        if not fresh:
            path.unlink(missing_ok=True)
            return None
        if time.time() - used > TOUCH:
            _touch(path)
        return entry

    def put(self, key: Hashable, entry: Entry) -> None:
        check_json(entry.value, "")
        check_json(entry.pieces, " piece ")
        kept = {
            "version": VERSION,
            "made": time.time(),
            "value": entry.value,
            "pieces": entry.pieces,
            "reason": entry.reason,
        }
        try:
            content = json.dumps(kept, ensure_ascii=False, allow_nan=False).encode("utf-8", "surrogatepass")
        except (ValueError, RecursionError) as error:
            raise TypeError(f"JSON cannot hold it ({error})") from None
        if len(content) > self.max_bytes:
            return
        path = self.path_of(key)
        os.makedirs(self.directory, 0o700, exist_ok=True)
        os.makedirs(path.parent, 0o700, exist_ok=True)
        _write(path, content)
        with self.flights.lock:
            self._unswept += len(content)
            due = self._unswept > self.max_bytes / 16
            if due:
                self._unswept = 0
        if due:
            self.sweep()

    def sweep(self) -> int:
        """Deletes what is too old, then what was used longest ago until the rest fits; returns how many files.

        Writing does it by itself, now and then.
        """
        now, size, deleted = time.time(), 0, 0
        found: list[tuple[float, int, Path]] = []
        for path, state in self._files():
            age = now - state.st_mtime
            if age > (LEFT_OVER if path.suffix == ".new" else self.ttl or math.inf):
                path.unlink(missing_ok=True)
                deleted += 1
            elif path.suffix == ".json":
                found.append((state.st_mtime, state.st_size, path))
                size += state.st_size
        for _, length, path in sorted(found):
            if size <= self.max_bytes:
                break
            path.unlink(missing_ok=True)
            size -= length
            deleted += 1
        return deleted

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in self.directory.glob("[0-9a-f][0-9a-f]/*"):
            try:
                yield path, path.lstat()
            except FileNotFoundError:
                pass  # another process has deleted it

    def __repr__(self) -> str:
        return f"<FileCache {self.directory}>"


def _write(path: Path, content: bytes) -> None:
    """Writes a file that appears whole, by a name of its own first."""
    new = path.with_name(f"{path.stem}.{secrets.token_hex(4)}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    try:
        with open(os.open(new, flags, 0o600), "wb") as file:
            file.write(content)
        os.replace(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def _touch(path: Path) -> None:
    try:
        os.utime(path)
    except OSError:
        pass  # deleted since, or not ours: it is found all the same


def check_json(value: Any, place: str) -> None:
    """Whether JSON gives a value back as it is.

    Raises:
        TypeError: it does not; the message says where, and what is there.
    """
    todo: list[tuple[Any, str]] = [(value, place)]
    while todo:
        part, where = todo.pop()
        kind = type(part)
        if kind is list:
            todo += [(item, f"{where}[{i}]") for i, item in enumerate(part)]
        elif kind is dict:
            for name, item in part.items():
                if type(name) is not str:
                    raise TypeError(f"its{where} has the key {name!r:.40}, and JSON has text for keys alone")
                todo.append((item, f"{where}[{name!r:.40}]"))
        elif not (part is None or kind in (bool, int, str) or (kind is float and math.isfinite(part))):
            what = repr(part) if kind is float else f"a {kind.__qualname__}"
            raise TypeError(
                f"{f'its{where}' if where else 'it'} is {what}, and a cache on disk holds JSON: None, bool, finite "
                "numbers, text, lists, and dicts with text for keys"
            )
