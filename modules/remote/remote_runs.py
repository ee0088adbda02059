"""RemoteRun: one run of a served flow, followed from here over however many connections it takes."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from asyncio import CancelledError
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from contextvars import Context
from typing import Any, cast

from ...streaming.errors import MillraceError, RemoteError, RunCancelled, RunTimeout
from ...streaming.events import Event, RunFinished
from ...streaming.memory import call_soon
from ...streaming.usage import TokenUsage
from .failures import Failure
from .plain_values import as_json
from .run_frames import RunFrames, usage_of
from .run_servers import RunServer

__all__ = ["RemoteRun"]

log = logging.getLogger("millrace.remote")

RUNS = "/v1/runs"
HEADERS = {"accept": "text/event-stream", "accept-encoding": "identity"}
DRAIN = 0.25
"""Seconds that a server may take to end the stream of a run that is over, for its connection to be used again."""
STOP_TIME = 1.0
"""Seconds that telling a server of a stop may take."""
UNKNOWN_PAUSES = (0.05, 0.1, 0.2)
"""Seconds until a server that does not know the run yet is told of its stop again."""
FIRST_PAUSE = 0.05
"""Seconds until a broken connection is made again, doubled each time."""
LONGEST_PAUSE = 2.0
PICK_UP_TIME = 5.0
"""Seconds that a server may take at least until the first word over a connection that goes on with a run."""
LOST = {
    404: "the server does not know the run any more",
    410: "the server does not keep the events from there on any more",
}


class RemoteRun:
    """One run there: `while events := await run.more()`, and then `await run.stop(reason)` in any case.

    What it is asked is `asked`, the JSON object of the request. A connection that breaks is made again for `resume`
    seconds, and goes on after the last event that has come. Its id is chosen here, so that it can be stopped before
    the server has said a word.
    """

    def __init__(self, server: RunServer, asked: dict[str, Any], resume: float) -> None:
        self.id = ""
        self.usage = TokenUsage()
        """What it has cost, as far as the server has said so."""
        self._server = server
        self._asked = asked
        self._body = as_json(asked)
        self._resume = resume
        self._frames = RunFrames(server.address)
        self._pieces: AsyncGenerator[bytes, None] | None = None
        self._heard = False
        self._picked_up = False
        self._broken: float | None = None
        self._goes_on = False
        """Whether it may be going on there, as far as is known."""
        self._ended: str | None = None
        self._clock: asyncio.Timeout | None = None
        self._loop = asyncio.get_running_loop()
        total = server.timeouts.total
        self._until = None if total is None else self._loop.time() + total

    @property
    def finished(self) -> RunFinished | None:
        """Its last event, once that has come."""
        return self._frames.finished

    # ------------------------------------------------------------ what it says

    async def more(self) -> list[Event]:
        """The next events, as many as have come together; none behind its last one.

        Raises:
            MillraceError: it did not come about, or cannot be followed any more.
        """
        try:
            if not self.id:
                return await self._server.tried(self._begin)
            if self.finished is not None:
                return []
            try:
                return await self._more()
            except Failure as failure:
                if not failure.again:
                    raise
                return await self._pick_up(failure)
        except Failure as failure:
            raise failure.error from failure.__cause__

    def outcome(self) -> Any:
        """The result of a run that is done.

        Raises:
            MillraceError: it has ended in another way.
        """
        finished = self.finished
        assert finished is not None
        if finished.error is None:
            return finished.result
        if (
            self._picked_up
            and finished.status == "cancelled"
            and self._asked.get("on_disconnect") != "continue"
        ):
            raise RemoteError(
                f"the connection to {self._server.address} broke, and the server stopped the run "
                f"({finished.reason}) before it could be picked up again; where that happens, "
                "give RemoteFlow(on_disconnect='continue')"
            )
        raise finished.error

    async def _begin(self) -> list[Event]:
        """The first events of a run that has begun there; each try is a run of its own.

        Raises:
            Failure: it has not begun, as far as is known.
        """
        self.id = os.urandom(16).hex()
        self._server.live.add(self)
        self._frames = RunFrames(self._server.address)
        self._goes_on = True
        self._open("POST", RUNS, self._body, {"x-run-id": self.id})
        try:
            return await self._more()
        except Failure as failure:
            if failure.param == "timeout" and self._asked.pop("timeout", None) is not None:
                self._body = as_json(self._asked)  # longer than a run may take there: that deadline will do
                self._goes_on = False
                return await self._begin()
            self._goes_on = failure.sent and _leaves_unsure(failure.error)
            await self._leave("the connection broke before the run began")
            raise

    async def _pick_up(self, broken: Failure) -> list[Event]:
        """What comes after the last event that has come, over a new connection.

        Raises:
            Failure: the run is gone there, or the server could not be reached in time.
        """
        self._picked_up, pause = True, FIRST_PAUSE
        while True:
            now = self._loop.time()
            if self._broken is None:
                self._broken = now
            left = self._broken + self._resume - now
            if pause > left:
                said = f"{broken.error}; it could not be picked up again within {self._resume:g} s"
                raise Failure(RemoteError(f"{said}, which is RemoteFlow(resume)")) from broken.__cause__
            log.info("run %s: %s; again in %.2f s", self.id, broken, pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
            headers = {"last-event-id": str(self._frames.seq)}
            self._open("GET", f"{RUNS}/{self.id}/events", None, headers)
            try:
                return await self._more(max(left, PICK_UP_TIME))
            except Failure as failure:
                status = getattr(failure.error, "status", None)
                if status in LOST:
                    self._goes_on = status != 404
                    said = f"the connection to {self._server.address} broke, and {LOST[status]}"
                    raise Failure(RemoteError(said, status)) from broken.__cause__
                if not failure.again:
                    raise
                broken = failure

    async def _more(self, patience: float | None = None) -> list[Event]:
        while True:
            piece = await self._piece(patience)
            if piece is None:
                said = f"{self._server.address} ended the stream before the run's end"
                raise Failure(RemoteError(said), again=True)
            self._heard, self._broken = True, None
            events = self._frames.feed(piece)
            if self.finished is not None:
                self._goes_on, self.usage = False, self.finished.usage
                await self._drain()
            if events:
                return events

    # ------------------------------------------------------------ one connection

    def _open(self, method: str, path: str, body: Any, headers: dict[str, str]) -> None:
        """The next pieces come over a new connection, which is made when the first of them is read."""
        self._pieces = self._received(method, path, body, {**HEADERS, **headers})
        self._heard = False
        self._frames.reconnected()

    async def _received(
        self, method: str, path: str, body: Any, headers: dict[str, str]
    ) -> AsyncGenerator[bytes, None]:
        async with self._server.exchange(method, path, body, headers) as response:
            kind = response.headers.get("content-type", "").partition(";")[0]
            if kind != "text/event-stream":
                said = f"{self._server.address} answered with {kind or 'something'} and no stream of events"
                raise Failure(RemoteError(f"{said}; is it a millrace service, and is the address right?"))
            async with aclosing(cast("AsyncGenerator[bytes, None]", response.aiter_bytes())) as pieces:
                async for piece in pieces:
                    yield piece

    async def _piece(self, patience: float | None) -> bytes | None:
        """What has come next; None at the end of the stream."""
        assert self._pieces is not None
        timeouts = self._server.timeouts
        if self._heard:
            patience = timeouts.between_tokens
        elif patience is None:
            patience = timeouts.first_token
        ends = [
            None if patience is None else self._loop.time() + patience,
            self._until,
            None if self._ended is None else self._loop.time(),
        ]
        until = min((end for end in ends if end is not None), default=None)
        self._clock = clock = asyncio.timeout_at(until)
        try:
            async with clock:
                return await anext(self._pieces, None)
        except TimeoutError:
            if not clock.expired():
                raise
            raise self._too_late(patience) from None

    def _too_late(self, patience: float | None) -> Failure:
        address = self._server.address
        if self._ended is not None:
            return Failure(RunCancelled(self._ended))
        if self._until is not None and self._loop.time() >= self._until:
            return Failure(RunTimeout(f"the run at {address} took longer than Timeouts(total)"))
        if self._heard:
            said = f"sent nothing for {patience:g} s, which is Timeouts(between_tokens)"
        else:
            said = f"sent no answer within {patience:g} s, which is Timeouts(first_token)"
        return Failure(RemoteError(f"{address} {said}"), again=self._heard or self._picked_up)

    async def _drain(self) -> None:
        """Reads the end of the stream, so that its connection can be used again."""
        assert self._pieces is not None
        try:
            async with asyncio.timeout(DRAIN):
                async for _ in self._pieces:
                    pass
        except (TimeoutError, Failure):
            pass

    # ------------------------------------------------------------ stopping it

    async def end(self, reason: str) -> None:
        """Ends it as cancelled, there and here, from any loop."""
        self._ended = reason

        def wake() -> None:
            if self._clock is not None and not self._clock.expired():
                try:
                    self._clock.reschedule(self._loop.time())
                except RuntimeError:
                    pass  # nobody reads; whoever reads next is told

        call_soon(self._loop, wake)
        if self._goes_on:
            self._goes_on = False
            await self._tell(reason)

    async def stop(self, reason: str) -> None:
        """Closes the connection at once and, unless the run is over, tells the server; waits STOP_TIME at most."""
        try:
            await self._leave(reason)
        finally:
            self._server.live.discard(self)

    async def _leave(self, reason: str) -> None:
        pieces, self._pieces = self._pieces, None
        try:
            if pieces is not None:
                await pieces.aclose()
        finally:
            if self._goes_on:
                self._goes_on = False
                await _to_its_end(self._tell(reason))

    async def _tell(self, reason: str) -> None:
        """Has the server stop the run, whether it has noticed or not that its client is gone."""
        try:
            async with asyncio.timeout(STOP_TIME):
                for pause in (*UNKNOWN_PAUSES, None):
                    if await self._told(reason) or self._heard or pause is None:
                        return
                    await asyncio.sleep(pause)  # it may not have read the request yet
        except (TimeoutError, MillraceError, ValueError) as error:
            log.info("%s could not be told to stop run %s: %s", self._server.address, self.id, error)

    async def _told(self, reason: str) -> bool:
        """Whether the server knows the run."""
        try:
            path = f"{RUNS}/{self.id}/cancel"
            async with self._server.exchange("POST", path, {"reason": reason}) as response:
                told = json.loads(await response.aread())
        except Failure as failure:
            if getattr(failure.error, "status", None) == 404:
                return False
            raise failure.error from None
        if isinstance(told, dict):
            self.usage = usage_of(told.get("usage"))
        return True


def _leaves_unsure(error: MillraceError) -> bool:
    """Whether a run may go on although its request has failed so: the server itself has not said that it does not."""
    return isinstance(error, RemoteError) and error.status in (None, 502, 504)


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Waits for some work, which goes on however this task is cancelled meanwhile; it must be short."""
    task, cancelled = asyncio.get_running_loop().create_task(work, context=Context()), False
    while not task.done():
        try:
            await asyncio.wait([task])
        except CancelledError:
            cancelled = True
    if cancelled:
        raise CancelledError
    if not task.cancelled():
        task.result()
