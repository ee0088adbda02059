"""What a sweep tidies up besides runs, and what it leaves alone."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from millrace.streaming.errors import EventsExpired, RunUnknown
from millrace.streaming.files import FileStore
from tests.streaming.files.support import LOCK, age, file_of, segment, swept_already
from tests.support.leaks import eventually


def test_the_locks_of_dead_writers_go_and_those_of_others_stay(tmp_path: Path) -> None:
    store = FileStore.at(tmp_path)
    writer = store.create("run", {})
    own = [
        path for path in tmp_path.iterdir() if path.suffix in (".lock", ".mail") and path.name != "sweep.lock"
    ]
    assert len(own) == 2
    for path in own:
        age(path, 10_000)
    for name, seconds in ((LOCK, 61), ("1" * 32 + ".lock", 30)):
        for ending in (".lock", ".mail"):
            (tmp_path / name).with_suffix(ending).write_bytes(b"")
            age((tmp_path / name).with_suffix(ending), seconds)
    store.sweep()
    left = {path.name for path in tmp_path.iterdir()} - {"sweep.lock", file_of(tmp_path, "run").name}
    assert left == {*(path.name for path in own), "1" * 32 + ".lock", "1" * 32 + ".mail"}
    assert store.entry("run").state == "live"
    writer.end(b"")


def test_an_expired_run_is_remembered_for_a_day(tmp_path: Path) -> None:
    store = FileStore.at(tmp_path, ttl=10)
    store.create("run", {}).end(b"")
    swept_already()
    age(file_of(tmp_path, "run"), 11)
    assert store.sweep() == 1
    with pytest.raises(EventsExpired):
        store.read("run")
    trace = file_of(tmp_path, "run", ".gone")
    assert trace.read_bytes() == b""
    age(trace, 23 * 3600)
    store.sweep()
    assert trace.exists()
    age(trace, 2 * 3600)
    store.sweep()
    with pytest.raises(RunUnknown):
        store.read("run")


def test_a_lost_run_expires_by_its_last_frame_though_it_is_mended_later(tmp_path: Path) -> None:
    store = FileStore.at(tmp_path)
    file_of(tmp_path, "run").write_bytes(segment("run", [b"1"])[:-1])
    age(file_of(tmp_path, "run"), 3000)
    assert store.sweep() == 0
    assert store.repair("run") == 0, "the sweep has done it"
    age(file_of(tmp_path, "run"), 700)
    assert store.sweep() == 1


def test_damaged_and_foreign_files_stay_for_whoever_wants_to_look(tmp_path: Path) -> None:
    store = FileStore.at(tmp_path, max_bytes=10)
    data = bytearray(segment("damaged", [b"1", b"2"], b"end"))
    data[-100] ^= 1
    for name, content in (("foreign", b"MZ" + bytes(1000)), ("header", b"millrun\x01" + bytes(100))):
        file_of(tmp_path, name).write_bytes(content)
        age(file_of(tmp_path, name), 10**6)
    for name in ("0" * 64 + ".RUN", "0" * 63 + ".run", "x.run", "1" * 64 + ".gone.bak", "core"):
        (tmp_path / name).write_bytes(b"")
        age(tmp_path / name, 10**6)
    before = {path for path in tmp_path.iterdir() if path.suffix != ".lock"}
    assert store.sweep() == 0
    assert {path for path in tmp_path.iterdir() if path.suffix != ".lock"} == before


def test_a_new_run_is_not_taken_for_an_old_one_of_its_name(tmp_path: Path) -> None:
    """Sweeps remember what is over by name and time of change, and make sure before they remove it."""
    store = FileStore.at(tmp_path, ttl=1)
    store.create("run", {}).end(b"")
    swept_already()
    changed = file_of(tmp_path, "run").stat().st_mtime_ns
    assert store.sweep() == 0
    store.delete("run")
    writer = store.create("run", {})
    os.utime(file_of(tmp_path, "run"), ns=(changed, changed))
    eventually(lambda: time.time() > changed / 1e9 + 1.1)
    assert store.sweep() == 0
    writer.append(b"unharmed")
    assert store.read("run").take() == [b"unharmed"]
    writer.end(b"")


def test_a_run_that_was_seen_before_expires_in_time(tmp_path: Path) -> None:
    store = FileStore.at(tmp_path, ttl=0.5)
    store.create("run", {}).end(b"")
    assert store.sweep() == 0
    eventually(lambda: store.sweep() or not list(tmp_path.glob("*.run")))
    with pytest.raises(EventsExpired):
        store.read("run")


def test_a_sweep_does_not_disturb_who_writes(tmp_path: Path) -> None:
    """Runs begin and end all the time while others sweep with the shortest of lives."""
    store, stop = FileStore.at(tmp_path, ttl=1e-6, max_bytes=1), threading.Event()
    sweeper, removed = FileStore.at(tmp_path), []

    def sweep() -> None:
        while not stop.is_set():
            removed.append(sweeper.sweep())

    thread = threading.Thread(target=sweep)
    thread.start()
    roomy = FileStore.at(tmp_path, ttl=1e-6)
    try:
        for i in range(300):
            writer = roomy.create(f"run-{i}", {})
            reader = store.read(writer.run_id)
            writer.append(b"%d" % i)
            writer.end(b"end")
            assert reader.take() == [b"%d" % i, b"end"]
    finally:
        stop.set()
        thread.join()
    sweeper.sweep()
    assert not list(tmp_path.glob("*.run"))
    assert 0 < sum(removed) <= 300


def test_when_a_run_was_followed_last_is_known_until_it_is_removed(tmp_path: Path) -> None:
    store = FileStore.at(tmp_path, ttl=10)
    writer = store.create("run", {})
    assert store.unattended("run") == float("inf")
    store.attend("run")
    seen = file_of(tmp_path, "run", ".seen")
    assert store.unattended("run") < 5
    age(seen, 100)
    looks: list[Callable[[], object]] = [lambda: list(store.runs()), lambda: store.entry("run"), store.sweep]
    for look in (*looks, file_of(tmp_path, "run").read_bytes):
        writer.append(b"more")
        look()
        assert 100 <= store.unattended("run") < 110
    store.attend("run")
    assert store.unattended("run") < 5
    writer.end(b"")
    swept_already()
    age(file_of(tmp_path, "run"), 11)
    assert store.sweep() == 1
    assert not seen.exists()
    for ask in (store.attend, store.unattended):
        with pytest.raises(EventsExpired):
            ask("run")
        with pytest.raises(RunUnknown):
            ask("another")
    assert {path.suffix for path in tmp_path.iterdir()} == {".gone", ".lock", ".mail"}


def test_what_was_followed_while_it_was_removed_leaves_nothing_for_long(tmp_path: Path) -> None:
    store = FileStore.at(tmp_path)
    seen = file_of(tmp_path, "run", ".seen")
    seen.write_bytes(b"")
    store.sweep()
    assert seen.exists()
    age(seen, 61)
    store.sweep()
    assert not seen.exists()
