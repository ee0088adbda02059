"""Times, sizes and paces as one writes them: `ttl=1h`, `max_bytes=1g`, `rate=10/s`."""

from __future__ import annotations

import math
import re

__all__ = ["bytes_of", "pace_of", "seconds_of"]

SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
BYTES = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
COUNTS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
WORDS = {"sec": "s", "second": "s", "min": "m", "minute": "m", "hour": "h", "day": "d"}
"""What a time in a pace may be called as well."""

_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.ASCII)
_PACE = re.compile(r"(\d[^/]*)/\s*(\d*(?:\.\d+)?)\s*([a-z]+)", re.ASCII)


def seconds_of(text: str | float) -> float:
    """A time in seconds: a number, or text such as `"90"`, `"1.5h"`, `"2d"` (units: ms, s, m, h, d, w).

    Raises:
        ValueError: it is neither, or not above 0.
    """
    seconds = _quantity(text, SECONDS, "a time such as 90, '15m' or '1h'")
    if not seconds > 0:
        raise ValueError(f"{text!r} is no time above 0")
    return seconds


def bytes_of(text: str | float) -> int:
    """A size in bytes: a number, or text such as `"4096"`, `"512k"`, `"1.5g"` (k, m, g, t are powers of 1024).

    Raises:
        ValueError: it is neither, or below 1 byte.
    """
    size = int(_quantity(text, BYTES, "a size such as 4096, '512k' or '1g'"))
    if size < 1:
        raise ValueError(f"{text!r} is less than a byte")
    return size


def pace_of(text: str) -> tuple[float, float]:
    """How many in how many seconds: text such as `"10/s"`, `"5/30s"`, `"100/min"`, `"1m/day"`.

    Before the slash k, m and g are powers of 1000; after it stands a time, or the unit of one.

    Raises:
        ValueError: it is no such text, or a number in it is not above 0.
    """
    found = _PACE.fullmatch(text.strip().lower()) if isinstance(text, str) else None
    if found is None:
        raise ValueError(f"{text!r} is not a pace such as '10/s', '5/30s' or '100/min'")
    count = _quantity(found[1], COUNTS, "a number such as 100, '10k' or '1m'")
    if not count > 0:
        raise ValueError(f"{text!r} lets nothing through; give a number above 0")
    return count, seconds_of(f"{found[2] or 1}{WORDS.get(found[3], found[3])}")


def _quantity(text: str | float, units: dict[str, float] | dict[str, int], what: str) -> float:
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        if math.isfinite(text):
            return text
    elif isinstance(text, str):
        found = _QUANTITY.fullmatch(text.strip().lower())
        if found is not None and found[2] in units:
            return float(found[1]) * units[found[2]]
    raise ValueError(f"{text!r} is not {what}")
