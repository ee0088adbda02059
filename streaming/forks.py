"""What a forked child must forget: threads are gone there, and loops and runs are the parent's."""

from __future__ import annotations

import os
from collections.abc import Callable

__all__ = ["after_fork"]

_registered: set[Callable[[], None]] = set()


def after_fork(forget: Callable[[], None]) -> None:
    """Calls `forget` in each forked child from now on; registering it again changes nothing."""
    if forget not in _registered and hasattr(os, "register_at_fork"):
        _registered.add(forget)
        os.register_at_fork(after_in_child=forget)
