"""A run is stopped by way of its store, from any process."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from millrace.streaming.errors import RunUnknown
from millrace.streaming.files import FileStore
from tests.streaming.files import workers
from tests.support.leaks import eventually


class TestCancel:
    def test_it_reaches_the_writer_in_another_process(self, tmp_path: Path) -> None:
        worker = workers.start("hold", tmp_path, "run", "1")
        assert workers.told(worker) == "begun"
        store = FileStore.at(tmp_path)
        assert store.cancel("run", "enough\nof it") is True
        assert workers.told(worker) == "cancelled: enough"
        assert workers.told(worker) == "of it"
        store.cancel("run", "again")
        assert workers.finish(worker, "end\n") == ""
        assert store.cancel("run", "too late") is False
        assert store.read("run").take() == [b"1", b"the end"]

    def test_it_waits_for_somebody_to_hear_it(self, store: FileStore) -> None:
        writer, other = store.create("run", {}), store.create("other", {})
        heard, heard_by_other = [], []
        other.on_cancel = heard_by_other.append
        for run_id, reason in (("run", "early"), ("run", "twice"), ("other", "later")):
            store.cancel(run_id, reason)
        eventually(lambda: heard_by_other == ["later"])
        writer.on_cancel = heard.append
        assert heard == ["early"]
        writer.end(b"")
        other.end(b"")

    def test_it_reaches_a_run_that_has_only_just_begun(self, store: FileStore) -> None:
        missed = []

        def cancel(run_id: str) -> None:
            while True:
                try:
                    store.cancel(run_id, "x")
                    return
                except RunUnknown:
                    pass

        for number in range(100):
            heard, thread = threading.Event(), threading.Thread(target=cancel, args=(f"run-{number}",))
            thread.start()
            writer = store.create(f"run-{number}", {})
            writer.on_cancel = lambda reason, heard=heard: heard.set()
            if not heard.wait(5):
                missed.append(number)
            thread.join()
            writer.end(b"")
        assert missed == []

    def test_what_is_over_is_not_cancelled(self, store: FileStore) -> None:
        store.create("run", {}).abandon()
        assert store.cancel("run", "x") is False
        with pytest.raises(RunUnknown):
            store.cancel("none", "x")

    def test_a_failing_listener_is_logged_and_others_are_told(
        self, store: FileStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        writers, heard = [store.create(name, {}) for name in "ab"], threading.Event()
        writers[0].on_cancel = lambda reason: [][1]
        writers[1].on_cancel = lambda reason: heard.set()
        for name in "ab":
            store.cancel(name, "x")
        assert heard.wait(5)
        assert "IndexError" in caplog.text
        for writer in writers:
            writer.end(b"")
