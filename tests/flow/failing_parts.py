"""A failure of the user's own, and a branch that is at work when it comes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

__all__ = ["Branch", "Failure"]


class Failure(LookupError):
    """The user's own."""


class Branch:
    """The other branch, at work for 3 s when it is not stopped."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.cleaned = 0
        self.later = 0
        self.failed = 0.0

    async def sleeps(self, x: Any) -> Any:
        self.begun.set()
        try:
            await asyncio.sleep(3)
        finally:
            await asyncio.sleep(0)
            self.cleaned += 1
        return x

    async def streams(self, x: Any) -> AsyncIterator[str]:
        try:
            yield "a"
            self.begun.set()
            await asyncio.sleep(3)
        finally:
            await asyncio.sleep(0)
            self.cleaned += 1

    def blocks(self, x: Any) -> Any:
        self.begun.set()
        self.go_on.wait(10)
        self.cleaned += 1
        return x

    def blocks_in_pieces(self, x: Any) -> Iterator[str]:
        try:
            yield "a"
            self.begun.set()
            self.go_on.wait(10)
        finally:
            self.cleaned += 1

    def after(self, x: Any) -> Any:
        self.later += 1
        return x

    async def fails(self, x: Any) -> Any:
        """As soon as the other one is at work."""
        while not self.begun.is_set():
            await asyncio.sleep(0)
        self.failed = time.perf_counter()
        raise Failure("gone")

    def fails_in_a_thread(self, x: Any) -> Any:
        self.begun.wait(10)
        self.failed = time.perf_counter()
        raise Failure("gone")

    def since(self) -> float:
        """Seconds since the failure."""
        return time.perf_counter() - self.failed
