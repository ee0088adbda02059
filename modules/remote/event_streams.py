"""EventStream: one connection over which a service says what a run says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

from ...streaming.errors import MillraceError, RemoteError, RunTimeout
from ...streaming.memory import call_soon
from .failures import Failure
from .run_servers import RunServer

__all__ = ["EventStream", "Silent"]

HEADERS = {"accept": "text/event-stream", "accept-encoding": "identity"}
DRAIN = 0.25
"""Seconds that a server may take to end the stream of a run that is over, for its connection to be used again."""


class Silent(Failure):
    """Nothing has come for too long."""


class EventStream:
    """The bytes of one answer. It is asked for when the first of them are read; belongs to the loop that made it.

    Args:
        server: whom to ask, and how patiently.
        method, path, body, headers: what is asked.
        until: when all must be over, on the loop's clock.
        patience: seconds until the answer begins; by default `Timeouts(first_token)`.
    """

    def __init__(
        self,
        server: RunServer,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        until: float | None = None,
        patience: float | None = None,
    ) -> None:
        self.heard = False
        """The answer has begun."""
        self._server = server
        self._until = until
        self._patience = server.timeouts.first_token if patience is None else patience
        self._pieces = self._received(method, path, body, {**HEADERS, **(headers or {})})
        self._loop = asyncio.get_running_loop()
        self._clock: asyncio.Timeout | None = None
        self._interruption: MillraceError | None = None

    async def piece(self) -> bytes | None:
        """What comes next; None at the stream's end.

        Raises:
            Failure: no connection, a broken one, a refusal, nothing for too long, or the interruption.
        """
        self._clock = clock = asyncio.timeout_at(self._next_limit())
        try:
            async with clock:
                return await anext(self._pieces, None)
        except TimeoutError:
            if not clock.expired():
                raise
            raise self._too_late() from None

    def interrupt(self, error: MillraceError) -> None:
        """Whoever reads, now or later, is told this error; from any thread."""
        self._interruption = error
        call_soon(self._loop, self._wake)

    async def drain(self) -> None:
        """Reads the end of the stream, so that its connection can be used again."""
        try:
            async with asyncio.timeout(DRAIN):
                async for _ in self._pieces:
                    pass
        except (TimeoutError, Failure):
            pass

    async def aclose(self) -> None:
        """Closes the connection, unless all was read."""
        await self._pieces.aclose()

    async def _received(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> AsyncGenerator[bytes, None]:
        async with self._server.exchange(method, path, body, headers) as response:
            kind = response.headers.get("content-type", "").partition(";")[0]
            if kind != "text/event-stream":
                said = f"{self._server.address} answered with {kind or 'something'} and no stream of events"
                raise Failure(RemoteError(f"{said}; is it a millrace service, and is the address right?"))
            self.heard = True
            self._wake()
            async with aclosing(cast("AsyncGenerator[bytes, None]", response.aiter_bytes())) as pieces:
                async for piece in pieces:
                    yield piece

    # ------------------------------------------------------------ how long is waited

    def _next_limit(self) -> float | None:
        """When it has been silent for too long."""
        if self._interruption is not None:
            return self._loop.time()
        patience = self._server.timeouts.between_tokens if self.heard else self._patience
        limits = [self._until, None if patience is None else self._loop.time() + patience]
        return min((limit for limit in limits if limit is not None), default=None)

    def _wake(self) -> None:
        """The limit is another one now."""
        try:
            if self._clock is not None:
                self._clock.reschedule(self._next_limit())
        except RuntimeError:
            pass  # nobody waits

    def _too_late(self) -> Failure:
        address, timeouts = self._server.address, self._server.timeouts
        if self._interruption is not None:
            return Failure(self._interruption)
        if self._until is not None and self._loop.time() >= self._until:
            return Failure(RunTimeout(f"the run at {address} took longer than Timeouts(total)"))
        if self.heard:
            said = f"sent nothing for {timeouts.between_tokens:g} s, which is Timeouts(between_tokens)"
        else:
            said = f"sent no answer within {self._patience:g} s, which is Timeouts(first_token)"
        return Silent(RemoteError(f"{address} {said}"), again=True)
