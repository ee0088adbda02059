"""Changes: noticing that Python files of a directory are other ones than before, by looking now and then."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["Changes", "folder_of"]

EVERY = 0.5
"""Seconds between two looks."""

SETTLED = 0.1
"""Seconds without a further change after which the files are taken to be written."""

Stamps = dict[str, tuple[int, int]]


class Changes:
    """The `.py` files under a directory, as they were at the last look.

    Hidden directories, virtual environments and `__pycache__` are passed over.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._seen = stamps(root)

    async def wait(self) -> list[str]:
        """Waits until files were written, made or removed, and are no more; their paths below the directory."""
        now = self._seen
        while now == self._seen:
            await asyncio.sleep(EVERY)
            now = await asyncio.to_thread(stamps, self.root)
        last: Stamps | None = None
        while now != last:
            await asyncio.sleep(SETTLED)
            last, now = now, await asyncio.to_thread(stamps, self.root)
        before, self._seen = self._seen, now
        changed = {path for path in before.keys() | now.keys() if before.get(path) != now.get(path)}
        return sorted(path.removeprefix(f"{self.root}{os.sep}") for path in changed)


def folder_of(target: str) -> Path:
    """The directory that a target's module comes from: the current one, if it is in there, else its package's own.

    Nothing is imported.
    """
    here = Path.cwd()
    name = target.partition(":")[0].partition(".")[0]
    if (here / f"{name}.py").is_file() or (here / name).is_dir():
        return here
    try:
        spec = importlib.util.find_spec(name) if name.isidentifier() else None
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.origin or name in sys.stdlib_module_names:
        return here
    return Path(spec.origin).resolve().parent


def stamps(root: Path) -> Stamps:
    """When each file was written, and how long it is."""
    return dict(_stamps(str(root)))


def _stamps(folder: str) -> Iterator[tuple[str, tuple[int, int]]]:
    try:
        entries = list(os.scandir(folder))
    except OSError:  # removed meanwhile, or not ours to read
        return
    if any(entry.name == "pyvenv.cfg" for entry in entries):
        return
    for entry in entries:
        if entry.name.startswith(".") or entry.name in ("__pycache__", "node_modules"):
            continue
        try:
            if entry.is_dir(follow_symlinks=False):
                yield from _stamps(entry.path)
            elif entry.name.endswith(".py"):
                status = entry.stat()
                yield entry.path, (status.st_mtime_ns, status.st_size)
        except OSError:
            continue
