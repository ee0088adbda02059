"""Paces: a producer held back by one reader of a log that keeps everything, for as long as that reader is there."""

from __future__ import annotations

import asyncio

from .memory import BOUND, resolve

__all__ = ["Pace"]


class Pace:
    """How far the reader is who is waited for; it belongs to the run's loop. Once it is let go, nobody is."""

    def __init__(self) -> None:
        self._taken = 0
        self._free = False
        self._waiting: list[asyncio.Future[None]] = []

    def is_ahead(self, seq: int) -> bool:
        """Whether a producer that has said so much has to wait."""
        return not self._free and seq - self._taken >= BOUND

    async def wait(self, seq: int) -> None:
        """Until the reader has caught up, or is gone."""
        while self.is_ahead(seq):
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            await future

    def took(self, seq: int) -> None:
        """The reader has taken the events up to this one."""
        self._taken = seq
        if self._waiting:
            self._wake()

    def let_go(self) -> None:
        """The reader is gone."""
        self._free = True
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            resolve(future)
