"""A store holds no more than it may."""

from __future__ import annotations

from pathlib import Path

import pytest

from millrace.streaming.errors import QueueFull
from millrace.streaming.files import FileStore


class TestQuota:
    def test_a_run_cannot_have_more_than_the_store(self, tmp_path: Path) -> None:
        store = FileStore.at(tmp_path, max_bytes=1000)
        writer = store.create("run", {})
        with pytest.raises(QueueFull, match=r"1000.*max_bytes"):
            for _ in range(1000):
                writer.append(b"x" * 50)
        frames = writer.frames
        assert 5 < frames < 20
        writer.end(b"e" * 1000)
        assert store.read("run", after=frames).take() == [b"e" * 1000]

    def test_nothing_begins_while_live_runs_fill_it(self, tmp_path: Path) -> None:
        store = FileStore.at(tmp_path, max_bytes=1000)
        writers = [store.create(f"run-{i}", {}) for i in range(3)]
        for writer in writers:
            writer.append(b"x" * 500)
        store.sweep()
        with pytest.raises(QueueFull, match="still live"):
            store.create("one more", {})
        for writer in writers:
            writer.end(b"")
        store.sweep()
        assert len(list(store.runs())) == 1
        store.create("one more", {}).end(b"")
