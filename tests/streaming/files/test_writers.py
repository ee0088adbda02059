"""Writing: what happens when it fails, is left, or is called from many threads."""

from __future__ import annotations

import os
import resource
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from millrace.streaming.errors import QueueError
from millrace.streaming.files import FileStore
from tests.streaming.files.support import (
    file_of,
    mode_of,
    read_to_end,
    read_what_is_there,
    segment,
    swept_already,
    whole,
)
from tests.support.leaks import eventually


@contextmanager
def disk_full_at(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: the write that passes it is cut, the next one fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_segment_is_what_the_page_says(tmp_path: Path) -> None:
    store = FileStore.at(tmp_path)
    writer = store.create("run", {})
    for payload in (b"one", b"", b"three"):
        writer.append(payload)
    assert writer.size == file_of(tmp_path, "run").stat().st_size
    writer.end(b"end")
    data, lock = file_of(tmp_path, "run").read_bytes(), store.header("run")["lock"]
    frames = segment("run", [b"one", b"", b"three"])
    assert frames[len(segment("run", [])) :] in data
    assert whole(data).payloads == [b"one", b"", b"three", b"end"]
    assert whole(data).closed
    assert data.endswith(bytes.fromhex(lock[:32]))


@pytest.mark.parametrize("missing", range(0, 60, 7))
def test_a_full_disk_tears_no_frame(tmp_path: Path, missing: int) -> None:
    store = FileStore.at(tmp_path)
    writer = store.create("run", {})
    reader = store.read("run")
    writer.append(b"before")
    with disk_full_at(writer.size + missing):
        for _ in range(2):
            with pytest.raises(QueueError, match=r"'run' could not be written: File too large"):
                writer.append(b"x" * 60)
    assert writer.frames == 1
    assert reader.take() == [b"before"]
    writer.append(b"after")
    writer.end(b"end")
    assert reader.take() == [b"after", b"end"]
    assert store.entry("run").frames == 3


def test_a_run_that_cannot_even_be_closed_is_lost_all_the_same(tmp_path: Path) -> None:
    store, found = FileStore.at(tmp_path), []
    writer = store.create("run", {})
    writer.append(b"before")
    swept_already()
    reader = store.read("run")
    reading = threading.Thread(target=lambda: found.extend(read_to_end(reader, 10)))
    reading.start()
    with disk_full_at(writer.size):
        with pytest.raises(QueueError, match="File too large"):
            writer.end(b"end")
        writer.abandon()
    reading.join(10)
    assert (found, reader.lost) == ([b"before"], True)
    assert mode_of(file_of(tmp_path, "run")) == 0o400
    assert store.entry("run").state == "lost"
    assert store.sweep() == 0
    assert read_what_is_there(store.read("run")) == [b"before"]
    os.utime(file_of(tmp_path, "run"), (1, 1))
    assert store.sweep() == 1


def test_no_run_begins_on_a_full_disk(tmp_path: Path) -> None:
    store = FileStore.at(tmp_path)
    store.create("warm", {}).end(b"")
    with disk_full_at(50), pytest.raises(QueueError, match=r"'run' cannot be made"):
        store.create("run", {})
    assert not file_of(tmp_path, "run").exists()
    store.create("run", {}).end(b"")


@pytest.mark.parametrize("how", ["end", "abandon"])
def test_a_closed_writer_says_why_it_writes_no_more(tmp_path: Path, how: str) -> None:
    writer = FileStore.at(tmp_path).create("run", {})
    if how == "end":
        writer.end(b"")
    else:
        writer.abandon()
    size = file_of(tmp_path, "run").stat().st_size
    for call in (writer.append, writer.end):
        with pytest.raises(
            QueueError, match=r"nothing can be added to run 'run': it (has ended|was abandoned)"
        ):
            call(b"x")
    writer.abandon()
    assert file_of(tmp_path, "run").stat().st_size == size


def test_a_dropped_writer_abandons_its_run(tmp_path: Path) -> None:
    store = FileStore.at(tmp_path)
    writer = store.create("run", {})
    writer.append(b"1")
    assert store.entry("run").state == "live"
    del writer
    eventually(lambda: store.entry("run").state == "lost")
    assert store.entry("run").frames == 1


def test_a_file_that_was_removed_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    writer = FileStore.at(tmp_path).create("run", {})
    file_of(tmp_path, "run").unlink()
    writer.append(b"1")
    writer.end(b"2")
    assert "the file of run 'run' was removed while it was written" in caplog.text


def test_threads_may_write_into_one_run(tmp_path: Path) -> None:
    store = FileStore.at(tmp_path)
    writer = store.create("run", {})
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [
            threading.Thread(target=lambda n=n: [writer.append(b"%d:%d" % (n, i)) for i in range(500)])
            for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    writer.end(b"end")
    found = read_what_is_there(store.read("run"))
    for n in range(4):
        assert [each for each in found if each.startswith(b"%d:" % n)] == [
            b"%d:%d" % (n, i) for i in range(500)
        ]
    assert len(found) == store.entry("run").frames == 2001
