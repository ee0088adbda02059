"""Garbage: a process that does nothing but serve looks for it less often, and not among what it began with."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["collected_seldom", "leave_alone_what_is_there"]

OFTEN = 5_000
"""New containers from which on the youngest are looked through; by default Python does so every 700."""


@contextmanager
def collected_seldom() -> Iterator[None]:
    """For the block, the collector of this process works less often; what it had frozen goes back to it at the end."""
    before = gc.get_threshold()
    gc.set_threshold(max(OFTEN, before[0]) if before[0] else 0, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def leave_alone_what_is_there() -> None:
    """Modules, the application and a model that is loaded stay until the end: to look through them is for nothing.

    It takes no time; to collect first would, just when the first requests come.
    """
    gc.freeze()
