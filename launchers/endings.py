"""Endings: what a service says when it begins to end, and somebody waits for that."""

from __future__ import annotations

__all__ = ["ending_words"]


def ending_words(going_on: int | None, seconds: float) -> str:
    """What it still waits for, and for how long at most; `going_on`: how many requests, where that is known."""
    what = "What goes on has" if going_on is None else f"{going_on} requests go on, and have"
    if going_on == 1:
        what = "1 request goes on, and has"
    return f"Ending. {what} {seconds:g} s for it; a second signal ends everything at once."
