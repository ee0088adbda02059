"""Whether a request that changes something comes from a page of this server, or from somebody else's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

__all__ = ["is_foreign"]

SAFE = ("GET", "HEAD", "OPTIONS")


def is_foreign(scope: Mapping[str, Any]) -> bool:
    """Whether a page of another site has a browser send this, which then has our cookies with it.

    Browsers say so themselves (Sec-Fetch-Site), which holds behind a proxy too; else the Origin must be the host that
    was asked. Programs send neither.
    """
    if scope["method"] in SAFE:
        return False
    headers = {name: value.decode("latin-1") for name, value in scope.get("headers", ())}
    site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin")
    if site is not None:
        return site not in ("same-origin", "none")
    if origin is None:
        return False
    hosts = (headers.get(b"host"), headers.get(b"x-forwarded-host"))
    return urlsplit(origin).netloc not in [host for host in hosts if host]
