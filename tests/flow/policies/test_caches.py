from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace import step
from millrace.flow.policies import Cache, Entry, FileCache, MemoryCache
from millrace.flow.policies.caches import size_of
from millrace.flow.policies.opening import open_cache
from millrace.streaming import FlowBuildError
from tests.support.leaks import eventually


def test_it_keeps_and_forgets() -> None:
    cache = MemoryCache()
    assert cache.get("a") is None
    cache.put("a", Entry(None, ["x"], "stop"))
    found = cache.get("a")
    assert found is not None
    assert (found.value, found.pieces, found.reason) == (None, ["x"], "stop")
    assert len(cache) == 1
    cache.clear()
    assert (cache.get("a"), len(cache), cache.bytes) == (None, 0, 0)


def test_the_least_recently_used_goes_first() -> None:
    cache = MemoryCache(3)
    for key in "abc":
        cache.put(key, Entry(key))
    cache.get("a")
    cache.put("d", Entry("d"))
    assert [key for key in "abcd" if cache.get(key)] == ["a", "c", "d"]


def test_bytes_are_bounded_and_what_is_too_large_is_not_kept() -> None:
    cache = MemoryCache(max_bytes="10k")
    for i in range(100):
        cache.put(i, Entry("x" * 1000))
        assert cache.bytes <= 10240
    assert 5 <= len(cache) <= 10
    cache.put("large", Entry("x" * 20000))
    assert cache.get("large") is None
    assert cache.get(99) is not None
    cache.put(99, Entry("x" * 20000))
    assert cache.get(99) is None  # never an old value


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3000)), max_size=80), st.integers(1, 5))
def test_its_accounts_are_right(puts: list[tuple[int, int]], entries: int) -> None:
    cache = MemoryCache(entries, max_bytes=5000)
    last: dict[int, str] = {}
    for key, length in puts:
        last[key] = "x" * length
        cache.put(key, Entry(last[key]))
        assert cache.bytes <= 5000
        assert len(cache) <= entries
        found = cache.get(key)
        assert found is None or found.value == last[key]
    kept = [found for key in last if (found := cache.get(key)) is not None]
    assert cache.bytes == sum(size_of(entry.value) + size_of(None) for entry in kept)
    assert len(kept) == len(cache)


def test_a_value_is_good_for_a_time() -> None:
    short, long = MemoryCache(ttl="20ms"), MemoryCache(ttl="1h")
    for cache in (short, long):
        cache.put("a", Entry(1))
    eventually(lambda: short.get("a") is None)
    assert (len(short), short.bytes) == (0, 0)
    assert long.get("a") is not None


def test_sizes_count_what_is_inside_once() -> None:
    text = "x" * 10000
    assert 10000 < size_of(text) < 10100
    assert 10000 < size_of([text, text, {"a": text}]) < 11000
    assert size_of({"a": ["x" * 500, ("y" * 500,)]}) > 1000
    loop: list[Any] = []
    loop.append(loop)
    assert size_of(loop) > 0


def test_from_many_threads() -> None:
    cache = MemoryCache(10, max_bytes=20000)

    def work(i: int) -> None:
        for j in range(300):
            cache.put((i + j) % 17, Entry("x" * (j % 50)))
            cache.get(j % 17)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(cache) <= 10
    assert cache.bytes == sum(size_of(e.value) + size_of(None) for k in range(17) if (e := cache.get(k)))


# ---------------------------------------------------------------- what cache= takes


def test_what_names_a_cache(tmp_path: Any) -> None:
    assert isinstance(open_cache(True), MemoryCache)
    assert not open_cache(True).shared
    assert open_cache("shared").shared
    one = MemoryCache()
    assert open_cache(one) is one
    memory: Any = open_cache("memory://?entries=5&max_bytes=1k&ttl=2m&shared=true")
    assert (memory.entries, memory.max_bytes, memory.ttl, memory.shared) == (5, 1024, 120.0, True)
    url = f"file://{tmp_path}/a%20b?ttl=1h&max_bytes=1g&shared=yes"
    file: Any = open_cache(url)
    assert isinstance(file, FileCache)
    assert file.directory == tmp_path / "a b"
    assert (file.ttl, file.max_bytes, file.shared) == (3600.0, 1 << 30, True)
    assert open_cache(url) is file
    assert open_cache("memory://") is not open_cache("memory://")
    assert not (tmp_path / "a b").exists()  # nothing is written before there is a value


@pytest.mark.parametrize(
    ("given", "cure"),
    [
        (3, "cache=3: give True"),
        ("yes", "cache='yes': give True"),
        ("redis://host/0", "there is no cache redis://; use memory:// or file://"),
        ("memory://x", "a cache in memory has no place"),
        ("memory://?size=3", "no option 'size'; there is entries, max_bytes, ttl, shared"),
        ("memory://?entries=many", "entries is a whole number"),
        ("memory://?entries=0", "entries=0"),
        ("memory://?ttl=soon", "'soon' is not a time"),
        ("memory://?shared=perhaps", "shared is true or false"),
        ("file://relative/dir", "after three slashes"),
        ("file://", "after three slashes"),
        ("file:///tmp/x?max_bytes=-1", "'-1' is not a size"),
        ("file:///dev/null", "there is a file of that name"),
    ],
)
def test_what_names_none(given: Any, cure: str) -> None:
    with pytest.raises(FlowBuildError, match=cure):
        step(str, cache=given)


@pytest.mark.parametrize(
    "make",
    [
        lambda: MemoryCache(0),
        lambda: MemoryCache(True),
        lambda: MemoryCache(max_bytes=0),
        lambda: MemoryCache(ttl=-1),
        lambda: MemoryCache(key="id"),
        lambda: FileCache(""),
        lambda: FileCache(3),
        lambda: FileCache("/tmp/x", max_bytes="much"),
        lambda: FileCache("/tmp/x", ttl="0"),
    ],
)
def test_settings_that_cannot_be(make: Callable[[], Cache]) -> None:
    with pytest.raises(FlowBuildError, match=r"(MemoryCache|FileCache)\("):
        make()
