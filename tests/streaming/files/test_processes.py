"""Several processes on one store."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path

import pytest

from millrace.streaming.files import FileStore
from tests.streaming.files import workers
from tests.streaming.files.support import file_of, read_what_is_there, swept_already

RUNS, FRAMES = 4, 1500


@pytest.mark.slow
def test_16_writers_in_4_processes_with_readers_in_4_others(tmp_path: Path) -> None:
    """Nothing foreign, missing, doubled or out of order."""
    names = [f"process-{i}" for i in range(4)]
    working = [
        workers.start(what, tmp_path, name, RUNS, FRAMES) for name in names for what in ("consume", "produce")
    ]
    for worker in working:
        assert workers.told(worker) == "begun"
    for worker in working:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    said = [workers.finish(worker) for worker in working]
    assert [json.loads(wrong) for wrong in said[::2]] == [[], [], [], []]
    store = FileStore.at(tmp_path)
    entries = list(store.runs())
    assert sorted(entry.run_id for entry in entries) == [f"{name}-{i}" for name in names for i in range(RUNS)]
    assert {(entry.state, entry.frames) for entry in entries} == {("ended", FRAMES + 1)}
    assert len({entry.header["lock"] for entry in entries}) == 4


@pytest.mark.slow
def test_sweeps_of_two_processes_remove_what_they_should_and_nothing_else(tmp_path: Path) -> None:
    store = FileStore.at(tmp_path, ttl=1000)
    live = [store.create(f"live-{i}", {}) for i in range(20)]
    for i, writer in enumerate(live):
        writer.append(b"%d" % i)
        os.utime(file_of(tmp_path, writer.run_id), (1, 1))
    for i in range(300):
        store.create(f"old-{i}", {}).end(b"x")
        store.create(f"new-{i}", {}).end(b"x")
    swept_already()
    for i in range(300):
        os.utime(file_of(tmp_path, f"old-{i}"), (1, 1))
    (tmp_path / "mine.txt").write_text("mine")
    working = [workers.start("sweep", tmp_path, 10**9) for _ in range(2)]
    for worker in working:
        assert workers.told(worker) == "begun"
    for i in range(300, 400):  # and more while they sweep
        store.create(f"old-{i}", {}).end(b"x")
        os.utime(file_of(tmp_path, f"old-{i}"), (1, 1))
    removed = sum(int(workers.finish(worker, "\n")) for worker in working)
    assert removed == 400
    kept = {entry.run_id for entry in store.runs()}
    assert kept == {f"new-{i}" for i in range(300)} | {writer.run_id for writer in live}
    assert (tmp_path / "mine.txt").read_text() == "mine"
    for i, writer in enumerate(live):
        writer.end(b"end")
        assert read_what_is_there(store.read(writer.run_id)) == [b"%d" % i, b"end"]


def test_the_quota_takes_the_oldest_and_no_live_run(tmp_path: Path) -> None:
    store = FileStore.at(tmp_path)
    live = store.create("live", {})
    live.append(bytes(5000))
    swept_already()
    for i in range(20):
        store.create(f"run-{i}", {}).end(bytes(1000))
        os.utime(file_of(tmp_path, f"run-{i}"), (1e9 * 3 + i, 1e9 * 3 + i))
    each = store.entry("run-0").bytes
    worker = workers.start("sweep", tmp_path, live.size + 5 * each + 500)
    assert workers.told(worker) == "begun"
    assert workers.finish(worker, "\n") == "15"
    assert {entry.run_id for entry in store.runs()} == {"live", *(f"run-{i}" for i in range(15, 20))}
    live.end(b"")


@pytest.mark.slow
def test_5000_runs_in_a_process_with_256_descriptors(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        store = FileStore.at(tmp_path)
        writers = [store.create(f"run-{i}", {}) for i in range(5000)]
        readers = [store.read(writer.run_id) for writer in writers]
        for number in range(2):
            for i, writer in enumerate(writers):
                writer.append(b"%d:%d" % (i, number))
        for i, reader in enumerate(readers):
            assert reader.take() == [b"%d:0" % i, b"%d:1" % i]
            writers[i].end(b"end")
        assert len(os.listdir("/proc/self/fd")) < 150
        assert [reader.take() for reader in readers] == [[b"end"]] * 5000
        assert sum(entry.state == "ended" for entry in store.runs()) == 5000
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
