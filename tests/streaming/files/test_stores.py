"""The store as its users see it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millrace.streaming.errors import EventsExpired, QueueError, RunUnknown
from millrace.streaming.files import FileStore
from tests.streaming.files.support import (
    age,
    file_of,
    mode_of,
    read_to_end,
    read_what_is_there,
    swept_already,
)
from tests.support.leaks import leaks


def test_what_is_written_is_read_while_it_is_written_and_after(store: FileStore) -> None:
    writer = store.create("run", {"session": "alice"})
    reader = store.read("run")
    assert reader.take() == []
    writer.append(b"one")
    writer.append(b"")
    assert reader.take() == [b"one", b""]
    writer.end(b"two")
    assert reader.take() == [b"two"]
    assert (reader.ended, reader.lost, reader.number, reader.take()) == (True, False, 3, [])
    assert read_what_is_there(store.read("run")) == [b"one", b"", b"two"]


def test_a_header_tells_who_writes(store: FileStore) -> None:
    store.create("run", {"session": "alice"}).end(b"")
    header = store.header("run")
    assert header["session"] == "alice"
    assert (header["run_id"], header["pid"], header["ttl"]) == ("run", os.getpid(), store.ttl)
    assert header["lock"].endswith(".lock")


@pytest.mark.parametrize(
    ("header", "fault"),
    [({"lock": "x"}, "'lock'"), ({"x": object()}, "JSON"), ({"x": "y" * 2**20}, "1048576")],
)
def test_a_header_that_cannot_be_is_refused_and_leaves_nothing(
    store: FileStore, header: dict[str, object], fault: str
) -> None:
    with pytest.raises(QueueError, match=fault):
        store.create("run", header)
    assert not file_of(store.root, "run").exists()
    store.create("run", {}).end(b"")


def test_a_long_header_is_read(store: FileStore) -> None:
    store.create("run", {"note": "y" * 100_000}).end(b"end")
    assert len(store.header("run")["note"]) == 100_000
    assert store.read("run").take() == [b"end"]


def test_a_run_is_written_once(store: FileStore) -> None:
    store.create("run", {}).end(b"")
    with pytest.raises(QueueError, match="already"):
        store.create("run", {})


@pytest.mark.parametrize(
    "run_id",
    [
        "../x",
        "a/b",
        "/etc/passwd",
        "..",
        ".",
        "\0",
        "a\0b",
        "x" * 10_000,
        "Alice",
        "alice",
        "ä",
        "\ud800",
        "C:",
    ],
)
def test_any_text_is_an_id_and_stays_inside(store: FileStore, run_id: str) -> None:
    before = sorted(Path(store.root).parent.iterdir())
    store.create(run_id, {}).end(run_id.encode("utf-8", "surrogatepass"))
    assert store.read(run_id).take() == [run_id.encode("utf-8", "surrogatepass")]
    assert store.header(run_id)["run_id"] == run_id
    assert [entry.run_id for entry in store.runs()] == [run_id]
    assert sorted(Path(store.root).parent.iterdir()) == before


def test_ids_that_differ_in_case_are_two_runs(store: FileStore) -> None:
    for run_id in ("Alice", "alice"):
        store.create(run_id, {}).end(run_id.encode())
    assert [store.read(run_id).take() for run_id in ("Alice", "alice")] == [[b"Alice"], [b"alice"]]


def test_what_is_no_id_is_refused(store: FileStore) -> None:
    for call in (lambda: store.create("", {}), lambda: store.read(""), lambda: store.cancel("", "x")):
        with pytest.raises(QueueError, match="empty"):
            call()
    with pytest.raises(TypeError, match="int"):
        store.read(7)  # type: ignore[arg-type]


def test_unknown_expired_and_never_said_are_three_errors(tmp_path: Path) -> None:
    store = FileStore.at(tmp_path, ttl=50)
    with pytest.raises(RunUnknown, match="'run'"):
        store.read("run")
    with pytest.raises(RunUnknown, match=r"xxx\.\.\. in"):
        store.read("x" * 1000)
    writer = store.create("run", {})
    writer.append(b"1")
    with pytest.raises(EventsExpired, match=r"after=2: run 'run' has 1 frames so far"):
        store.read("run", after=2)
    writer.end(b"2")
    assert store.read("run", after=2).take() == []
    with pytest.raises(EventsExpired, match=r"after=3"):
        store.read("run", after=3)
    age(file_of(tmp_path, "run"), 60)
    for _ in range(2):
        with pytest.raises(EventsExpired, match="expired"):
            store.read("run")
        assert list(store.runs()) == []
        store.sweep()
    assert not file_of(tmp_path, "run").exists()


@pytest.mark.parametrize("after", [-1, 2.5])
def test_after_is_a_number_of_frames(store: FileStore, after: int) -> None:
    store.create("run", {}).end(b"")
    with pytest.raises(ValueError, match="after="):
        store.read("run", after=after)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(payloads=st.lists(st.binary(max_size=400), max_size=40), data=st.data())
def test_reading_after_any_frame_equals_the_unbroken_read(
    tmp_path: Path, payloads: list[bytes], data: st.DataObject
) -> None:
    store, run_id = FileStore.at(tmp_path), os.urandom(8).hex()
    writer = store.create(run_id, {})
    written = data.draw(st.integers(0, len(payloads)))
    for payload in payloads[:written]:
        writer.append(payload)
    early = [store.read(run_id, after=k) for k in range(written + 1)]
    for payload in payloads[written:]:
        writer.append(payload)
    writer.end(b"end")
    every = [*payloads, b"end"]
    assert [read_what_is_there(reader) for reader in early] == [every[k:] for k in range(written + 1)]
    late = [store.read(run_id, after=k) for k in range(len(every) + 1)]
    assert [read_what_is_there(reader) for reader in late] == [every[k:] for k in range(len(every) + 1)]
    assert all(reader.ended for reader in (*early, *late))


def test_a_large_run_is_taken_in_pieces(store: FileStore) -> None:
    writer = store.create("run", {})
    payloads = [os.urandom(size) for size in (300_000, 10, 255_000, 2_000_000, 0, 100_000, 262_136, 262_137)]
    for payload in payloads:
        writer.append(payload)
    reader = store.read("run")
    first = reader.take()
    assert sum(map(len, first)) <= 300_000
    assert first + read_what_is_there(reader) == payloads
    assert read_what_is_there(store.read("run", after=3)) == payloads[3:]


class TestDelete:
    def test_a_deleted_run_is_unknown(self, store: FileStore) -> None:
        store.create("run", {}).end(b"")
        store.delete("run")
        with pytest.raises(RunUnknown):
            store.read("run")
        with pytest.raises(RunUnknown):
            store.delete("run")
        store.create("run", {}).end(b"again")
        assert store.read("run").take() == [b"again"]

    def test_a_live_run_is_not_deleted(self, store: FileStore) -> None:
        writer = store.create("run", {})
        for call in (store.delete, store.repair):
            with pytest.raises(QueueError, match=f"written by process {os.getpid()}"):
                call("run")
        writer.end(b"")
        store.delete("run")

    def test_who_reads_it_reads_on(self, store: FileStore) -> None:
        writer = store.create("run", {})
        writer.append(b"1")
        writer.end(b"2")
        reader = store.read("run", after=1)
        store.delete("run")
        assert reader.take() == [b"2"]

    def test_who_has_to_open_it_again_is_told(self, store: FileStore) -> None:
        store.create("run", {}).end(b"2")
        reader = store.read("run")
        reader.close()
        store.delete("run")
        with pytest.raises(EventsExpired, match="removed"):
            reader.take()


class TestSettings:
    @pytest.mark.parametrize(
        "wrong",
        [
            {"ttl": 0},
            {"ttl": -1},
            {"ttl": float("inf")},
            {"ttl": float("nan")},
            {"max_bytes": 0},
            {"sync": "often"},
            {"notify": "x"},
        ],
    )
    def test_what_makes_no_sense_is_refused(self, tmp_path: Path, wrong: dict[str, object]) -> None:
        with pytest.raises(ValueError, match=next(iter(wrong))):
            FileStore.at(tmp_path / "runs", **wrong)  # type: ignore[arg-type]
        assert not (tmp_path / "runs").exists()

    def test_the_ttl_is_that_of_the_store_a_run_was_made_by(self, tmp_path: Path) -> None:
        short, long = FileStore.at(tmp_path, ttl=50), FileStore.at(tmp_path)
        for name, store in (("short", short), ("long", long)):
            store.create(name, {}).end(b"")
            swept_already()
            age(file_of(tmp_path, name), 60)
        assert [entry.run_id for entry in short.runs()] == ["long"]
        assert long.sweep() == 1
        assert long.read("long").take() == [b""]

    def test_everything_is_the_owners_alone(self, tmp_path: Path) -> None:
        before = os.umask(0)
        try:
            store = FileStore.at(tmp_path / "a" / "b")
            writer = store.create("run", {})
            store.sweep()
        finally:
            os.umask(before)
        assert mode_of(store.root) == 0o700
        names = {path.suffix: mode_of(path) for path in Path(store.root).iterdir()}
        assert names == {".run": 0o600, ".lock": 0o600, ".mail": 0o600}
        writer.end(b"")

    def test_a_store_to_read_from_is_not_made(self, tmp_path: Path) -> None:
        with pytest.raises(QueueError, match=r"nowhere.*No such file"):
            FileStore.at(tmp_path / "nowhere", make=False)
        assert not (tmp_path / "nowhere").exists()

    def test_sync_always_writes_the_same(self, tmp_path: Path) -> None:
        store = FileStore.at(tmp_path, sync="always")
        writer = store.create("run", {})
        writer.append(b"1")
        writer.end(b"2")
        assert store.read("run").take() == [b"1", b"2"]

    def test_polling_reads_the_same(self, tmp_path: Path) -> None:
        store, found = FileStore.at(tmp_path, notify="poll"), []
        writer = store.create("run", {})
        reading = threading.Thread(target=lambda: found.extend(read_to_end(store.read("run"))))
        reading.start()
        for number in range(200):
            writer.append(b"%d" % number)
        cancelled = threading.Event()
        writer.on_cancel = lambda reason: cancelled.set()
        store.cancel("run", "x")
        assert cancelled.wait(5)
        writer.end(b"end")
        reading.join(10)
        assert found == [*(b"%d" % number for number in range(200)), b"end"]


def test_nothing_is_left_in_the_process(tmp_path: Path) -> None:
    FileStore.at(tmp_path / "warm").create("run", {}).end(b"")
    with leaks():
        store = FileStore.at(tmp_path / "runs")
        for number in range(20):
            writer = store.create(f"run-{number}", {})
            reader = store.read(f"run-{number}")
            reader.watch(lambda: None)
            if number % 2:
                writer.end(b"")
            else:
                writer.abandon()
            reader.close()
        del store, writer, reader
    left = {path.suffix for path in (tmp_path / "runs").iterdir()}
    assert left <= {".run", ".lock"}
    assert [path.name for path in (tmp_path / "runs").glob("*.lock")] in ([], ["sweep.lock"])


def test_only_who_writes_or_removes_loads_filelock(tmp_path: Path) -> None:
    FileStore.at(tmp_path).create("run", {}).end(b"end")
    code = (
        "import sys; from millrace.streaming.files import FileStore; store = FileStore.at(sys.argv[1]); "
        "assert store.read('run').take() == [b'end'] and len(list(store.runs())) == 1; "
        "assert 'filelock' not in sys.modules; store.sweep(); assert 'filelock' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


def test_a_header_is_plain_json_in_the_file(store: FileStore) -> None:
    store.create("run", {"session": "alice"}).end(b"")
    data = file_of(store.root, "run").read_bytes()
    assert data[:8] == b"millrun\x01"
    length = int.from_bytes(data[8:12], "little") & 2**30 - 1
    assert json.loads(data[16 : 16 + length])["session"] == "alice"
