"""Replies: what a client is sent while its run goes on, as a stream or as one answer."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Send

from ...streaming.events import RunFinished, TextDelta
from ...streaming.memory import MemoryLog
from ...streaming.runs import Run
from ...streaming.streams import AsyncEventReader
from .chat_requests import ChatRequest
from .departures import Departure
from .patience import Timings, within
from .refusals import Refusal, refusal_of_end
from .wire import DONE, KEEP_ALIVE, Frames, completion, encode, finish_reason, frame

__all__ = ["Reply", "answer_whole", "stream_answer"]

SSE_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


@dataclass(slots=True)
class Reply:
    """One response in the making: what it answers, and the way to its client."""

    request: ChatRequest
    run: Run
    reader: AsyncEventReader
    model: str
    timings: Timings
    debug: bool
    departure: Departure
    send: Send
    created: int = field(default_factory=lambda: int(time.time()))
    started: bool = False

    async def start(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Sends status 200 and the headers."""
        self.started = True
        headers = [*headers, (b"x-run-id", self.run.id.encode())]
        await self.send({"type": "http.response.start", "status": 200, "headers": headers})

    async def write(self, body: bytes, more: bool) -> None:
        """Sends a piece of the body; waits while the client is slow.

        Raises:
            TimeoutError: it took nothing for `timings.write_idle` seconds.
        """
        message = {"type": "http.response.body", "body": body, "more_body": more}
        await within(self.timings.write_idle, self.send(message))

    def refusal(self, event: RunFinished) -> Refusal:
        """What the client is told about a run that has not ended as done."""
        refusal = refusal_of_end(event.status, event.reason, event.error, self.run.id, self.debug)
        refusal.headers["x-run-id"] = self.run.id
        return refusal


async def answer_whole(reply: Reply) -> None:
    """Waits for the run's end and sends the whole answer.

    Raises:
        Refusal: the run has not ended as done.
    """
    take, log, texts = reply.reader.take, reply.reader.log, []
    while True:
        event = take()
        if event is None:
            await log.waiter()
        elif type(event) is TextDelta:
            if event.output:
                texts.append(event.text)
        elif type(event) is RunFinished:
            break
    if reply.departure.over:
        return
    if event.status != "done":
        raise reply.refusal(event)
    text = "".join(texts) if texts else text_of(event.result)
    reason = finish_reason(event.reason)
    body = completion(reply.run.id, reply.model, reply.created, text, reason, event.usage)
    length = str(len(body)).encode()
    await reply.start([(b"content-type", b"application/json"), (b"content-length", length)])
    await reply.write(body, more=False)


async def stream_answer(reply: Reply) -> None:
    """Sends each piece as it comes; what has come meanwhile goes out together.

    Raises:
        Refusal: the run has ended otherwise than as done before anything was sent.
    """
    frames = Frames(reply.run.id, reply.model, reply.created, reply.request.include_usage)
    before, after, take = frames.before, frames.after, reply.reader.take
    said, parts = False, [frames.role()]
    with Silence(reply.reader.log, reply.timings) as silence:
        while True:
            event = take()
            if event is None:
                if said:
                    said = False
                    await flush(reply, parts)
                    silence.broken()
                elif silence.too_long:
                    silence.broken()
                    await flush(reply, [KEEP_ALIVE])
                else:
                    await silence.wait()
            elif type(event) is TextDelta:
                if event.output and event.text:
                    said = True
                    parts.append(f"{before}{encode(event.text)}{after}")
            elif type(event) is RunFinished:
                break
    if reply.departure.over:
        return
    if event.status == "done":
        parts += last_frames(reply, frames, event)
    else:
        refusal = reply.refusal(event)
        if not reply.started:
            raise refusal
        parts = [*(parts if said else ()), frame(refusal.as_json())]
    await flush(reply, parts, more=False)


def last_frames(reply: Reply, frames: Frames, event: RunFinished) -> list[str]:
    """What follows the last piece of a stream that ends well."""
    last = []
    if not reply.reader.log.text:  # nothing was streamed: the result is the answer
        text = text_of(event.result)
        last = [frames.content(text)] if text else []
    last.append(frames.finish(finish_reason(event.reason)))
    if reply.request.include_usage:
        last.append(frames.usage(event.usage))
    last.append(DONE)
    return last


async def flush(reply: Reply, parts: list[str], more: bool = True) -> None:
    """Sends what there is, and the headers before the first of it."""
    body = "".join(parts).encode()
    parts.clear()
    if not reply.started:
        await reply.start(SSE_HEADERS)
    await reply.write(body, more)


def text_of(result: Any) -> str:
    """A run's result as the answer's text, where nothing was streamed."""
    return "" if result is None else str(result)


class Silence:
    """Waits for a run's next event, and notices when nothing was sent for too long.

    One timer, moved when it fires: a piece that is sent costs none.
    """

    __slots__ = ("_log", "_loop", "_patience", "_since", "_timer", "_timings", "_waiter", "too_long")

    def __init__(self, log: MemoryLog, timings: Timings) -> None:
        self._log = log
        self._timings = timings
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self.too_long = False

    def broken(self) -> None:
        """Something was sent."""
        self.too_long = False
        self._since = self._loop.time()
        self._patience = self._timings.heartbeat

    async def wait(self) -> None:
        """Until the next event, or until the silence is too long."""
        self._waiter = self._log.waiter()
        await self._waiter

    def _look(self) -> None:
        left = self._since + self._patience - self._loop.time()
        if left <= 0:
            self.too_long = True
            left = self._timings.heartbeat
            if self._waiter is not None and not self._waiter.done():
                self._log.forget()
                self._waiter.set_result(None)
        self._timer = self._loop.call_later(left, self._look)

    def __enter__(self) -> Silence:
        self._since, self._patience = self._loop.time(), self._timings.first_output
        self._timer = self._loop.call_later(self._patience, self._look)
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
