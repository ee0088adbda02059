"""Policies on steps: retry, timeout, fallback, cache, concurrency, rate.

Caches are looked up at their first use: few flows have one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .limiters import Limiter
from .rates import Rate
from .retries import Retry
from .settings import Policies
from .wrapping import Dressed, PolicyStep, bare

if TYPE_CHECKING:
    from .caches import Cache, Entry, MemoryCache
    from .files import FileCache

__all__ = [
    "Cache",
    "Dressed",
    "Entry",
    "FileCache",
    "Limiter",
    "MemoryCache",
    "Policies",
    "PolicyStep",
    "Rate",
    "Retry",
    "bare",
]

_HOMES = {"Cache": "caches", "Entry": "caches", "FileCache": "files", "MemoryCache": "caches"}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value
