"""Complaints: an error as a command tells it, in a line or two."""

from __future__ import annotations

from ..streaming.errors import MillraceError

__all__ = ["words_of"]


def words_of(error: BaseException) -> str:
    """Our own errors say what to do; of others the type is told too, and where they came from."""
    if isinstance(error, MillraceError):
        return str(error)
    return "\n  ".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())])
