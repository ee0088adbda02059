"""Replies: what a client is sent while its run goes on, as a stream or as one answer.

One loop sends, whatever the endpoint: how a run's events look on the wire is said by a dialect.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from starlette.types import Scope, Send

from ...streaming.endings import RunStatus
from ...streaming.errors import WriterLost
from ...streaming.events import Event, RunFinished, RunStarted
from ...streaming.usage import TokenUsage
from .departures import Departure
from .desks import Work
from .feeds import Silence
from .last_words import Will
from .patience import within
from .refusals import Refusal, failure_of, refusal_of_end

__all__ = [
    "JSON_HEADERS",
    "STARTED",
    "Reply",
    "StreamDialect",
    "WholeDialect",
    "answer_whole",
    "stream_answer",
]

STARTED = "millrace.started"
"""Where the ASGI scope of a request says that its answer has begun."""

KEEP_ALIVE = ": keep-alive\n\n"

LARGEST = 64 * 1024
"""Bytes that are written at once."""

JSON_HEADERS = [(b"content-type", b"application/json")]
SSE_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


class StreamDialect(Protocol):
    """How an endpoint puts a run's events into server-sent events, as text."""

    def begin(self) -> str:
        """What stands before the first piece."""

    def piece(self, event: Event) -> str:
        """An event other than the last; empty where the client is not told."""

    def end(self, finished: RunFinished) -> str:
        """The end of a run that is done."""

    def failure(self, finished: RunFinished, refusal: Refusal) -> str:
        """Any other end, once something was said; `refusal` is what the client may know."""

    def lost(self, finished: RunFinished, refusal: Refusal) -> str:
        """The end of a run whose process has died, at whatever place; made when the stream begins."""


class WholeDialect(Protocol):
    """How an endpoint puts a run into one answer."""

    def hear(self, event: Event) -> bool:
        """Is told each event but the last; whether it is a part of the answer."""

    def body(self, finished: RunFinished) -> bytes:
        """The answer of a run that is done, as JSON."""


@dataclass(slots=True)
class Reply:
    """One response in the making: the work that it answers, and the way to its client.

    `scope` is the request's, and told when the answer has STARTED. `prompt` is the part of the request that a prompt
    comes from, for errors about it.
    """

    work: Work
    departure: Departure
    scope: Scope
    send: Send
    started: bool = False
    prompt: str = "messages"

    def start(self, headers: list[tuple[bytes, bytes]], status: int = 200) -> Awaitable[None]:
        """Sends the status and the headers; to be awaited at once."""
        self.started = self.scope[STARTED] = True
        headers = [*headers, (b"x-run-id", self.work.run_id.encode())]
        return self.send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, body: bytes, more: bool) -> None:
        """Sends a piece of the body; waits while the client is slow.

        Servers wait before they write, not after: what is long goes out in pieces, of which each waits for the one
        before it, and its end waits for the last.

        Raises:
            TimeoutError: it took nothing for `timings.write_idle` seconds.
        """
        if len(body) > LARGEST:
            for start in range(0, len(body), LARGEST):
                await self._write(body[start : start + LARGEST], more=True)
            if more:
                return
            body = b""
        await self._write(body, more)

    def _write(self, body: bytes, more: bool) -> Awaitable[None]:
        message = {"type": "http.response.body", "body": body, "more_body": more}
        return within(self.work.desk.timings.write_idle, self.send(message))

    async def whole(self, body: bytes, status: int = 200) -> None:
        """Sends one JSON answer."""
        await self.start([*JSON_HEADERS, (b"content-length", b"%d" % len(body))], status)
        if len(body) > LARGEST:
            await self.write(body, more=False)
        else:
            await self._write(body, more=False)

    def refusal(self, event: RunFinished) -> Refusal:
        """What the client is told about a run that has not ended as done."""
        run, debug = self.work.run, self.work.desk.debug
        refusal = refusal_of_end(event.status, event.reason, event.error, run.id, debug)
        refusal.headers["x-run-id"] = run.id
        if refusal.code == "context_length_exceeded":
            refusal.param = self.prompt
        return refusal


async def answer_whole(reply: Reply, dialect: WholeDialect) -> None:
    """Waits for the run's end and sends the whole answer.

    Raises:
        Refusal: the run has not ended as done.
    """
    feed, hear, work = reply.work.feed, dialect.hear, reply.work
    while True:
        event = feed.take()
        if event is None:
            if reply.departure.over:
                return
            await feed.wait()
        elif type(event) is RunFinished:
            break
        else:
            if hear(event):
                work.heard(event)
    if reply.departure.over:
        return
    if event.status != "done":
        raise reply.refusal(event)
    work.concluded(event)
    await reply.whole(dialect.body(event))


async def stream_answer(reply: Reply, dialect: StreamDialect) -> None:
    """Sends each piece as it comes; what has come meanwhile goes out together.

    Raises:
        Refusal: the run has ended otherwise than as done before it said anything.
    """
    with Will(reply.work.desk.last_words, reply.scope) as will:
        try:
            await _send_all(reply, dialect, will)
        except (Refusal, OSError):
            raise
        except Exception as error:  # a fault of our own: the stream breaks off, and not without a word
            if reply.started and not reply.departure.over:
                will.take_back()
                ended = dialect.failure(made_up("error", "internal error", error), failure_of(error))
                await flush(reply, [ended], more=False)
            raise


async def _send_all(reply: Reply, dialect: StreamDialect, will: Will) -> None:
    work, feed, departure = reply.work, reply.work.feed, reply.departure
    take, piece, heard = feed.take, dialect.piece, work.heard
    said, parts, lost = False, [dialect.begin()], partial(end_of_lost, reply, dialect)
    with Silence(feed, work.desk.timings) as silence:
        while True:
            event = take()
            if event is None:
                if departure.over:
                    return
                if said:
                    said = False
                    await flush(reply, parts)
                    will.make(lost)
                    silence.broken()
                elif silence.too_long:
                    silence.broken()
                    await flush(reply, [KEEP_ALIVE])
                    will.make(lost)
                else:
                    await feed.wait()
                continue
            kind = type(event)
            if kind is RunFinished:
                break
            text = piece(event)
            if text:
                parts.append(text)
            if kind is RunStarted:
                silence.begin()  # it may still be refused as it ought to be: no reason to send the headers yet
            elif text:
                heard(event)
                said = True
    if departure.over:
        return
    assert isinstance(event, RunFinished)
    if event.status == "done":
        work.concluded(event)
        parts.append(dialect.end(event))
    else:
        refusal = reply.refusal(event)
        if not (reply.started or said):
            raise refusal
        parts.append(dialect.failure(event, refusal))
    will.take_back()
    await flush(reply, parts, more=False)


def end_of_lost(reply: Reply, dialect: StreamDialect) -> str:
    """What a client is told of a run whose process has died."""
    error = WriterLost(f"the process that ran {reply.work.run.id} died before its end")
    finished = made_up("lost", "writer lost", error)
    return dialect.lost(finished, reply.refusal(finished))


def made_up(status: RunStatus, reason: str, error: Exception) -> RunFinished:
    """A last event that the run itself has not said."""
    finished = RunFinished(status, reason, None, error, TokenUsage())
    event: Event = finished
    event.path, event.time = (), time.time()
    return finished


async def flush(reply: Reply, parts: list[str], more: bool = True) -> None:
    """Sends what there is, and the headers before the first of it."""
    body = "".join(parts).encode()
    parts.clear()
    if not reply.started:
        await reply.start(SSE_HEADERS)
    await reply.write(body, more)
