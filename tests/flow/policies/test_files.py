from __future__ import annotations

import json
import math
import os
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.flow.policies import Entry, FileCache
from millrace.flow.policies.keys import digest

KEY = digest("a key")

plain_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@settings(deadline=None)
@given(value=plain_json, pieces=st.none() | st.lists(plain_json, max_size=3))
def test_what_it_keeps_comes_back_equal(directory: Path, value: Any, pieces: Any) -> None:
    cache = FileCache(directory)
    cache.put(KEY, Entry(value, pieces, "stop"))
    found = FileCache(directory).get(KEY)
    assert found is not None
    assert repr((found.value, found.pieces, found.reason)) == repr((value, pieces, "stop"))


def test_lone_surrogates_pass(tmp_path: Path) -> None:
    cache = FileCache(tmp_path)
    cache.put(KEY, Entry("a\ud83d", ["a", "\ud83d"]))
    found = cache.get(KEY)
    assert found is not None
    assert found.value == "a\ud83d"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ((1, 2), "it is a tuple"),
        ([1, {"a": {1}}], r"its\[1\]\['a'\] is a set"),
        ({1: "a"}, "has the key 1, and JSON has text for keys alone"),
        (b"x", "it is a bytes"),
        (math.nan, "it is nan"),
        (math.inf, "it is inf"),
        (object(), "it is a object"),
        ([10**5000], "JSON cannot hold it"),
    ],
)
def test_what_is_no_json_is_refused_by_name(tmp_path: Path, value: Any, message: str) -> None:
    cache = FileCache(tmp_path)
    with pytest.raises(TypeError, match=message):
        cache.put(KEY, Entry(value))
    with pytest.raises(TypeError, match="its piece "):
        cache.put(KEY, Entry("", [b"x"]))
    assert list(tmp_path.iterdir()) == []


def test_too_deep_is_refused(tmp_path: Path) -> None:
    deep: list[Any] = []
    for _ in range(100000):
        deep = [deep]
    with pytest.raises(TypeError, match="JSON cannot hold it"):
        FileCache(tmp_path).put(KEY, Entry(deep))


def test_it_is_for_its_owner_alone(tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "a" / "b")
    os.umask(0o022)
    cache.put(KEY, Entry("secret"))
    path = cache.path_of(KEY)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(cache.directory.stat().st_mode) == 0o700
    assert "secret" not in str(path)


def test_links_are_not_followed(tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "cache")
    cache.put(KEY, Entry("mine"))
    path, elsewhere = cache.path_of(KEY), tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    with pytest.raises(OSError, match="symbolic"):
        cache.get(KEY)
    cache.put(KEY, Entry("new"))  # takes the link's place
    assert "mine" in elsewhere.read_text()
    assert not path.is_symlink()


@pytest.mark.parametrize("cut", [0, 1, 20, -1])
def test_a_torn_file_is_no_value_and_goes(tmp_path: Path, cut: int) -> None:
    cache = FileCache(tmp_path)
    cache.put(KEY, Entry("x" * 100))
    path = cache.path_of(KEY)
    path.write_bytes(path.read_bytes()[:cut])
    assert cache.get(KEY) is None
    assert not path.exists()


@pytest.mark.parametrize("content", ["[]", "{}", '{"version": 99}', "3", '{"value": 1}', "\xff"])
def test_a_file_of_somebody_elses_is_no_value(tmp_path: Path, content: str) -> None:
    cache = FileCache(tmp_path)
    cache.put(KEY, Entry(1))
    cache.path_of(KEY).write_text(content, encoding="latin-1")
    assert cache.get(KEY) is None


def test_a_value_is_good_for_a_time(tmp_path: Path) -> None:
    cache = FileCache(tmp_path, ttl="1h")
    cache.put(KEY, Entry(1))
    path = cache.path_of(KEY)
    kept = json.loads(path.read_text())
    path.write_text(json.dumps({**kept, "made": time.time() - 3500}))
    assert cache.get(KEY) is not None
    path.write_text(json.dumps({**kept, "made": time.time() - 3700}))
    assert cache.get(KEY) is None
    assert not path.exists()


def test_the_sweep_keeps_what_was_used_last(tmp_path: Path) -> None:
    cache = FileCache(tmp_path, max_bytes="10k", ttl=10000)
    keys = [digest(i) for i in range(30)]
    for i, key in enumerate(keys):
        cache.put(key, Entry("x" * 900))
        if cache.path_of(key).exists():
            os.utime(cache.path_of(key), (0, time.time() - 5000 + i))
    cache.get(keys[-12])  # used again
    half_written = cache.path_of(keys[0]).with_suffix(".new")
    half_written.parent.mkdir(exist_ok=True)
    half_written.write_text("left by a process that died")
    os.utime(half_written, (0, time.time() - 4000))
    expired = tmp_path / "00" / ("0" * 62 + ".json")
    expired.parent.mkdir(exist_ok=True)
    expired.write_text("{}")
    os.utime(expired, (0, time.time() - 20000))
    cache.sweep()
    there = [i for i, key in enumerate(keys) if cache.path_of(key).exists()]
    assert not half_written.exists()
    assert not expired.exists()
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.json")) <= 10240
    assert there[-8:] == list(range(22, 30))


def test_a_value_that_is_used_is_not_the_oldest(tmp_path: Path) -> None:
    cache = FileCache(tmp_path)
    cache.put(KEY, Entry(1))
    path = cache.path_of(KEY)
    os.utime(path, (0, time.time() - 5000))
    assert cache.get(KEY) is not None
    assert path.stat().st_mtime > time.time() - 100


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    cache = FileCache(tmp_path)
    cache.path_of(KEY).mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        cache.put(KEY, Entry(1))
    assert list(tmp_path.rglob("*.new")) == []


def test_writing_sweeps_now_and_then(tmp_path: Path) -> None:
    cache = FileCache(tmp_path, max_bytes="20k")
    for i in range(200):
        cache.put(digest(i), Entry("x" * 500))
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.json")) <= 20480 * 1.1
    cache.put(KEY, Entry("x" * 30000))
    assert cache.get(KEY) is None  # larger than all of it


@pytest.mark.slow
def test_several_processes_write_and_read_one_directory(tmp_path: Path) -> None:
    """Whole values or none, whoever writes, sweeps and reads at the same time."""
    code = textwrap.dedent(
        """
        import random, sys
        from millrace.flow.policies import Entry, FileCache
        from millrace.flow.policies.keys import digest
        cache, rnd = FileCache(sys.argv[1], max_bytes=60000), random.Random(int(sys.argv[2]))
        found = 0
        for _ in range(1500):
            i = rnd.randrange(40)
            entry = cache.get(digest(i))
            if entry is None:
                cache.put(digest(i), Entry([i] * (500 + i)))
            else:
                found += 1
                assert entry.value == [i] * (500 + i)
        print(found)
        """
    )
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), str(seed)], stdout=subprocess.PIPE, text=True
        )
        for seed in range(4)
    ]
    found = [int(writer.communicate(timeout=60)[0]) for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * 4
    assert sum(found) > 500
    assert not list(tmp_path.rglob("*.new"))
