"""Exchanges: one request and its answer, the same way for all endpoints that run the flow."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import parse_qs

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from .departures import Departure
from .desks import Desk, Work
from .refusals import Refusal
from .replies import JSON_HEADERS, Reply
from .values import as_json

__all__ = ["Exchange", "chosen_run_id", "header_of", "query_of", "send_object", "take_only"]

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
            return
        except ClientDisconnect:
            return
        async with work:
            await asyncio.sleep(0)  # the first step of the run, which may be its last
            with Departure(self.receive) as departure:
                if not work.run.over:
                    work.run.set_clock()
                    departure.then(work.left)
                reply = Reply(work, departure, self.scope, self.send)
                try:
                    await answer(request, reply)
                except Refusal as refusal:
                    if not departure.over:
                        await refusal.send_to(self.send)
                except TimeoutError:
                    work.lost(CLIENT_STUCK)
                    await departure.force()
                except OSError:  # how servers of ASGI spec_version 2.4 say that the client has left
                    work.lost(CLIENT_LEFT)


def header_of(scope: Scope, name: bytes) -> bytes | None:
    """A header of the request; `name` in lower case."""
    for known, value in scope["headers"]:
        if known == name:
            return value  # type: ignore[no-any-return]
    return None


def query_of(scope: Scope) -> dict[str, str]:
    """What stands behind the `?`; of a name that is there twice, the last."""
    text = scope.get("query_string", b"").decode("latin-1")
    return {name: values[-1] for name, values in parse_qs(text, keep_blank_values=True).items()}


def take_only(method: str, *allowed: str) -> None:
    """HEAD is a GET whose body the server leaves out.

    Raises:
        Refusal: 405, the endpoint takes other methods.
    """
    if method not in allowed and not (method == "HEAD" and "GET" in allowed):
        named = ", ".join(allowed)
        raise Refusal(405, f"use {named} here", "method_not_allowed", headers={"allow": named})


async def send_object(send: Send, told: dict[str, Any]) -> None:
    """Sends an object as the whole answer."""
    body = as_json(told).encode()
    headers = [*JSON_HEADERS, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


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
