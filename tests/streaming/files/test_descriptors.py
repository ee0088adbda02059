"""Open files: only so many, the ones in use among them, and never one closed under somebody's hands."""

from __future__ import annotations

import os
import random
import resource
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from millrace.streaming.files.descriptors import CLOSED, OpenFile, most_open, with_room
from tests.support.leaks import leaks, open_descriptors


@pytest.fixture
def files(tmp_path: Path) -> list[OpenFile]:
    paths = [tmp_path / str(i) for i in range(60)]
    for i, path in enumerate(paths):
        path.write_text(str(i))
    return [OpenFile(partial(os.open, path, os.O_RDONLY)) for path in paths]


@pytest.fixture
def few() -> Iterator[int]:
    """As many files as a process has with `ulimit -n 100`."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, before[1]))
    yield most_open()
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def open_ones(files: list[OpenFile]) -> list[int]:
    return [i for i, file in enumerate(files) if file.descriptor != CLOSED]


def use(file: OpenFile) -> str:
    with file.using() as descriptor:
        return os.pread(descriptor, 10, 0).decode()


def test_the_number_follows_the_process_limit(few: int) -> None:
    assert few == 25
    resource.setrlimit(resource.RLIMIT_NOFILE, (20, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    assert most_open() == 8


def test_the_longest_unused_are_closed(files: list[OpenFile], few: int) -> None:
    for i, file in enumerate(files):
        assert use(file) == str(i)
        assert len(open_ones(files)) <= few
        use(files[0])
    assert open_ones(files)[0] == 0, "it was used all the time"
    assert open_ones(files)[1:] == list(range(60 - few + 1, 60))
    assert [use(file) for file in files] == [str(i) for i in range(60)]


def test_a_file_in_use_stays_open(files: list[OpenFile], few: int) -> None:
    with files[0].using() as descriptor:
        for file in files[1:]:
            use(file)
        assert files[0].descriptor == descriptor
        assert os.pread(descriptor, 10, 0) == b"0"


def test_where_the_process_has_none_left_some_are_closed(
    files: list[OpenFile], few: int, tmp_path: Path
) -> None:
    for file in files[:few]:
        use(file)
    taken: list[int] = []
    try:
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                taken.append(os.open(tmp_path / "0", os.O_RDONLY))
        taken.append(with_room(partial(os.open, tmp_path / "1", os.O_RDONLY)))
        assert len(open_ones(files)) <= few // 2 + 1
    finally:
        for descriptor in taken:
            os.close(descriptor)
    with pytest.raises(FileNotFoundError):
        with_room(partial(os.open, tmp_path / "none", os.O_RDONLY))


def test_dropped_and_closed_files_are_given_back(files: list[OpenFile]) -> None:
    with leaks():
        for file in files:
            use(file)
        before = len(open_descriptors())
        for file in files[:30]:
            file.close()
            file.close()
        assert len(open_descriptors()) == before - 30
        del files[:], file


def test_threads_never_meet_a_foreign_file(files: list[OpenFile], few: int) -> None:
    wrong: list[tuple[int, str]] = []

    def work(seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(1500):
            i = dice.randrange(60)
            if (found := use(files[i])) != str(i):
                wrong.append((i, found))
            if not dice.randrange(50):
                files[dice.randrange(60)].close()

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert wrong == []
    for file in files:
        file.close()
