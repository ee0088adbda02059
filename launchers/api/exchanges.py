"""Exchanges: one request and its answer, the same way for all endpoints that run the flow."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from .departures import Departure
from .desks import Desk, Work
from .refusals import Refusal
from .replies import Reply

__all__ = ["Exchange", "chosen_run_id", "header_of"]

Request = TypeVar("Request")

CLIENT_LEFT = "client left"
CLIENT_STUCK = "client stopped reading"
RUN_ID = re.compile(rb"[0-9a-f]{32}")


@dataclass(slots=True)
class Exchange:
    """One request to an endpoint, from its head to the last byte of the answer."""

    desk: Desk
    scope: Scope
    receive: Receive
    send: Send

    async def run(
        self,
        accept: Callable[[Exchange], Awaitable[tuple[Request, Work]]],
        answer: Callable[[Request, Reply], Awaitable[None]],
    ) -> None:
        """`accept` reads and checks the request and finds it a place; `answer` answers it while its client is there.

        What either refuses is sent, as long as that can be.
        """
        try:
            request, work = await accept(self)
        except Refusal as refusal:
            await refusal.send_to(self.send)
        except ClientDisconnect:
            pass
        else:
            async with work:
                with Departure(self.receive) as departure:
                    departure.then(work.left)
                    reply = Reply(work, departure, self.send)
                    await self._answered(answer(request, reply), reply)

    async def _answered(self, answering: Awaitable[None], reply: Reply) -> None:
        work = reply.work
        try:
            await answering
        except Refusal as refusal:
            if not reply.departure.over:
                await refusal.send_to(self.send)
        except TimeoutError:
            work.lost(CLIENT_STUCK)
            await reply.departure.force()
        except OSError:  # how servers of ASGI spec_version 2.4 say that the client has left
            work.lost(CLIENT_LEFT)


def header_of(scope: Scope, name: bytes) -> bytes | None:
    """A header of the request; `name` in lower case."""
    return next((value for known, value in scope["headers"] if known == name), None)


def chosen_run_id(scope: Scope) -> str | None:
    """The run's id, where the client has chosen it: by the header x-run-id.

    Raises:
        Refusal: 400, it is no id.
    """
    given = header_of(scope, b"x-run-id")
    if given is None:
        return None
    if not RUN_ID.fullmatch(given):
        message = "x-run-id must be 32 digits and letters from a to f: 128 random bits in hex"
        raise Refusal(400, message, "invalid_value", "x-run-id")
    return given.decode()
