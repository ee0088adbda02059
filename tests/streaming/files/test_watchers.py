"""The thread that waits for changes: it tells those who asked, and ends when nobody does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from millrace.streaming.files.notifiers import Inotify
from millrace.streaming.files.watchers import Watcher
from tests.support.leaks import eventually, leaks


@pytest.fixture(params=["auto", "poll"])
def watcher(request: pytest.FixtureRequest) -> Iterator[Watcher]:
    made = Watcher(request.param)
    yield made
    made.stop()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"")
    return path


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def caught_up(watcher: Watcher) -> None:
    """Waits until the thread has told what has happened so far."""
    done = threading.Event()
    watcher.soon(done.set)
    assert done.wait(5)


def test_all_who_asked_are_told(watcher: Watcher, path: Path) -> None:
    told = {name: threading.Event() for name in "ab"}
    ends = [watcher.watch(str(path), "grows", told[name].set) for name in "ab"]
    grow(path)
    assert all(each.wait(5) for each in told.values())
    ends[0]()
    caught_up(watcher)
    for each in told.values():
        each.clear()
    grow(path)
    assert told["b"].wait(5)
    assert not told["a"].is_set()


def test_a_failing_callback_is_logged_and_others_are_told(
    watcher: Watcher, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = threading.Event()
    watcher.watch(str(path), "grows", lambda: [][1])
    watcher.watch(str(path), "grows", told.set)
    grow(path)
    assert told.wait(5)
    assert "IndexError" in caplog.text


def test_what_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    watcher, told = Watcher("auto"), threading.Event()
    watcher.watch(str(tmp_path / "none"), "grows", told.set)
    assert told.wait(5)
    watcher.stop()


def test_a_file_made_anew_under_its_name_is_watched_anew(watcher: Watcher, path: Path) -> None:
    told, again = threading.Event(), threading.Event()
    watcher.watch(str(path), "grows", told.set)
    path.unlink()
    assert told.wait(5)
    caught_up(watcher)
    path.write_bytes(b"")
    watcher.watch(str(path), "grows", again.set)
    caught_up(watcher)
    again.clear()
    grow(path)
    assert again.wait(5)


def test_soon_and_ticks_come_from_the_same_thread(watcher: Watcher) -> None:
    names: list[str] = []
    watcher.soon(lambda: names.append(threading.current_thread().name))
    end = watcher.every_tick(lambda: names.append(threading.current_thread().name))
    eventually(lambda: len(names) >= 3)
    end()
    assert set(names) == {"millrace-files"}


def test_the_thread_ends_when_nothing_is_watched(path: Path) -> None:
    with leaks():
        watcher = Watcher("auto")
        for _ in range(3):
            watcher.watch(str(path), "grows", lambda: None)()
        eventually(lambda: not any(thread.name == "millrace-files" for thread in threading.enumerate()))
        told = threading.Event()
        end = watcher.watch(str(path), "grows", told.set)  # and is started again
        grow(path)
        assert told.wait(5)
        end()


def test_where_inotify_fails_files_are_looked_at(
    path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watcher, told = Watcher("auto"), threading.Event()
    watcher.watch(str(path), "grows", told.set)
    watcher.watch("/" + "too long" * 1000, "grows", lambda: None)
    assert "looked at every few milliseconds from now on: File name too long" in caplog.text
    other = tmp_path / "other"
    other.write_bytes(b"")
    watcher.watch(str(other), "grows", told.set)
    for each in (path, other):
        caught_up(watcher)
        told.clear()
        grow(each)
        assert told.wait(5)
    watcher.stop()


def test_where_a_user_has_no_more_inotify_files_are_looked_at(path: Path) -> None:
    used_up: list[Inotify] = []
    try:
        with pytest.raises(OSError, match="Too many open files"):
            while len(used_up) < 100_000:
                used_up.append(Inotify())
        watcher, told = Watcher("auto"), threading.Event()
        watcher.watch(str(path), "grows", told.set)
        grow(path)
        assert told.wait(5)
        watcher.stop()
    finally:
        for each in used_up:
            each.close()


def test_changes_that_inotify_does_not_tell_are_seen_all_the_same(tmp_path: Path) -> None:
    """As of files that another machine writes: here a directory takes the place of another."""
    for name, data in (("now", b""), ("then", b"more")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(data)
    watcher, told = Watcher("auto"), threading.Event()
    watcher.watch(str(tmp_path / "now" / "file"), "grows", told.set)
    (tmp_path / "now").rename(tmp_path / "before")
    (tmp_path / "then").rename(tmp_path / "now")
    assert told.wait(5)
    watcher.stop()
