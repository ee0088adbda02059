"""Files that go into a flow and come out of it, with the name that people know them by."""

from __future__ import annotations

import mimetypes
from dataclasses import dataclass
from pathlib import Path

__all__ = ["NamedFile", "type_of"]

UNKNOWN = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file: what it is called, and what is in it, or where it lies.

    `name` is for people and never a path. `type` is the media type, by default what the name says. A file that came
    with a question lies at `content` as long as its run goes on; copy what is to stay.
    """

    name: str
    content: bytes | Path
    type: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.content, (bytes, Path)):
            raise TypeError(
                f"NamedFile({self.name!r}): its content is bytes or a pathlib.Path, not {type(self.content).__name__}"
            )
        if not self.type:
            object.__setattr__(self, "type", type_of(self.name))

    def read_bytes(self) -> bytes:
        """All that is in it."""
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()

    def read_text(self, encoding: str = "utf-8") -> str:
        """All that is in it, as text."""
        return self.read_bytes().decode(encoding)


def type_of(name: str) -> str:
    """The media type that a name's ending stands for."""
    return mimetypes.guess_type(name)[0] or UNKNOWN
