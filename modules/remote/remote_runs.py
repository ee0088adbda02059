"""RemoteRun: one run of a served flow, followed from here over however many connections it takes."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from functools import partial
from typing import Any

from ...streaming.errors import MillraceError, RemoteError, RunCancelled
from ...streaming.events import Event, RunFinished
from ...streaming.usage import TokenUsage
from .cleanups import to_its_end
from .event_streams import EventStream, Silent
from .failures import Failure
from .plain_values import as_json
from .run_failures import Refused
from .run_frames import RunFrames, usage_of
from .run_servers import RunServer

__all__ = ["RemoteRun"]

log = logging.getLogger("millrace.remote")

RUNS = "/v1/runs"
STOP_TIME = 1.0
"""Seconds that telling a server of a stop may take."""
LOOK_TIME = 5.0
"""Seconds that looking at a run that has failed may take."""
UNKNOWN_PAUSES = (0.05, 0.1, 0.2)
"""Seconds until a server that does not know the run yet is told of its stop again."""
FIRST_PAUSE = 0.05
"""Seconds until a broken connection is made again, doubled each time."""
LONGEST_PAUSE = 2.0
PICK_UP_TIME = 5.0
"""Seconds that a server may take at least until it answers whoever goes on with a run."""
LONGEST_REASON = 200
"""Characters."""
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
        self._stream: EventStream | None = None
        self._picked_up = False
        self._broken: float | None = None
        self._goes_on = False
        """Whether it may be going on there, as far as is known."""
        self._ended: RunCancelled | None = None
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
        self._open("POST", RUNS, {"x-run-id": self.id}, self._body)
        try:
            return await self._more()
        except Refused as refused:
            self._goes_on = False
            if refused.param == "timeout" and self._asked.pop("timeout", None) is not None:
                self._body = as_json(self._asked)  # longer than a run may take there: that deadline will do
                return await self._begin()
            if refused.ran:
                await self._look_back(refused)
            raise
        except Failure as failure:
            if not failure.sent:
                self._goes_on = False
            if isinstance(failure, Silent):
                failure.again = False  # another try would take as long
            await self._leave("the connection broke before the run began")
            raise

    async def _look_back(self, refused: Refused) -> None:
        """At a run that has failed before it said a word: what it has cost, and of what kind its error was."""
        try:
            async with (
                asyncio.timeout(LOOK_TIME),
                self._server.exchange("GET", f"{RUNS}/{self.id}") as response,
            ):
                told = json.loads(await response.aread())
        except (TimeoutError, Failure, ValueError):
            return  # what it was refused with says enough
        self.usage += usage_of(told.get("usage"))
        if isinstance(refused.error, RemoteError) and isinstance(told.get("error"), dict):
            refused.error.kind = told["error"].get("kind")

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
            path = f"{RUNS}/{self.id}/events?events={self._asked['events']}"
            headers = {"last-event-id": str(self._frames.seq)}
            self._open("GET", path, headers, patience=max(left, PICK_UP_TIME))
            try:
                return await self._more()
            except Failure as failure:
                status = getattr(failure.error, "status", None)
                if status in LOST:
                    self._goes_on = status != 404
                    said = f"the connection to {self._server.address} broke, and {LOST[status]}"
                    raise Failure(RemoteError(said, status)) from broken.__cause__
                if not failure.again:
                    raise
                broken = failure

    def _open(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes | None = None,
        patience: float | None = None,
    ) -> None:
        """What comes next comes over a new connection."""
        self._stream = EventStream(self._server, method, path, body, headers, self._until, patience)
        self._frames.reconnected()
        if self._ended is not None:
            self._stream.interrupt(self._ended)

    async def _more(self) -> list[Event]:
        stream = self._stream
        assert stream is not None
        while True:
            piece = await stream.piece()
            if piece is None:
                said = f"{self._server.address} ended the stream before the run's end"
                raise Failure(RemoteError(said), again=True)
            self._broken = None
            events = self._frames.feed(piece)
            if self.finished is not None:
                self._goes_on = False
                self.usage += self.finished.usage
                await stream.drain()
            if events:
                return events

    # ------------------------------------------------------------ stopping it

    async def end(self, reason: str) -> None:
        """Ends it as cancelled, there and here, from any loop."""
        self._ended = RunCancelled(reason)
        if self._stream is not None:
            self._stream.interrupt(self._ended)
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
        try:
            if self._stream is not None:
                await self._stream.aclose()
        finally:
            if self._goes_on:
                self._goes_on = False
                await to_its_end(partial(self._tell, reason))

    async def _tell(self, reason: str) -> None:
        """Has the server stop the run, whether it has noticed or not that its client is gone."""
        try:
            async with asyncio.timeout(STOP_TIME):
                for pause in (*UNKNOWN_PAUSES, None):
                    if await self._told(reason) or self._is_known() or pause is None:
                        return
                    await asyncio.sleep(pause)  # it may not have read the request yet
        except (TimeoutError, MillraceError, ValueError) as error:
            log.info("%s could not be told to stop run %s: %s", self._server.address, self.id, error)

    def _is_known(self) -> bool:
        """Whether the server has taken the run."""
        return self._frames.seq > 0 or (self._stream is not None and self._stream.heard)

    async def _told(self, reason: str) -> bool:
        """Whether the server knows the run."""
        try:
            path = f"{RUNS}/{self.id}/cancel"
            async with self._server.exchange("POST", path, {"reason": _shown(reason)}) as response:
                told = json.loads(await response.aread())
        except Failure as failure:
            if getattr(failure.error, "status", None) == 404:
                return False
            raise failure.error from None
        if isinstance(told, dict):
            self.usage += usage_of(told.get("usage"))
        return True


def _shown(reason: str) -> str:
    """As a server takes it."""
    return "".join(c if c.isprintable() else " " for c in reason)[:LONGEST_REASON].strip() or "cancelled"
