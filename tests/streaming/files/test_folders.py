"""The directory of a store: made for its owner alone, and nobody else's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from millrace.streaming.errors import QueueError
from millrace.streaming.files.folders import Folder, identity_of
from tests.streaming.files.support import mode_of
from tests.support.leaks import leaks


def test_it_is_made_with_those_above_it(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path / "a" / "b" / "c"))
    assert mode_of(folder.root) == 0o700
    assert folder.names() == []
    assert folder.is_there()


@pytest.mark.parametrize(
    ("mode", "cure"),
    [
        (0o777, "chmod 700"),
        (0o770, "chmod 700"),
        (0o1777, "name a directory in it"),
    ],
)
def test_others_must_not_write_in_it(tmp_path: Path, mode: int, cure: str) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(mode)
    with pytest.raises(QueueError, match=f"mode is {mode:04o}.*{cure}"):
        Folder(str(tmp_path / "open"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_it_must_be_ones_own(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir(0o700)
    os.chown(tmp_path / "theirs", 12345, -1)
    with pytest.raises(QueueError, match="another user"):
        Folder(str(tmp_path / "theirs"))


def test_a_file_or_a_link_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(QueueError, match="Not a directory"):
        Folder(str(tmp_path / "file"))
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(QueueError, match="cannot hold runs"):
        Folder(str(tmp_path / "link"))


def test_a_link_put_in_its_place_leads_nowhere(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path / "runs"))
    (tmp_path / "runs").rename(tmp_path / "moved")
    (tmp_path / "other").mkdir()
    (tmp_path / "runs").symlink_to("other")
    os.close(folder.create("file"))
    assert list((tmp_path / "other").iterdir()) == []
    assert folder.names() == ["file"]
    assert not folder.is_there()


def test_only_the_file_that_is_meant_is_opened_again(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    descriptor = folder.create("file")
    identity = identity_of(os.fstat(descriptor))
    os.close(folder.open_same("file", identity))
    os.close(folder.open_same("file", identity, append=True))
    (tmp_path / "other").write_text("")
    (tmp_path / "other").rename(tmp_path / "file")
    with pytest.raises(FileNotFoundError):
        folder.open_same("file", identity)
    os.close(descriptor)


def test_refusals_leave_no_descriptor(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    folder = Folder(str(tmp_path))
    with leaks():
        for name in ("folder", "link", "pipe"):
            for call in (folder.open_to_read, folder.open_to_append):
                with pytest.raises(QueueError, match=f"{name} is (a symbolic link|no plain file)"):
                    call(name)
        with pytest.raises(QueueError):
            Folder(str(tmp_path / "open"))


def test_removing_says_who_did_it(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    os.close(folder.create("file"))
    assert [folder.remove("file"), folder.remove("file")] == [True, False]
    with pytest.raises(FileExistsError):
        [folder.create("file") for _ in range(2)]
