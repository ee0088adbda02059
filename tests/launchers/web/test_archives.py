"""Where conversations are kept: on disk for their owner alone, under hashes, whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from millrace.launchers.web.archives import (
    Archives,
    FileArchives,
    MemoryArchives,
    hashed,
    open_archives,
    usual_folder,
)
from millrace.streaming.errors import MillraceError


@pytest.fixture(params=["files", "memory"])
def archives(request: pytest.FixtureRequest, tmp_path: Path) -> Archives:
    return open_archives(tmp_path / "kept" if request.param == "files" else None)


def test_what_was_written_is_read_and_identities_are_apart(archives: Archives) -> None:
    mine, yours = archives.of("me"), archives.of("you")
    mine.write("a", b"first")
    mine.write("b", b"second")
    before = mine.stamp("a")
    mine.write("a", b"third!")
    assert (mine.read("a"), mine.read("a", 3), mine.read("c")) == (b"third!", b"thi", None)
    assert set(mine.stamps()) == {"a", "b"}
    assert mine.stamp("a") != before
    assert (yours.stamps(), yours.read("a"), yours.stamp("a")) == ({}, None, None)
    mine.remove("a")
    mine.remove("a")
    assert set(mine.stamps()) == {"b"}


def test_files_are_for_their_owner_alone_and_named_by_hashes(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        FileArchives(tmp_path / "kept").of("../alice").write("x", b"y")
    finally:
        os.umask(old)
    found = {
        str(path.relative_to(tmp_path)): stat.S_IMODE(path.lstat().st_mode) for path in tmp_path.rglob("*")
    }
    folder = f"kept/{hashed('../alice')}"
    assert found == {"kept": 0o700, "kept/secret": 0o600, folder: 0o700, f"{folder}/x.jsonl": 0o600}


def test_the_last_file_takes_the_directory_along(tmp_path: Path) -> None:
    archive = FileArchives(tmp_path).of("me")
    archive.write("a", b"x")
    archive.write("b", b"x")
    archive.remove("a")
    archive.remove("b")
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]
    assert archive.stamps() == {}
    archive.write("a", b"x")
    assert archive.read("a") == b"x"


def test_links_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"private")
    archive = FileArchives(tmp_path / "kept").of("me")
    archive.write("a", b"x")
    folder = tmp_path / "kept" / hashed("me")
    (folder / "b.jsonl").symlink_to(outside)
    assert archive.read("b") is None
    archive.write("b", b"new")
    assert (archive.read("b"), outside.read_bytes()) == (b"new", b"private")
    (tmp_path / "kept" / hashed("you")).symlink_to(folder)
    with pytest.raises(MillraceError, match="cannot hold conversations"):
        archive_of_link = FileArchives(tmp_path / "kept").of("you")
        archive_of_link.write("a", b"x")


def test_the_secret_stays_and_a_broken_one_is_told(tmp_path: Path) -> None:
    secret = FileArchives(tmp_path).secret
    assert FileArchives(tmp_path).secret == secret != FileArchives(tmp_path / "other").secret
    assert len(secret) == 32
    assert MemoryArchives().secret != MemoryArchives().secret
    (tmp_path / "secret").write_bytes(b"short")
    with pytest.raises(MillraceError, match="no secret of 32 bytes; remove it"):
        FileArchives(tmp_path)


def test_a_directory_that_others_may_write_in_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(MillraceError, match="chmod 700"):
        FileArchives(tmp_path / "open")


@pytest.mark.parametrize(
    ("flow", "name"),
    [("support", "support"), ("../../etc", "etc"), ("a b/c", "a-b-c"), (None, "chat"), ("…", "chat")],
)
def test_the_usual_folder_is_named_by_the_flow(
    flow: str | None, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert usual_folder(flow) == tmp_path / "millrace" / name
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert usual_folder(flow) == Path.home() / ".local" / "share" / "millrace" / name
