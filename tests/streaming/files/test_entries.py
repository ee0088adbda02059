"""Runs as a store lists them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from millrace.streaming.errors import QueueError, RunUnknown
from millrace.streaming.files import FileStore
from tests.streaming.files.support import age, file_of, segment, start_of, swept_already


class TestLists:
    def test_states_are_told_apart(self, store: FileStore) -> None:
        live, ended, left = (store.create(name, {"n": name}) for name in ("live", "ended", "left"))
        swept_already()  # or else it mends the dead one below
        for writer in (live, ended, left):
            writer.append(b"1")
        ended.end(b"bye")
        left.abandon()
        file_of(store.root, "dead").write_bytes(segment("dead", [b"1", b"2"]))
        entries = {entry.run_id: entry for entry in store.runs()}
        assert {name: entry.state for name, entry in entries.items()} == {
            "live": "live",
            "ended": "ended",
            "left": "lost",
            "dead": "lost",
        }
        assert {name: entry.frames for name, entry in entries.items()} == {
            "live": None,
            "ended": 2,
            "left": 1,
            "dead": 2,
        }
        assert {name: entry.last for name, entry in entries.items() if entry.last} == {"ended": b"bye"}
        for name, entry in entries.items():
            assert entry.bytes == file_of(store.root, name).stat().st_size
            assert entry == store.entry(name)
        assert entries["live"].header["n"] == "live"
        live.end(b"")

    def test_oldest_change_comes_first(self, store: FileStore) -> None:
        for name, seconds in (("b", 10), ("a", 30), ("c", 20)):
            store.create(name, {}).end(b"")
            age(file_of(store.root, name), seconds)
        assert [entry.run_id for entry in store.runs()] == ["a", "c", "b"]

    def test_foreign_and_damaged_files_harm_only_themselves(
        self, store: FileStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        root = Path(store.root)
        store.create("good", {}).end(b"good")
        (root / "notes.txt").write_text("mine")
        file_of(root, "foreign").write_bytes(b"\x7fELF and so on")
        file_of(root, "empty").write_bytes(b"")
        file_of(root, "half").write_bytes(start_of("half")[:40])
        file_of(root, "renamed").write_bytes(segment("other", [b"x"], b"end"))
        file_of(root, "header").write_bytes(start_of("header").replace(b"created", b"kreated"))
        file_of(root, "leads out").write_bytes(start_of("leads out", lock="../../x.lock"))
        file_of(root, "folder").mkdir()
        os.mkfifo(file_of(root, "pipe"))
        before = {path for path in root.iterdir() if path.suffix != ".lock"}
        assert [entry.run_id for entry in store.runs()] == ["good"]
        for run_id in ("foreign", "renamed", "header", "leads out", "folder", "pipe"):
            with pytest.raises(QueueError, match=str(file_of(root, run_id))) as caught:
                store.read(run_id)
            assert caught.type is QueueError
            assert str(file_of(root, run_id)) in caplog.text
        for run_id in ("empty", "half"):  # as if their writers had only begun
            with pytest.raises(RunUnknown):
                store.read(run_id)
        assert store.sweep() == 0
        assert store.read("good").take() == [b"good"]
        assert {path for path in root.iterdir() if path.suffix != ".lock"} == before
        assert (root / "notes.txt").read_text() == "mine"
