"""The files of chats on disk."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from millrace.launchers.file_inputs import FileRefused
from millrace.launchers.web import shelves
from millrace.launchers.web.archives import FileArchives, MemoryArchives, hashed
from millrace.launchers.web.shelves import Shelf, Shelves, StoredFile, size_of
from millrace.streaming import NamedFile

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelves(FileArchives(tmp_path / "chats")).of("somebody")


def receive(shelf: Shelf, name: str, *pieces: bytes, most: int = 100) -> StoredFile:
    async def coming() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    return asyncio.run(shelf.receive(name, coming(), most))


def files(shelf: Shelf) -> list[Path]:
    return [path for path in Path(shelf.root).rglob("*") if path.is_file()]


def test_a_file_waits_and_then_is_a_conversations(shelf: Shelf) -> None:
    file = receive(shelf, "../../etc/pass wd.TXT", b"he", b"llo")
    assert (file.name, file.type, file.size, file.shows) == ("pass wd.TXT", "text/plain", 5, False)
    (waiting,) = files(shelf)
    assert waiting.name == f"{file.id}.txt"
    assert waiting.stat().st_mode & 0o777 == 0o600
    assert waiting.parent.stat().st_mode & 0o777 == 0o700
    assert shelf.claim(file, "talk")
    assert shelf.claim(file, "talk")
    assert shelf.claim(file, "other")
    assert shelf.named(file, "talk").read_text() == "hello"
    shelf.forget("talk")
    assert shelf.named(file, "other").read_bytes() == b"hello"
    shelf.forget("other")
    assert not os.path.exists(shelf.root)
    assert not shelf.claim(file, "talk")


def test_what_is_too_large_leaves_nothing(shelf: Shelf) -> None:
    with pytest.raises(FileRefused, match=r"a\.bin is too large: 100 B at most"):
        receive(shelf, "a.bin", b"x" * 60, b"x" * 60)
    assert files(shelf) == []


def test_a_full_shelf(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelves, "MOST_BYTES", 150)
    receive(shelf, "a", b"x" * 100)
    with pytest.raises(FileRefused, match="no more room"):
        receive(shelf, "b", b"x" * 100)


@pytest.mark.parametrize(
    ("name", "content", "kind", "shows"),
    [
        ("a.png", PNG, "image/png", True),
        ("a.txt", PNG, "image/png", True),
        ("a.png", b"<script>", "application/octet-stream", False),
        ("a.svg", b"<svg>", "image/svg+xml", False),
        ("a.webp", b"RIFF\0\0\0\0WEBPVP8", "image/webp", True),
    ],
)
def test_only_real_images_are_shown(shelf: Shelf, name: str, content: bytes, kind: str, shows: bool) -> None:
    file = receive(shelf, name, content)
    assert (file.type, file.shows) == (kind, shows)


def test_names() -> None:
    assert shelves._clean("a\r\nb\0c.txt") == "a b c.txt"
    assert shelves._clean("") == "file"
    assert len(shelves._clean("x" * 500 + ".pdf")) == 120
    assert StoredFile("0" * 32, "a.<b>", "", 1).entry == "0" * 32


def test_what_a_flow_made(shelf: Shelf) -> None:
    file = shelf.put("talk", NamedFile("a.csv", b"1,2"), 100)
    assert shelf.named(file, "talk").read_bytes() == b"1,2"
    with pytest.raises(FileRefused, match="too large"):
        shelf.put("talk", NamedFile("a.csv", b"1,2"), 2)
    with pytest.raises(FileRefused, match="cannot be read"):
        shelf.put("talk", NamedFile("a.csv", Path("/nowhere/at/all")), 2)


def test_what_nobody_wants_goes_after_a_time(shelf: Shelf) -> None:
    kept, gone = shelf.put("kept", NamedFile("a", b"1"), 9), shelf.put("gone", NamedFile("a", b"1"), 9)
    waiting = receive(shelf, "b", b"1")
    shelf.sweep({hashed("kept")})
    assert len(files(shelf)) == 3
    for place in ("gone", "kept"):
        os.utime(Path(shelf.root, hashed(place)), (1, 1))
    os.utime(Path(shelf.root, "waiting", waiting.entry), (1, 1))
    shelf.sweep({hashed("kept")})
    assert [file.name for file in files(shelf)] == [kept.entry]
    assert shelf.open(gone, "gone") is None


def test_in_memory_it_ends_with_the_chat() -> None:
    shelves = Shelves(MemoryArchives())
    shelf = shelves.of("somebody")
    receive(shelf, "a", b"1")
    assert len(files(shelf)) == 1
    del shelves
    assert not os.path.exists(shelf.root)


def test_sizes() -> None:
    assert [size_of(n) for n in (5, 1500, 999_499, 10 * 2**20)] == ["5 B", "2 kB", "999 kB", "10 MiB"]
