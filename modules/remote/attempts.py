"""Attempt: one try at a request, from its sending to the last word of the answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import cast

from ...streaming.errors import RemoteError
from ..local import Delta
from .answers import DONE, AnswerReader
from .bodies import endpoint_of
from .failures import Failure
from .frames import FrameReader
from .generations import RemoteGeneration
from .servers import Server

__all__ = ["Attempt"]

HEADERS = {"accept": "text/event-stream", "accept-encoding": "identity"}
DRAIN = 0.25
"""Seconds that a server may take to end a stream that it has declared done, for its connection to be used again."""

Push = Callable[[RemoteGeneration, list[Delta]], None]


class Attempt:
    """One try; `push` is given the deltas as they come."""

    def __init__(self, server: Server, generation: RemoteGeneration, push: Push) -> None:
        self._server = server
        self._generation = generation
        self._push = push
        self._reader = generation.reader = AnswerReader(server.address, generation.request.sampling.stops)

    async def run(self) -> Delta:
        """The last delta of the answer.

        Raises:
            Failure: there is none; once something has come, another try is out of the question.
        """
        reader = self._reader
        try:
            async with asyncio.timeout(self._server.timeouts.first_token) as clock:
                if await self._converse(clock):
                    return Delta(finish_reason="cancelled", usage=self._generation.usage)
            return reader.end()
        except TimeoutError:
            if not clock.expired():
                raise  # the deadline's, not ours
            if not reader.complete:
                raise Failure(self._too_late()) from None
        except Failure as failure:
            if not reader.complete:
                failure.again = failure.again and not reader.counted
                raise
        return reader.end()

    async def _converse(self, clock: asyncio.Timeout) -> bool:
        """Asks and listens; true when the caller said stop. What is not read to its end is cut off."""
        path, body = endpoint_of(self._generation.request), self._generation.body
        async with self._server.exchange("POST", path, body, HEADERS) as response:
            if response.headers.get("content-type", "").startswith("application/json"):
                reply = await response.aread()  # a server that does not stream
                self._take([reply.decode("utf-8", "replace")])
                return False
            async with aclosing(cast("AsyncGenerator[bytes, None]", response.aiter_bytes())) as received:
                return await self._listen(received, clock)

    async def _listen(self, received: AsyncIterator[bytes], clock: asyncio.Timeout) -> bool:
        """Pushes the answer as it comes; true when the caller said stop."""
        loop, patience = asyncio.get_running_loop(), self._server.timeouts.between_tokens
        frames = FrameReader()
        async for piece in received:
            data = frames.feed(piece)
            if self._take(data):
                clock.reschedule(None if patience is None else loop.time() + patience)
            if self._generation.is_stopped():
                return True
            if self._reader.stopped:
                return False
            if DONE in data:
                clock.reschedule(loop.time() + DRAIN)
        return False

    def _take(self, data: list[str]) -> int:
        """Pushes what these frames add to the answer; how many pieces that is."""
        deltas: list[Delta] = []
        try:
            for frame in data:
                if frame == DONE or self._reader.stopped:
                    break
                delta = self._reader.read(frame)
                if delta is not None:
                    deltas.append(delta)
        finally:  # also what came before a failure
            if deltas:
                self._push(self._generation, deltas)
        return len(deltas)

    def _too_late(self) -> RemoteError:
        timeouts = self._server.timeouts
        if self._reader.counted:
            said = f"sent nothing more for {timeouts.between_tokens:g} s, which is Timeouts(between_tokens)"
        else:
            said = f"sent no answer within {timeouts.first_token:g} s, which is Timeouts(first_token)"
        return RemoteError(f"{self._server.address} {said}")
