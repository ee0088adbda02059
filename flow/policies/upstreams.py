"""Upstream: a live input that a second attempt can read from its start."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from ..taps import value_of

__all__ = ["Upstream"]


class Upstream:
    """Reads an asynchronous stream once, and remembers what has come for as long as it may be asked again.

    `failed`: the stream itself has raised, or was stopped while it was waited for, so that nobody can have the
    rest of it.
    """

    def __init__(self, stream: AsyncIterator[Any]) -> None:
        self.failed = False
        self._stream = stream
        self._items: list[Any] | None = []
        self._ended = False

    def read(self) -> Reading:
        """A reader from the start."""
        return Reading(self)

    def forget(self) -> None:
        """Nobody will ask for the start again."""
        self._items = None

    async def whole(self) -> Any:
        """The value of all of it, for a step that does not take it live."""
        return value_of(self._stream, [item async for item in self.read()])

    async def item(self, i: int) -> Any:
        if self._items is not None and i < len(self._items):
            return self._items[i]
        if self._ended:
            raise StopAsyncIteration
        try:
            item = await self._stream.__anext__()
        except StopAsyncIteration:
            self._ended = True
            raise
        except BaseException:
            self.failed = True
            raise
        if self._items is not None:
            self._items.append(item)
        return item


class Reading:
    """One attempt's view of an Upstream; closing it leaves the stream to the next attempt."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._at = 0

    @property
    def known(self) -> bool:
        return getattr(self._upstream._stream, "known", False)

    @property
    def value(self) -> Any:
        return self._upstream._stream.value  # type: ignore[attr-defined]

    def __aiter__(self) -> Reading:
        return self

    async def __anext__(self) -> Any:
        item = await self._upstream.item(self._at)
        self._at += 1
        return item
