"""Inotify and polling tell of the same changes."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter

import pytest

from millrace.streaming.files.notifiers import Inotify, Notifier, Polling

Make = Callable[[], Notifier]


@pytest.fixture(params=[Inotify, Polling])
def notifier(request: pytest.FixtureRequest) -> Iterator[Notifier]:
    made = request.param()
    yield made
    made.close()


def test_growth_is_told_for_the_file_that_grew(notifier: Notifier, tmp_path: Path) -> None:
    keys = {}
    for name in "abc":
        (tmp_path / name).write_bytes(b"")
        keys[name] = notifier.add(str(tmp_path / name), "grows")
    assert notifier.wait(0.05).changed == set()
    with (tmp_path / "b").open("ab") as file:
        file.write(b"x")
    assert notifier.wait(5).changed == {keys["b"]}
    assert notifier.wait(0.05).changed == set()


def test_a_change_of_mode_is_told(notifier: Notifier, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    key = notifier.add(str(tmp_path / "a"), "grows")
    (tmp_path / "a").chmod(0o400)
    assert notifier.wait(5).changed == {key}


def test_what_is_removed_is_told_no_more(notifier: Notifier, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    key = notifier.add(str(tmp_path / "a"), "grows")
    notifier.remove(key)
    notifier.remove(key)
    notifier.wait(0.02)
    (tmp_path / "a").write_bytes(b"x")
    assert notifier.wait(0.05).changed == set()


def test_a_file_that_goes_is_told(notifier: Notifier, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    key = notifier.add(str(tmp_path / "a"), "grows")
    (tmp_path / "a").unlink()
    found = notifier.wait(5)
    assert key in found.changed | found.gone


def test_waking_ends_the_wait(notifier: Notifier) -> None:
    started = perf_counter()
    threading.Timer(0.05, notifier.wake).start()
    assert notifier.wait(30).changed == set()
    assert perf_counter() - started < 10
    notifier.wait(0)


def test_closing_is_told_by_inotify(tmp_path: Path) -> None:
    notifier = Inotify()
    descriptor = os.open(tmp_path / "a", os.O_RDWR | os.O_CREAT)
    key = notifier.add(str(tmp_path / "a"), "closes")
    os.close(os.open(tmp_path / "a", os.O_RDONLY))
    assert notifier.wait(0.05).changed == set(), "one that reads is not meant"
    os.close(descriptor)
    assert notifier.wait(5).changed == {key}
    notifier.close()


def test_inotify_watches_neither_links_nor_what_is_not_there(tmp_path: Path) -> None:
    notifier = Inotify()
    with pytest.raises(FileNotFoundError):
        notifier.add(str(tmp_path / "none"), "grows")
    (tmp_path / "a").write_bytes(b"")
    (tmp_path / "link").symlink_to("a")
    notifier.add(str(tmp_path / "link"), "grows")
    (tmp_path / "a").write_bytes(b"x")
    assert notifier.wait(0.05).changed == set()
    notifier.close()


def test_an_overflow_says_that_anything_may_have_changed(tmp_path: Path) -> None:
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    notifier, files = Inotify(), []
    for name in "ab":
        files.append((tmp_path / name).open("ab", buffering=0))
        notifier.add(str(tmp_path / name), "grows")
    for i in range(most + 10):
        files[i % 2].write(b"x")  # in turn, since the kernel joins equal neighbours
    found = notifier.wait(1)
    while not found.unknown and (found.changed or found.gone):
        found = notifier.wait(1)
    assert found.unknown
    for file in files:
        file.close()
    notifier.close()
