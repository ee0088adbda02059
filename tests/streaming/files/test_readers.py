"""Reading segments that are cut, torn, damaged, or whose writer is gone."""

from __future__ import annotations

import os
import random
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millrace.streaming.errors import QueueError, RunUnknown
from millrace.streaming.files import FileStore
from tests.streaming.files import workers
from tests.streaming.files.support import (
    DATA,
    END,
    FOOTER,
    HEADER,
    file_of,
    frame,
    read_to_end,
    read_what_is_there,
    segment,
    start_of,
    whole,
)
from tests.support.leaks import eventually

PAYLOADS = [b"first", b"", b"x" * 40, bytes(16), b"last but one"]


def is_repaired(store: FileStore, run_id: str, data: bytes) -> None:
    """Reads a segment as it was left by a dead writer, repairs it, and reads it again."""
    path, expected = file_of(store.root, run_id), whole(data)
    path.write_bytes(data)
    os.utime(path, (1e9 * 3, 1e9 * 3))
    for repaired in (False, True):
        reader = store.read(run_id)
        assert read_what_is_there(reader) == expected.payloads
        assert (reader.ended, reader.lost) == (expected.ended, not expected.ended)
        reader.close()
        if not repaired:
            rest = 0 if expected.closed else len(data) - expected.at
            assert store.repair(run_id) == rest
            assert path.stat().st_mtime == 3e9
    mended = path.read_bytes()
    assert mended[: expected.at] == data[: expected.at]
    assert len(mended) == expected.at + 40
    assert whole(mended).closed
    assert store.repair(run_id) == 0
    entry = store.entry(run_id)
    assert (entry.state, entry.frames) == ("ended" if expected.ended else "lost", len(expected.payloads))


def test_a_segment_cut_at_any_byte_is_repaired_to_its_last_whole_frame(tmp_path: Path) -> None:
    store, data = FileStore.at(tmp_path), segment("run", PAYLOADS, b"the end")
    header = len(start_of("run"))
    for cut in range(len(data)):
        if cut < header:
            file_of(tmp_path, "run").write_bytes(data[:cut])
            for call in (store.read, store.repair, store.header):
                with pytest.raises(RunUnknown):
                    call("run")
        else:
            is_repaired(store, "run", data[:cut])


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    payloads=st.lists(st.binary(max_size=600), max_size=20),
    end=st.none() | st.binary(max_size=20),
    data=st.data(),
)
def test_any_segment_cut_anywhere(
    tmp_path: Path, payloads: list[bytes], end: bytes | None, data: st.DataObject
) -> None:
    made = segment("run", payloads, end)
    cut = data.draw(st.integers(len(start_of("run")), len(made) - (end is not None)))
    zeros = data.draw(st.sampled_from([0, 0, 1, 8, 5000]))  # a loss of power may leave these
    is_repaired(FileStore.at(tmp_path), "run", made[:cut] + bytes(zeros))


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("closed", [False, True])
def test_a_flipped_bit_harms_what_stands_behind_it_in_this_run_alone(
    tmp_path: Path, live: bool, closed: bool
) -> None:
    store = FileStore.at(tmp_path)
    holder = store.create("other", {})
    lock = store.header("other")["lock"] if live else "f" * 32 + ".lock"
    data = bytearray(segment("run", PAYLOADS, b"the end" if closed else None, lock))
    if closed:  # the footer carries the mark of its lock
        data = data[:-16] + bytes.fromhex(lock[:32])
        closing = whole(bytes(data)).at
        data[closing:] = frame(FOOTER, bytes(data[closing + 8 :]))
    at = len(start_of("run", lock)) + 8 + 5 + 8 + 8 + 3  # within the third payload
    data[at] ^= 1
    file_of(tmp_path, "run").write_bytes(data)
    reader = store.read("run")
    assert reader.take() == PAYLOADS[:2]
    if live or closed:
        for _ in range(2):
            with pytest.raises(QueueError, match=r"damaged at byte \d+, behind frame 2") as caught:
                reader.take()
            assert str(file_of(tmp_path, "run")) in str(caught.value)
        with pytest.raises(QueueError, match="damaged"):
            store.read("run", after=3)
    else:
        assert (reader.take(), reader.lost) == ([], True)
    assert not reader.ended
    if not live:
        assert store.repair("run") == 0
        assert file_of(tmp_path, "run").read_bytes() == data
    holder.append(b"unharmed")
    assert store.read("other").take() == [b"unharmed"]
    holder.end(b"")


def test_a_second_header_is_damage(tmp_path: Path) -> None:
    store = FileStore.at(tmp_path)
    file_of(tmp_path, "run").write_bytes(segment("run", [b"1"]) + frame(HEADER, b"{}") + frame(DATA, b"2"))
    reader = store.read("run")
    assert reader.take() == [b"1"]
    with pytest.raises(QueueError, match="damaged"):
        reader.take()


@pytest.mark.parametrize("junk", [frame(FOOTER, b"short"), b"\xff" * 30])
def test_junk_of_a_dead_writer_is_not_given_as_a_frame(tmp_path: Path, junk: bytes) -> None:
    store = FileStore.at(tmp_path)
    file_of(tmp_path, "run").write_bytes(segment("run", [b"1"]) + junk + frame(DATA, b"2"))
    reader = store.read("run")
    assert read_what_is_there(reader) == [b"1"]
    assert reader.lost


