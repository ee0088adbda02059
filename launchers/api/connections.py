"""Connections: what a client may send before there is a request, and peers that are gone.

A request's head is bounded in size, in lines and in the time that it takes; what of a body comes after its answer is
thrown away, for a moment only. uvicorn knows none of this, and both of its parsers are held to it from outside.
"""

from __future__ import annotations

import asyncio
import math
import re
import socket
from collections.abc import Awaitable, Iterable
from functools import partial
from http import HTTPStatus
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.auto import AutoHTTPProtocol
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT

from .idling import IdleClock
from .last_words import tell_connection
from .patience import Timings
from .refusals import Refusal
from .writes import HeldHeads, JoinedHeads

__all__ = ["LARGEST_HEAD", "BoundedHeads", "connection_type"]

LARGEST_HEAD = 64 * 1024
"""Bytes of a request's head."""

LONGEST_TARGET = 8 * 1024
"""Bytes of a request's path and query."""

MOST_LINES = 100
"""Headers of a request."""

LINGER = 2.0
"""Seconds in which a client that was answered early may notice it; what it still sends is thrown away."""

PROBES = 4

OFFER = re.compile(rb"\r\nupgrade(?=[ \t]*:)", re.IGNORECASE)
"""The header by which a client offers to speak another protocol, as Java's does with every request: it is not taken
up (RFC 9110, 7.8). To a parser it ends the request at its head, and the body is lost.
"""


class BoundedHeads:
    """Refuses requests with too many headers, or too long a target, before anybody looks at them."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http":
            if len(scope["headers"]) > MOST_LINES:
                return head_too_large(f"it has more than {MOST_LINES} headers").send_to(send)
            if len(scope["raw_path"]) + len(scope["query_string"]) > LONGEST_TARGET:
                return target_too_long().send_to(send)
        return self.app(scope, receive, send)


class Bounded(asyncio.Protocol):
    """A part of uvicorn's HTTP protocols, to stand before either of them.

    Of those it uses what stands here, of which `cycle` is the request that came last, and what they call by name.
    """

    timings: Timings
    heads: HeldHeads
    loop: Any
    transport: Any
    server_state: Any
    flow: Any
    cycle: Any
    app: Any

    _own_loop: asyncio.AbstractEventLoop
    _serving: Any = None  # the request that is being answered, where others may have come behind it
    _left_over: Any = None  # the request that was answered before its body had come
    _fed = 0  # bytes of a head that is under way
    _behind = 0  # bytes of requests that wait for others to be answered
    _deaf = False
    _clock: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        self._own_loop, self.loop = self.loop, IdleClock(self.loop)
        super().connection_made(JoinedHeads(transport, self.heads))  # type: ignore[arg-type]
        self.app = partial(tell_connection, transport, self.app)
        expect_answers(transport.get_extra_info("socket"), self.timings.write_idle)
        self._set_clock(self.timings.head, self._head_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_clock()
        super().connection_lost(exc)
        self.loop.stop()
        self._disconnect()

    def data_received(self, data: bytes) -> None:
        cycle = self.cycle
        if self._deaf:
            return
        if cycle is not None and (not cycle.response_complete or cycle is self._left_over):
            super().data_received(data)
            self._listen_on(len(data))
            return
        room = LARGEST_HEAD - self._fed
        self._fed += len(data)
        if b"pgrade" in data or b"PGRADE" in data:
            data = without_offer(data)
        if room:
            super().data_received(data if len(data) <= room else data[:room])
        if self.cycle is not cycle:  # the head is complete
            self._fed = 0
            self._stop_clock()
            if len(data) > room:
                self.data_received(data[room:])
            else:
                self._listen_on(len(data))
        elif len(data) > room:
            self._refuse(head_too_large(f"it is larger than {LARGEST_HEAD} bytes"))
        elif self._clock is None:
            self._set_clock(self.timings.head, self._head_is_late)

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn for what is no HTTP."""
        self._refuse(Refusal(400, "this is no HTTP/1.1 request", "invalid_request"))

    def on_response_complete(self) -> None:
        """Called by uvicorn."""
        super().on_response_complete()  # type: ignore[misc]
        self._behind = 0
        cycle = self.cycle
        if cycle.more_body and cycle.response_complete and not self.transport.is_closing():
            self._left_over = cycle
            self._set_clock(LINGER, self._rest_is_late)

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """Called by uvicorn, where its parser reads on while an answer is given."""
        self._serving = cycle
        super()._start_asgi_task(cycle, app)  # type: ignore[misc]

    def _listen_on(self, size: int) -> None:
        """Goes on reading where a request waits behind one that is being answered.

        uvicorn stops there; then nobody would hear that the client leaves.
        """
        if self.flow.read_paused and len(self.cycle.body) <= HIGH_WATER_LIMIT:
            self._behind += size
            if self._behind <= LARGEST_HEAD:
                self.flow.resume_reading()

    # ------------------------------------------------------------ ends

    def _head_is_late(self) -> None:
        if self._fed:
            late = f"the head of the request did not arrive within {self.timings.head:g} s; send it again"
            self._refuse(Refusal(408, late, "request_timeout"))
        else:
            self.transport.close()

    def _rest_is_late(self) -> None:
        self._clock = None
        if self.cycle is self._left_over:  # no other request has come after it
            self.transport.close()

    def _refuse(self, refusal: Refusal) -> None:
        """Ends the connection, with an answer unless it is in the middle of one.

        Its own side is closed first: a close while something unread lies there would take the answer along.
        """
        if self._deaf:
            return
        self._deaf = True
        self._stop_clock()
        serving = self._serving or self.cycle
        under_way = serving is not None and serving.response_started and not serving.response_complete
        self._disconnect()
        if self.transport.is_closing():
            return
        if not under_way:
            self.transport.write(in_full(refusal, self.server_state.default_headers))
        if under_way or not self.transport.can_write_eof():
            self.transport.close()
        else:
            self.transport.write_eof()
            self._set_clock(LINGER, self.transport.close)

    def _disconnect(self) -> None:
        """Tells the request that is being answered, which uvicorn forgets once another one has come behind it."""
        for cycle in (self._serving, self.cycle):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()

    def _set_clock(self, seconds: float, then: Any) -> None:
        self._stop_clock()
        self._clock = self._own_loop.call_later(seconds, then)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None


