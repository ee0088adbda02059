"""What `step(f, cache=...)` takes, as a cache."""

from __future__ import annotations

import weakref
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from ...streaming.errors import FlowBuildError
from .caches import Cache, MemoryCache
from .files import FileCache

__all__ = ["open_cache"]

_open: weakref.WeakValueDictionary[str, Cache] = weakref.WeakValueDictionary()
"""Caches on disk by their URLs: steps that name the same one wait for each other's equal calls."""

OPTIONS = {"memory": ("entries", "max_bytes", "ttl", "shared"), "file": ("max_bytes", "ttl", "shared")}


def open_cache(given: bool | str | Cache) -> Cache:
    """True, `"shared"`, a Cache, or a URL: `memory://?ttl=1h`, `file:///dir?ttl=1h&max_bytes=1g&shared=true`.

    Raises:
        FlowBuildError: it is none of these; the message names what there is.
    """
    if isinstance(given, Cache):
        return given
    if given is True:
        return MemoryCache()
    if given == "shared":
        return MemoryCache(shared=True)
    if isinstance(given, str) and "://" in given:
        found = _open.get(given)
        if found is None:
            found = _made(given)
            if found.durable:
                found = _open.setdefault(given, found)
        return found
    raise FlowBuildError(
        f"cache={given!r}: give True (each session its own values), 'shared' (all sessions the same), a URL such as "
        "'memory://?ttl=1h' or 'file:///var/cache/app', or a Cache"
    )


def _made(url: str) -> Cache:
    parts = urlsplit(url)
    known = OPTIONS.get(parts.scheme)
    if known is None:
        raise FlowBuildError(f"cache={url!r}: there is no cache {parts.scheme}://; use memory:// or file://")
    options: dict[str, Any] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in known:
            raise FlowBuildError(f"cache={url!r}: there is no option {name!r}; there is {', '.join(known)}")
        options[name] = _option(url, name, value)
    if parts.scheme == "memory":
        if parts.netloc or parts.path:
            raise FlowBuildError(
                f"cache={url!r}: a cache in memory has no place; write memory://?entries=1000"
            )
        return MemoryCache(**options)
    if parts.netloc or parts.path in ("", "/"):
        raise FlowBuildError(
            f"cache={url!r}: give the whole path, after three slashes: file:///var/cache/app"
        )
    return FileCache(unquote(parts.path), **options)


def _option(url: str, name: str, value: str) -> Any:
    if name == "shared":
        if value.lower() not in ("true", "1", "yes", "false", "0", "no"):
            raise FlowBuildError(f"cache={url!r}: shared is true or false, not {value!r}")
        return value.lower() in ("true", "1", "yes")
    if name == "entries":
        if not value.isascii() or not value.isdigit():
            raise FlowBuildError(f"cache={url!r}: entries is a whole number, not {value!r}")
        return int(value)
    return value