def test_what_stands_behind_the_end_is_not_read(tmp_path: Path) -> None:
    store = FileStore.at(tmp_path)
    file_of(tmp_path, "run").write_bytes(segment("run", [b"1"]) + frame(END, b"end") + frame(DATA, b"2"))
    reader = store.read("run")
    assert read_what_is_there(reader) == [b"1", b"end"]
    assert reader.ended
    assert store.entry("run").last == b"end"


def test_bytes_of_a_frame_that_is_being_written_are_waited_for(tmp_path: Path) -> None:
    store = FileStore.at(tmp_path)
    writer = store.create("run", {})
    reader, data, told = store.read("run"), frame(DATA, b"x" * 1000), threading.Event()
    with file_of(tmp_path, "run").open("ab", buffering=0) as file:
        for at in range(0, len(data), 100):
            assert reader.take() == []
            reader.watch(told.set)
            file.write(data[at : at + 100])
            assert told.wait(5)
            told.clear()
    assert reader.take() == [b"x" * 1000]
    assert not reader.lost
    reader.close()
    writer.end(b"")  # finds bytes that are not its own count's, and counts again
    assert store.entry("run").frames == 2


class TestLost:
    def test_a_run_that_was_left(self, tmp_path: Path) -> None:
        store = FileStore.at(tmp_path)
        writer = store.create("run", {})
        reader = store.read("run")
        writer.append(b"1")
        writer.abandon()
        assert (reader.take(), reader.lost) == ([b"1"], True)
        assert (reader.take(), reader.ended) == ([], False)

    def test_a_waiting_reader_is_told_of_it(self, tmp_path: Path) -> None:
        store, told = FileStore.at(tmp_path), threading.Event()
        writer = store.create("run", {})
        reader = store.read("run")
        assert reader.take() == []
        reader.watch(told.set)
        writer.abandon()
        assert told.wait(5)
        assert (reader.take(), reader.lost) == ([], True)
        reader.close()

    @pytest.mark.parametrize("notify", ["auto", "poll"])
    def test_a_killed_writer(self, tmp_path: Path, notify: str) -> None:
        worker = workers.start("hold", tmp_path, "run", "1", "2")
        assert workers.told(worker) == "begun"
        reader = FileStore.at(tmp_path, notify=notify).read("run")  # type: ignore[arg-type]
        assert reader.take() == [b"1", b"2"]
        assert (reader.take(), reader.lost) == ([], False)
        threading.Timer(0.05, worker.kill).start()
        assert read_to_end(reader, timeout=5) == []
        assert reader.lost
        workers.finish_killed(worker)

    def test_a_stopped_writer_is_not_dead(self, tmp_path: Path) -> None:
        worker = workers.start("hold", tmp_path, "run", "1")
        assert workers.told(worker) == "begun"
        store = FileStore.at(tmp_path)
        reader, told = store.read("run", after=1), threading.Event()
        os.kill(worker.pid, 19)
        reader.watch(told.set)
        assert not told.wait(0.6)
        assert (reader.take(), reader.lost, store.entry("run").state) == ([], False, "live")
        os.kill(worker.pid, 18)
        assert workers.finish(worker, "end\n") == ""
        assert read_to_end(reader) == [b"the end"]

    def test_a_writer_that_ends_with_its_process(self, tmp_path: Path) -> None:
        worker = workers.start("hold", tmp_path, "run", "1")
        assert workers.told(worker) == "begun"
        reader = FileStore.at(tmp_path).read("run")
        assert workers.finish(worker) == ""
        assert read_to_end(reader) == [b"1"]
        assert reader.lost


def test_watching_calls_once_until_the_next_take(tmp_path: Path) -> None:
    store, calls = FileStore.at(tmp_path), []
    writer = store.create("run", {})
    reader, other = store.read("run"), store.read("run")
    seen = threading.Event()
    unwatch = reader.watch(lambda: calls.append(threading.current_thread().name))
    writer.append(b"1")
    eventually(lambda: calls)
    for _ in range(20):
        writer.append(b"more")
        other.watch(seen.set)  # its call comes behind the reader's, if that had one
        assert seen.wait(5)
        seen.clear()
        other.take()
    assert calls == ["millrace-files"]
    assert len(reader.take()) == 21
    writer.append(b"2")
    eventually(lambda: len(calls) == 2)
    unwatch()
    reader.take()
    writer.append(b"3")
    other.watch(seen.set)
    assert seen.wait(5)
    assert len(calls) == 2
    for each in (reader, other):
        each.close()
    writer.end(b"")


@pytest.mark.parametrize("state", ["more", "ended", "lost", "over"])
def test_watching_calls_at_once_when_there_is_something(tmp_path: Path, state: str) -> None:
    store, told = FileStore.at(tmp_path), threading.Event()
    if state == "lost":
        file_of(tmp_path, "run").write_bytes(segment("run", []))
    else:
        writer = store.create("run", {})
    reader = store.read("run")
    if state == "more":
        writer.append(b"1")
    elif state != "lost":
        writer.end(b"1")
    if state == "over":
        reader.take()
    reader.watch(told.set)
    assert told.wait(5)
    reader.close()
    if state == "more":
        writer.end(b"")


def test_many_readers_of_one_run(tmp_path: Path) -> None:
    store, found = FileStore.at(tmp_path), {}
    writer, dice = store.create("run", {}), random.Random(1)
    payloads = [dice.randbytes(dice.randrange(500)) for _ in range(500)]

    def read(number: int) -> None:
        found[number] = read_to_end(store.read("run"))

    threads = [threading.Thread(target=read, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for payload in payloads:
        writer.append(payload)
    writer.end(b"end")
    for thread in threads:
        thread.join(30)
    assert [found[number] == [*payloads, b"end"] for number in range(8)] == [True] * 8