def connection_type(timings: Timings, loop: asyncio.AbstractEventLoop) -> type[asyncio.Protocol]:
    """uvicorn's HTTP protocol, the faster one of its two that is installed, with all that stands above; for a server
    on `loop`.
    """
    return type("Connection", (Bounded, AutoHTTPProtocol), {"timings": timings, "heads": HeldHeads(loop)})


def without_offer(data: bytes) -> bytes:
    """What has come of a head, where the header OFFER has another name of the same length."""
    head, end, rest = data.partition(b"\r\n\r\n")
    return OFFER.sub(b"\r\nx-offer", head) + end + rest


def head_too_large(why: str) -> Refusal:
    return Refusal(
        431, f"the head of the request is too large: {why}", "head_too_large", headers={"connection": "close"}
    )


def target_too_long() -> Refusal:
    return Refusal(
        414,
        f"path and query have more than {LONGEST_TARGET} bytes; put what you have to say into the body",
        "target_too_long",
        headers={"connection": "close"},
    )


def in_full(refusal: Refusal, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A refusal as it goes over the wire, where there is no request that it could answer."""
    body = refusal.as_json().encode()
    head = [
        b"HTTP/1.1 %d %s" % (refusal.status, HTTPStatus(refusal.status).phrase.encode()),
        *(b"%s: %s" % header for header in headers),
        b"content-type: application/json",
        b"content-length: %d" % len(body),
        b"connection: close",
    ]
    return b"\r\n".join([*head, b"", body])


def expect_answers(connection: Any, seconds: float) -> None:
    """Has the kernel end a connection whose peer acknowledges nothing, or is silent to probes, for so long.

    Only Linux knows the first; elsewhere a client that was cut off keeps its socket until it closes it.
    """
    if connection is None or connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    options = {
        "TCP_USER_TIMEOUT": math.ceil(seconds * 1000),
        "TCP_KEEPIDLE": math.ceil(seconds),
        "TCP_KEEPINTVL": math.ceil(seconds / PROBES),
        "TCP_KEEPCNT": PROBES,
    }
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in options.items():
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
