"""Small steps that say what they take and give."""

from __future__ import annotations

from collections.abc import AsyncIterator

__all__ = ["both", "count", "shout", "show", "words"]


def count(text: str) -> int:
    return len(text)


def show(number: int) -> str:
    return str(number)


def words(text: str) -> list[str]:
    return text.split()


async def shout(text: str) -> AsyncIterator[str]:
    yield text.upper()


def both(left: str, right: str) -> str:
    return left + right
