"""Caches: where the values of a step are kept, in memory or elsewhere, and under which keys."""

from __future__ import annotations

import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from copy import deepcopy
from dataclasses import fields, is_dataclass
from typing import Any

from ...streaming.errors import FlowBuildError
from ...streaming.units import bytes_of, seconds_of
from .flights import Flights

__all__ = ["Cache", "Entry", "MemoryCache"]


class Entry:
    """What a cache keeps of one call.

    `pieces` are what the value came in, if it was streamed; `reason` is why a model stopped.
    """

    __slots__ = ("pieces", "reason", "value")

    def __init__(self, value: Any, pieces: list[Any] | None = None, reason: str | None = None) -> None:
        self.value = value
        self.pieces = pieces
        self.reason = reason

    def copy(self) -> Entry:
        """One that shares nothing with this one, so that no caller can change what another one gets."""
        return Entry(deepcopy(self.value), deepcopy(self.pieces), self.reason)


class Cache:
    """Base of all caches: `get` and `put` are to be written, both callable from any thread.

    Args:
        shared: whether all sessions find the values of all others; otherwise each finds its own alone.
        key: a function that is called as the step is, and gives what to tell calls apart by; by default all that the
            step is called with.
    """

    durable = False
    """Whether it outlives the process: keys are then text, the same in every process."""
    blocking = False
    """Whether `get` and `put` wait for a disk or a network, and so are called in a thread."""

    def __init__(self, *, shared: bool = False, key: Callable[[Any], Any] | None = None) -> None:
        if key is not None and not callable(key):
            raise FlowBuildError(f"{type(self).__name__}(key={key!r}): give a function of the input")
        self.shared = shared
        self.key = key
        self.flights = Flights()

    def get(self, key: Hashable) -> Entry | None:
        """The entry of a key; None: there is none. It is copied before anybody gets it."""
        raise NotImplementedError

    def put(self, key: Hashable, entry: Entry) -> None:
        """Keeps an entry, which nobody changes any more.

        Raises:
            TypeError: this cache cannot hold such a value; the message says what it can hold.
        """
        raise NotImplementedError


class MemoryCache(Cache):
    """Keeps values in this process; the least recently used ones go first.

    Args:
        entries: how many it holds at most.
        max_bytes: how much they take together at most, roughly; a number, or text such as `"64m"`. A greater value
            is not kept at all.
        ttl: for how long a value is good, in seconds or as text such as `"1h"`; by default for ever.
        shared: whether all sessions find the values of all others.
        key: a function that is called as the step is, and gives what to tell calls apart by.

    Everybody gets a copy of their own (`copy.deepcopy`).

    Raises:
        FlowBuildError: a setting that cannot be; it says which.
    """

    def __init__(
        self,
        entries: int = 1024,
        *,
        max_bytes: int | str = "64m",
        ttl: float | str | None = None,
        shared: bool = False,
        key: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__(shared=shared, key=key)
        if not isinstance(entries, int) or isinstance(entries, bool) or entries < 1:
            raise FlowBuildError(f"MemoryCache(entries={entries!r}): give a whole number of 1 or more")
        self.entries = entries
        self.max_bytes, self.ttl = limits_of("MemoryCache", max_bytes, ttl)
        self.bytes = 0
        self._kept: OrderedDict[Hashable, tuple[Entry, int, float]] = OrderedDict()

    def get(self, key: Hashable) -> Entry | None:
        with self.flights.lock:
            found = self._kept.get(key)
            if found is None:
                return None
            entry, _, made = found
            if self.ttl is not None and time.monotonic() - made > self.ttl:
                self._drop(key)
                return None
            self._kept.move_to_end(key)
        return entry

    def put(self, key: Hashable, entry: Entry) -> None:
        size = size_of(entry.value) + size_of(entry.pieces)
        with self.flights.lock:
            self._drop(key)
            if size > self.max_bytes:
                return
            self._kept[key] = (entry, size, time.monotonic())
            self.bytes += size
            while len(self._kept) > self.entries or self.bytes > self.max_bytes:
                self._drop(next(iter(self._kept)))

    def clear(self) -> None:
        """Forgets everything."""
        with self.flights.lock:
            self._kept.clear()
            self.bytes = 0

    def _drop(self, key: Hashable) -> None:
        found = self._kept.pop(key, None)
        if found is not None:
            self.bytes -= found[1]

    def __len__(self) -> int:
        return len(self._kept)

    def __repr__(self) -> str:
        return f"<MemoryCache {len(self)} entries, {self.bytes} bytes>"


def limits_of(owner: str, max_bytes: int | str, ttl: float | str | None) -> tuple[int, float | None]:
    """Size in bytes and time in seconds, as a cache is given them.

    Raises:
        FlowBuildError: one of them cannot be; it names the owner.
    """
    try:
        return bytes_of(max_bytes), None if ttl is None else seconds_of(ttl)
    except ValueError as error:
        raise FlowBuildError(f"{owner}(max_bytes={max_bytes!r}, ttl={ttl!r}): {error}") from None


def size_of(value: Any) -> int:
    """Bytes that a value takes, roughly, with what is inside of it."""
    size, todo, seen = 0, [value], set()
    while todo:
        part = todo.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        size += sys.getsizeof(part, 64) + int(getattr(part, "nbytes", 0))
        if isinstance(part, Mapping):
            todo += [*part.keys(), *part.values()]
        elif isinstance(part, (list, tuple, set, frozenset)):
            todo += part
        elif is_dataclass(part):
            todo += [getattr(part, field.name, None) for field in fields(part)]
        else:
            todo += getattr(part, "__dict__", {}).values()
    return size
