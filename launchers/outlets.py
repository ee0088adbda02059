"""Outlets: the way of a response to its client, and what is done when it is silent or stuck.

One timer per response, moved lazily: sending costs no timer of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from starlette.types import Send

__all__ = ["Outlet", "Timings"]


@dataclass(frozen=True, slots=True)
class Timings:
    """How long the service waits, each in seconds.

    `first_output`: for the first output of a stream before status 200 is sent all the same. `heartbeat`: of
    silence between two comments that keep proxies from hanging up. `write_idle`: for a client that reads
    nothing of what is sent. `body`: for a request's body. `drain`: at shutdown, for what is going on.
    """

    first_output: float = 2.0
    heartbeat: float = 15.0
    write_idle: float = 60.0
    body: float = 30.0
    drain: float = 10.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not getattr(self, name) > 0:
                raise ValueError(f"Timings({name}={getattr(self, name)}): give a number of seconds above 0")


class Outlet:
    """Sends one response.

    Raises, out of its block:
        TimeoutError: the client read nothing for `write_idle` seconds.
        OSError: from servers that say so, the client has left.
    """

    __slots__ = (
        "_limit",
        "_loop",
        "_on_silence",
        "_send",
        "_sending",
        "_since",
        "_timer",
        "_timings",
        "started",
    )

    def __init__(self, send: Send, timings: Timings, on_silence: Callable[[], object] | None = None) -> None:
        self._send = send
        self._timings = timings
        self._on_silence = on_silence
        self._loop = asyncio.get_running_loop()
        self._limit = asyncio.timeout(None)
        self._sending = False
        self._since = self._loop.time()
        self.started = False

    async def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Sends status and headers, with the next piece of the body."""
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, body: bytes, more: bool = True) -> None:
        """Sends a piece of the body; waits while the client is slow."""
        self._sending, self._since = True, self._loop.time()
        await self._send({"type": "http.response.body", "body": body, "more_body": more})
        self._sending, self._since = False, self._loop.time()

    async def __aenter__(self) -> Self:
        await self._limit.__aenter__()
        self._arm(self._timings.first_output)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        await self._limit.__aexit__(kind, error, trace)

    def _arm(self, seconds: float) -> None:
        self._timer = self._loop.call_later(min(seconds, self._timings.write_idle / 4), self._look)

    def _look(self) -> None:
        quiet = self._loop.time() - self._since
        if self._sending:
            if quiet >= self._timings.write_idle:
                self._limit.reschedule(0)
            else:
                self._arm(self._timings.write_idle - quiet)
            return
        patience = self._timings.heartbeat if self.started else self._timings.first_output
        if quiet >= patience and self._on_silence is not None:
            self._on_silence()
            self._arm(self._timings.heartbeat)
        else:
            self._arm(max(patience - quiet, 0.001))
