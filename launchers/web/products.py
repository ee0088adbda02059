"""What a flow gives that is a file: a Path, an image, a NamedFile, or a list of them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...streaming.named_files import NamedFile

__all__ = ["files_in"]

MOST = 100
"""How many files of one value are shown."""


def files_in(value: Any) -> list[NamedFile]:
    """The files that a value is; empty where it is anything else, also in part."""
    if isinstance(value, (list, tuple)):
        found = [file for item in value for file in files_in(item)]
        return found[:MOST] if len(found) == len(value) else []
    return list(_file(value))


def _file(value: Any) -> Iterator[NamedFile]:
    if isinstance(value, NamedFile):
        yield value
    elif isinstance(value, Path) and value.is_file():
        yield NamedFile(value.name, value)
    elif _is_image(value):
        buffer = io.BytesIO()
        fitting = value if value.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I") else value.convert("RGB")
        fitting.save(buffer, "PNG")
        yield NamedFile("image.png", buffer.getvalue())


def _is_image(value: Any) -> bool:
    return any((kind.__module__, kind.__name__) == ("PIL.Image", "Image") for kind in type(value).__mro__)
