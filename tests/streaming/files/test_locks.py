"""Locks and who looks at them."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from millrace.streaming.files import FileStore
from millrace.streaming.files.folders import Folder
from millrace.streaming.files.locks import WriterLock, is_held
from millrace.streaming.files.peers import Peers
from tests.streaming.files import workers
from tests.streaming.files.support import GRACE, LOCK
from tests.support.leaks import eventually, leaks


def test_a_lock_is_held_until_it_is_dropped(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    WriterLock.take(folder).drop()
    with leaks():
        lock = WriterLock.take(folder)
        assert [is_held(folder, lock.name) for _ in range(3)] == [True] * 3
        other = WriterLock.take(folder)
        assert other.name != lock.name
        lock.drop()
        assert not is_held(folder, lock.name)
        assert is_held(folder, other.name)
        other.drop()
    assert folder.names() == []


def test_a_lock_that_is_free_gone_or_no_file_is_not_held(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    assert not is_held(folder, LOCK)
    (tmp_path / LOCK).write_bytes(b"")
    assert not is_held(folder, LOCK)
    (tmp_path / LOCK).unlink()
    (tmp_path / LOCK).mkdir()
    assert not is_held(folder, LOCK)


def test_those_who_look_do_not_disturb_each_other(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    (tmp_path / LOCK).write_bytes(b"")
    found: list[bool] = []

    def look() -> None:
        found.extend(is_held(folder, LOCK) for _ in range(2000))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8000
    assert not any(found)


def test_all_who_follow_are_told_of_a_death(tmp_path: Path) -> None:
    worker = workers.start("hold", tmp_path, "run")
    assert workers.told(worker) == "begun"
    lock = FileStore.at(tmp_path).header("run")["lock"]
    peers, told = Peers(Folder(str(tmp_path)), "auto"), [threading.Event() for _ in range(3)]
    ends = [peers.follow(lock, each.set) for each in told]
    ends[1]()
    ends[1]()
    assert peers.lives(lock)
    worker.kill()
    assert told[0].wait(GRACE)
    assert told[2].wait(GRACE)
    assert not told[1].is_set()
    eventually(lambda: not peers.lives(lock))
    for end in ends:
        end()
    workers.finish_killed(worker)


def test_many_dead_are_remembered_only_so_long(tmp_path: Path) -> None:
    peers = Peers(Folder(str(tmp_path)), "auto")
    for _ in range(3000):
        assert not peers.lives(os.urandom(16).hex() + ".lock")
