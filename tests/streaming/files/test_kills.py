"""kill -9 of a writing process at random moments: every whole frame is read, none torn, and then the run is lost."""

from __future__ import annotations

import os
import random
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from time import monotonic

import pytest

from millrace.streaming.files import FileStore, SegmentReader
from tests.streaming.files import workers
from tests.streaming.files.support import GRACE, file_of, read_to_end, read_what_is_there, whole

FORKS = get_context("forkserver")
"""Writers come from a process that has imported all they need and has opened nothing: a hundred begin soon."""
FORKS.set_forkserver_preload([workers.__name__])

UNTOLD = 255
"""The exit code of a child whose end the process it was forked from has not told; multiprocessing says so."""

KILLS = 100
SIZES = (200, 5_000, 70_000, 1_000_000)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_kill_9_of_a_writer_a_hundred_times(tmp_path: Path) -> None:
    dice, torn, frames, late = random.Random(9), 0, 0, []

    def kill(number: int) -> None:
        nonlocal torn, frames
        root = tmp_path / str(number)
        runs = [f"{number}-{i}" for i in range(3)]
        worker = FORKS.Process(target=workers.write, args=(root, runs, SIZES), daemon=True)
        worker.start()
        readers = [workers.await_run(FileStore.at(root), run_id) for run_id in runs]
        readings = [Reading(reader) for reader in readers]
        threading.Event().wait(pauses[number])
        killed = monotonic()
        worker.kill()
        for reading in readings:
            taken = reading.result()
            late.append(reading.lost_at - killed)
            data = file_of(root, reading.reader.run_id).read_bytes()
            assert taken == whole(data).payloads
            assert [payload.split(b":")[1] for payload in taken] == [
                b"%d" % (n + 1) for n in range(len(taken))
            ]
            torn += len(data) > whole(data).at
            frames += len(taken)
        worker.join(30)
        assert worker.exitcode in (-signal.SIGKILL, UNTOLD)
        nothing_shows_as_live(root, runs)
        for run_id in runs:
            file_of(root, run_id).unlink()

    pauses = [dice.random() * 0.03 for _ in range(KILLS)]
    with ThreadPoolExecutor(2) as pool:  # while one dies, the next one starts
        list(pool.map(kill, range(KILLS)))
    assert len(late) == 3 * KILLS
    assert sorted(late)[len(late) * 9 // 10] < GRACE
    assert max(late) < 3 * GRACE, "even where other work keeps this process waiting"
    assert torn > KILLS // 10, "the kills have met no write, and so have shown nothing"
    assert frames > 10 * KILLS


class Reading:
    """A reader in a thread of its own."""

    def __init__(self, reader: SegmentReader) -> None:
        self.reader = reader
        self.lost_at = 0.0
        self._found: list[bytes] = []
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        self._found = read_to_end(self.reader)
        self.lost_at = monotonic()

    def result(self) -> list[bytes]:
        self._thread.join(60)
        assert self.reader.lost
        self.reader.close()
        return self._found


def nothing_shows_as_live(root: Path, runs: list[str]) -> None:
    """As a process that is started later sees it: everything lost, mended by its first sweep, and the same frames."""
    store = FileStore.at(root)
    before = {run_id: read_what_is_there(store.read(run_id)) for run_id in runs}
    assert {entry.run_id: entry.state for entry in store.runs()} == dict.fromkeys(runs, "lost")
    assert store.sweep() == 0
    for run_id in runs:
        found = whole(file_of(root, run_id).read_bytes())
        assert (found.payloads, found.closed) == (before[run_id], True)
        reader = store.read(run_id)
        assert read_what_is_there(reader) == before[run_id]
        assert reader.lost
        assert store.repair(run_id) == 0


def test_a_writer_killed_while_it_begins_leaves_nothing_to_read(tmp_path: Path) -> None:
    store = FileStore.at(tmp_path)
    path = file_of(tmp_path, "run")
    path.write_bytes(b"millrun\x01\x20")
    assert list(store.runs()) == []
    assert store.sweep() == 0
    assert path.exists()  # it may still be writing
    os.utime(path, (1, 1))
    store.sweep()
    assert not path.exists()
