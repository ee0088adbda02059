"""A link planted in the store is refused, and what it points to is not touched."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from millrace.streaming.errors import QueueError
from millrace.streaming.files import FileStore, SegmentWriter
from tests.streaming.files.support import age, file_of, mode_of, read_what_is_there, segment, swept_already
from tests.support.leaks import eventually, open_descriptors


class TestLinks:
    @pytest.fixture
    def outside(self, tmp_path: Path) -> Path:
        path = tmp_path / "outside"
        path.write_bytes(segment("run", [b"secret"], b"end"))
        path.chmod(0o644)
        return path

    def test_in_place_of_a_run(self, store: FileStore, outside: Path) -> None:
        file_of(store.root, "run").symlink_to(outside)
        for call in (
            lambda: store.read("run"),
            lambda: store.header("run"),
            lambda: store.cancel("run", "x"),
            lambda: store.delete("run"),
            lambda: store.repair("run"),
        ):
            with pytest.raises(QueueError, match="symbolic link"):
                call()
        with pytest.raises(QueueError, match="already"):
            store.create("run", {})
        assert list(store.runs()) == []
        assert store.sweep() == 0
        self.is_untouched(outside)

    def test_that_leads_nowhere(self, store: FileStore, tmp_path: Path) -> None:
        file_of(store.root, "run").symlink_to(tmp_path / "made")
        file_of(store.root, "other", ".gone").symlink_to(tmp_path / "made")
        with pytest.raises(QueueError, match="already"):
            store.create("run", {})
        store.create("other", {}).end(b"")
        swept_already()
        age(file_of(store.root, "other"), 10_000)
        assert store.sweep() == 1
        assert not (tmp_path / "made").exists()

    def test_in_place_of_the_locks(self, store: FileStore, outside: Path) -> None:
        (Path(store.root) / "sweep.lock").symlink_to(outside)
        with pytest.raises(QueueError, match="symbolic link"):
            store.sweep()
        (Path(store.root) / "sweep.lock").unlink()
        store.create("a", {}).end(b"")
        lock = Path(store.root) / store.header("a")["lock"]
        eventually(lambda: not lock.exists())
        lock.symlink_to(outside)
        lock.with_suffix(".mail").symlink_to(outside)
        file_of(store.root, "b").write_bytes(segment("b", [b"1"], lock=lock.name))
        reader = store.read("b")
        assert (read_what_is_there(reader), reader.lost) == ([b"1"], True)
        assert store.cancel("b", "x") is False
        assert store.sweep() == 0
        self.is_untouched(outside)

    def test_while_a_run_is_written(self, store: FileStore, outside: Path) -> None:
        writer = written_long_ago(store, "run")
        file_of(store.root, "run").unlink()
        file_of(store.root, "run").symlink_to(outside)
        with pytest.raises(QueueError, match="symbolic link"):
            writer.append(b"x")
        writer.abandon()
        self.is_untouched(outside)

    def test_another_file_under_the_name(self, store: FileStore, outside: Path) -> None:
        writer = written_long_ago(store, "run")
        file_of(store.root, "run").unlink()
        os.link(outside, file_of(store.root, "run"))
        with pytest.raises(QueueError, match="removed"):
            writer.append(b"x")
        writer.abandon()
        self.is_untouched(outside)

    def test_the_root_itself_may_be_one(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir(0o700)
        (tmp_path / "link").symlink_to("real")
        FileStore.at(tmp_path / "link").create("run", {}).end(b"x")
        assert FileStore.at(tmp_path / "real").read("run").take() == [b"x"]
        assert FileStore.at(tmp_path / "link").root == str(tmp_path / "real")

    @staticmethod
    def is_untouched(outside: Path) -> None:
        assert outside.read_bytes() == segment("run", [b"secret"], b"end")
        assert mode_of(outside) == 0o644


def written_long_ago(store: FileStore, run_id: str) -> SegmentWriter:
    """The writer of a run whose file was closed, since many others were written since."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (80, before[1]))
    try:
        writer = store.create(run_id, {})
        others = [store.create(f"{run_id}-{i}", {}) for i in range(50)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert str(file_of(store.root, run_id)) not in open_descriptors()
    for other in others:
        other.end(b"")
    return writer
