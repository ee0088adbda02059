"""Departures: hearing that a client has left, whatever else is being done for it.

Servers say so by `http.disconnect`, to whoever asks. Frameworks ask only in some cases (Starlette: for streams, and
only of servers that announce an ASGI spec_version below 2.4), so this asks always, in a task of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from starlette.types import Receive

__all__ = ["Departure"]

MOMENT = 1.0
"""Seconds in which a server must have noticed that a connection is gone."""


class Departure:
    """The client's leaving; to be entered once the request's body has been read. It is listened for from `then` on."""

    __slots__ = ("_receive", "_task", "_then", "over")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._task: asyncio.Task[None] | None = None
        self._then: Callable[[], object] | None = None
        self.over = False

    def then(self, callback: Callable[[], object]) -> None:
        """What to do when the client leaves, in place of what was said before; at once if it has left."""
        self._then = callback
        if self.over:
            callback()
        else:
            self._listener()

    def happen(self) -> None:
        """The client has left: heard here, or found out while sending."""
        if not self.over:
            self.over = True
            if self._then is not None:
                self._then()

    async def force(self) -> None:
        """Makes a client leave that takes nothing of its answer, and throws away what it was to be sent.

        That is uvicorn's connection; other servers end theirs when the answer breaks off.
        """
        connection = getattr(getattr(self._receive, "__self__", None), "transport", None)
        if connection is not None:
            connection.abort()
            await asyncio.wait([self._listener()], timeout=MOMENT)

    def _listener(self) -> asyncio.Task[None]:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._listen())
        return self._task

    async def _listen(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.happen()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._then = None
        if self._task is not None:
            self._task.cancel()
