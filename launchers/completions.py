"""POST /v1/chat/completions, as a bare ASGI application: one request is one run.

The work is done in the run's own task. The request's task only reads what the run says and sends it on; when the
client leaves, it calls `run.cancel()` and waits for the run's cleanup, holding its permit until then.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from ..flow.steps import Step
from ..streaming.errors import Overloaded
from ..streaming.events import RunFinished, TextDelta
from ..streaming.runs import Run
from ..streaming.streams import AsyncEventReader
from .admission import Admission, Ticket
from .bodies import read_object
from .chat_requests import ChatRequest
from .departures import Departure
from .inputs import takes_messages
from .outlets import Outlet, Timings
from .refusals import Refusal, overloaded, refusal_of_end
from .wire import DONE, KEEP_ALIVE, Frames, completion, encode, finish_reason, frame

__all__ = ["ChatCompletions"]

CLIENT_LEFT = "client left"
CLIENT_STUCK = "client stopped reading"

POST_ONLY = {"allow": "POST"}
SSE_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


@dataclass
class ChatCompletions:
    """The endpoint for one flow, known to clients as `model`."""

    flow: Step[Any, Any]
    model: str
    admission: Admission
    timings: Timings
    max_body: int
    default_timeout: float
    debug: bool = False
    runs: set[Run] = field(default_factory=set)
    closing: bool = False

    def __post_init__(self) -> None:
        self.whole = takes_messages(self.flow)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if scope["method"] != "POST":
                raise Refusal(
                    405, "use POST for /v1/chat/completions", "method_not_allowed", headers=POST_ONLY
                )
            request, ticket = await self._accept(scope, receive)
        except Refusal as refusal:
            await refusal.send_to(send)
        except ClientDisconnect:
            return
        else:
            with ticket, Departure(receive) as departure:
                await self._serve(request, ticket, departure, send)

    def cancel_all(self, reason: str) -> None:
        """Ends what is going on, with an error to each client; new requests are refused."""
        self.closing = True
        for run in list(self.runs):
            run.cancel(reason)

    # ------------------------------------------------------------ accepting

    async def _accept(self, scope: Scope, receive: Receive) -> tuple[ChatRequest, Ticket]:
        """Reads and checks the request; a server without a place left does not even read it."""
        try:
            self._check_open()
            self.admission.check()
            body = await read_object(scope, receive, self.max_body, self.timings.body)
            request = ChatRequest.parse(body, self.default_timeout)
            if request.model not in (None, self.model):
                raise unknown_model(request.model or "", self.model)
            self._check_open()
            return request, self.admission.enter()
        except Overloaded as error:
            raise overloaded(error) from None

    def _check_open(self) -> None:
        if self.closing:
            raise Refusal(503, "the server is shutting down", "shutting_down", headers={"retry-after": "5"})

    async def _serve(self, request: ChatRequest, ticket: Ticket, departure: Departure, send: Send) -> None:
        departure.then(ticket.leave)
        try:
            try:
                if not await ticket.wait():
                    return  # the client left before its turn
            except Overloaded as error:
                raise overloaded(error, 503) from None
            await self._run(request, departure, send)
        except Refusal as refusal:
            if not departure.over:
                await refusal.send_to(send)
        except OSError:  # TimeoutError is one: a client that stopped reading
            departure.happen()

    # ------------------------------------------------------------ running

    async def _run(self, request: ChatRequest, departure: Departure, send: Send) -> None:
        *earlier, question = request.messages
        stream = self.flow.stream(
            request.messages if self.whole else question.content,
            history=earlier,
            timeout=request.timeout or self.default_timeout,
            sampling=request.sampling,
        )
        async with stream:
            run = stream.run
            self.runs.add(run)
            try:
                self._check_open()
                departure.then(partial(run.cancel, CLIENT_LEFT))
                reader = cast("AsyncEventReader", aiter(stream))
                reply = Reply(self, request, run, reader, departure, send)
                await (reply.stream() if request.stream else reply.answer())
            except TimeoutError:
                run.cancel(CLIENT_STUCK)
                raise
            finally:
                self.runs.discard(run)


class Reply:
    """What is sent to one client while its run goes on."""

    def __init__(
        self,
        endpoint: ChatCompletions,
        request: ChatRequest,
        run: Run,
        reader: AsyncEventReader,
        departure: Departure,
        send: Send,
    ) -> None:
        self.endpoint = endpoint
        self.request = request
        self.run = run
        self.reader = reader
        self.departure = departure
        self.outlet = Outlet(send, endpoint.timings, self._on_silence)
        self.created = int(time.time())
        self.silent = False
        self.waiter: asyncio.Future[None] | None = None

    async def answer(self) -> None:
        """Waits for the end and sends the whole answer."""
        async with self.outlet:
            take, texts = self.reader.take, []
            while True:
                event = take()
                if event is None:
                    await self._more()
                elif type(event) is TextDelta:
                    if event.output:
                        texts.append(event.text)
                elif type(event) is RunFinished:
                    break
            if self.departure.over:
                return
            self._check_done(event)
            text = "".join(texts) if texts else text_of(event.result)
            body = completion(
                self.run.id, self.endpoint.model, self.created, text, finish_reason(event.reason), event.usage
            )
            headers = [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
                self._run_id,
            ]
            await self.outlet.start(200, headers)
            await self.outlet.write(body, more=False)

    async def stream(self) -> None:
        """Sends each piece as it comes; what has come meanwhile goes out together."""
        self.frames = frames = Frames(
            self.run.id, self.endpoint.model, self.created, self.request.include_usage
        )
        before, after = frames.before, frames.after
        parts = [frames.role()]
        said = False
        async with self.outlet:
            take = self.reader.take
            while True:
                event = take()
                if event is None:
                    if said:
                        await self._flush(parts)
                        said = False
                    elif self.silent:
                        self.silent = False
                        await self._flush([KEEP_ALIVE])
                    else:
                        await self._more()
                elif type(event) is TextDelta:
                    if event.output and event.text:
                        parts.append(f"{before}{encode(event.text)}{after}")
                        said = True
                elif type(event) is RunFinished:
                    break
            if not self.departure.over:
                await self._end(parts, event)

    async def _end(self, parts: list[str], event: RunFinished) -> None:
        if event.status == "done":
            parts += self._last_frames(event)
        elif not self.outlet.started:
            self._check_done(event)
        else:
            parts.append(frame(self._refusal(event).as_json()))
        await self._flush(parts, more=False)

    def _last_frames(self, event: RunFinished) -> list[str]:
        last = []
        if not self.reader.log.text:  # nothing was streamed: the result is the answer
            text = text_of(event.result)
            last = [self.frames.content(text)] if text else []
        last.append(self.frames.finish(finish_reason(event.reason)))
        if self.request.include_usage:
            last.append(self.frames.usage(event.usage))
        last.append(DONE)
        return last

    async def _flush(self, parts: list[str], more: bool = True) -> None:
        if not self.outlet.started:
            await self.outlet.start(200, [*SSE_HEADERS, self._run_id])
        body = "".join(parts).encode()
        parts.clear()
        await self.outlet.write(body, more)

    # ------------------------------------------------------------ helpers

    @property
    def _run_id(self) -> tuple[bytes, bytes]:
        return b"x-run-id", self.run.id.encode()

    def _check_done(self, event: RunFinished) -> None:
        if event.status != "done":
            refusal = self._refusal(event)
            refusal.headers["x-run-id"] = self.run.id
            raise refusal

    def _refusal(self, event: RunFinished) -> Refusal:
        return refusal_of_end(event.status, event.reason, event.error, self.run.id, self.endpoint.debug)

    async def _more(self) -> None:
        """Waits for the next event, or for a silence that is to be broken."""
        self.waiter = self.reader.log.waiter()
        await self.waiter

    def _on_silence(self) -> None:
        if self.request.stream and self.waiter is not None and not self.waiter.done():
            self.silent = True
            self.reader.log.forget()
            self.waiter.set_result(None)


def text_of(result: Any) -> str:
    """A run's result as the answer's text, where nothing was streamed."""
    return "" if result is None else str(result)


def unknown_model(name: str, known: str) -> Refusal:
    shown = name if len(name) <= 100 else f"{name[:100]}..."
    return Refusal(
        404,
        f"the model {shown!r} does not exist; this server has {known!r}",
        "model_not_found",
        "model",
    )
