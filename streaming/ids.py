"""Ids that nobody can guess: 128 random bits in hex."""

from __future__ import annotations

import os

from .forks import after_fork

__all__ = ["new_id"]

AT_ONCE = 64
"""How many are made at once: to ask the system costs more than to make them."""

_ready: list[str] = []

after_fork(_ready.clear)


def new_id() -> str:
    """128 random bits in hex; from any thread, and never twice, in forked processes neither."""
    try:
        return _ready.pop()
    except IndexError:
        made = os.urandom(16 * AT_ONCE).hex()
        first, *others = (made[at : at + 32] for at in range(0, len(made), 32))
        _ready.extend(others)
        return first
