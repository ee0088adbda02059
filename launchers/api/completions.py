"""POST /v1/chat/completions, as a bare ASGI application: one request is one run.

The work is done in the run's own task. The request's task only reads what the run says and sends it on; when the
client leaves, it calls `run.cancel()` and waits for the run's cleanup, holding its permit until then.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from ...flow.steps import Step
from ...streaming.errors import Overloaded
from ...streaming.runs import Run
from ...streaming.streams import AsyncEventReader
from ..admission import Admission, Ticket
from ..inputs import takes_messages
from ..owners import Owner, owner_of
from ..tallies import Counted
from .bodies import read_object
from .chat_requests import ChatRequest
from .departures import Departure
from .patience import Timings
from .refusals import Refusal, overloaded
from .replies import Reply, answer_whole, stream_answer

__all__ = ["ChatCompletions", "unknown_model"]

CLIENT_LEFT = "client left"
CLIENT_STUCK = "client stopped reading"

NO_PLACE = (429, 503)
"""Refusals of what was asked well: these are counted, and bad requests are not."""


@dataclass
class ChatCompletions:
    """The endpoint for one flow, known to clients as `model`.

    `max_body` in bytes, `default_timeout` in seconds; `debug` puts tracebacks into answers.
    """

    flow: Step[Any, Any]
    model: str
    admission: Admission
    timings: Timings
    max_body: int
    default_timeout: float
    debug: bool = False
    runs: set[Run] = field(default_factory=set)
    closing: str | None = None

    def __post_init__(self) -> None:
        self.takes_messages = takes_messages(self.flow)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            owner = owner_of(scope)
            request, ticket = await self._accept(scope, receive, owner)
        except Refusal as refusal:
            if refusal.status in NO_PLACE:
                self.admission.tally.reject()
            await refusal.send_to(send)
        except ClientDisconnect:
            pass
        else:
            with self.admission.tally.begin() as counted, ticket, Departure(receive) as departure:
                try:
                    await self._answer(request, ticket, counted, departure, send)
                except Refusal as refusal:
                    if not departure.over:
                        await refusal.send_to(send)
                finally:
                    if counted.run is not None:
                        self.admission.spent(owner, counted.run.usage.total_tokens)

    def close(self, reason: str) -> None:
        """Ends what is going on, with an error to each client; new requests are refused."""
        self.closing = reason
        for run in list(self.runs):
            run.cancel(reason)

    # ------------------------------------------------------------ accepting

    async def _accept(self, scope: Scope, receive: Receive, owner: Owner) -> tuple[ChatRequest, Ticket]:
        """Reads and checks the request; where there is no place left it is not even read."""
        if scope["method"] != "POST":
            raise Refusal(
                405, "use POST for /v1/chat/completions", "method_not_allowed", headers={"allow": "POST"}
            )
        try:
            self._check_open()
            self.admission.check(owner)
            body = await read_object(scope, receive, self.max_body, self.timings.body)
            request = ChatRequest.parse(body, self.default_timeout)
            if request.model is not None and request.model != self.model:
                raise unknown_model(request.model, self.model)
            return request, self.admission.enter(owner)
        except Overloaded as error:
            raise overloaded(error) from None

    def _check_open(self) -> None:
        if self.closing is not None:
            raise Refusal(503, self.closing, "shutting_down", headers={"retry-after": "5"})

    # ------------------------------------------------------------ answering

    async def _answer(
        self, request: ChatRequest, ticket: Ticket, counted: Counted, departure: Departure, send: Send
    ) -> None:
        departure.then(ticket.leave)
        try:
            admitted = await ticket.wait()
        except Overloaded as error:
            counted.error = error
            raise overloaded(error) from None
        if admitted:  # and the client is still there
            self._check_open()
            await self._run(request, counted, departure, send)

    async def _run(self, request: ChatRequest, counted: Counted, departure: Departure, send: Send) -> None:
        *earlier, question = request.messages
        async with self.flow.stream(
            request.messages if self.takes_messages else question.content,
            history=earlier,
            timeout=request.timeout or self.default_timeout,
            sampling=request.sampling,
        ) as stream:
            counted.run = run = stream.run
            self.runs.add(run)
            departure.then(partial(run.cancel, CLIENT_LEFT))
            reader = cast("AsyncEventReader", aiter(stream))
            reply = Reply(request, run, reader, self.model, self.timings, self.debug, departure, send)
            try:
                await (stream_answer(reply) if request.stream else answer_whole(reply))
            except TimeoutError:
                run.cancel(CLIENT_STUCK)
            except OSError:  # how servers of ASGI spec_version 2.4 say that the client has left
                run.cancel(CLIENT_LEFT)
            finally:
                self.runs.discard(run)


def unknown_model(name: str, known: str) -> Refusal:
    shown = name if len(name) <= 100 else f"{name[:100]}..."
    message = f"the model {shown!r} does not exist; this server has {known!r}"
    return Refusal(404, message, "model_not_found", "model")
