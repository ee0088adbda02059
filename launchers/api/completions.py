"""POST /v1/chat/completions, as a bare ASGI application: one request is one run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from starlette.types import Receive, Scope, Send

from ..abilities import Abilities
from ..inputs import takes_messages
from ..owners import owner_of
from .chat_replies import ChatStream, ChatWhole
from .chat_requests import ChatRequest
from .choices import answer_several
from .desks import Asked, Desk, Work
from .exchanges import Exchange, chosen_run_id
from .hints import taken_by
from .refusals import Refusal
from .replies import Reply, answer_whole, stream_answer

__all__ = ["ChatCompletions", "unknown_model"]

PATH = "/v1/chat/completions"


@dataclass
class ChatCompletions:
    """The endpoint for the flow of a desk."""

    desk: Desk

    def __post_init__(self) -> None:
        self.takes_messages = takes_messages(self.desk.flow)
        self.able = Abilities.of(self.desk.flow)
        self.takes_text = self.takes_messages or taken_by(self.desk.flow).text

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(self.desk, scope, receive, send)
        await exchange.run(self._accept, self._answer)

    async def _accept(self, exchange: Exchange) -> tuple[ChatRequest, Work]:
        """Reads and checks the request; where there is no place left it is not even read."""
        desk, scope = self.desk, exchange.scope
        if scope["method"] != "POST":
            raise Refusal(405, f"use POST for {PATH}", "method_not_allowed", headers={"allow": "POST"})
        if not self.takes_text:
            message = "this flow takes no text; POST /v1/runs takes its input, as /openapi.json describes it"
            raise Refusal(400, message, "unsupported_content", "messages")
        owner = owner_of(scope)
        desk.check(owner, PATH)
        body = await desk.read(scope, exchange.receive)
        request = ChatRequest.parse(body, desk.default_timeout, self.able)
        if request.model is not None and request.model != desk.model:
            raise unknown_model(request.model, desk.model)
        return request, desk.accept(owner, self._asked(request, scope), PATH)

    def _asked(self, request: ChatRequest, scope: Scope) -> Asked:
        flow, n = self.desk.flow, request.n
        x = request.messages if self.takes_messages else request.question
        return Asked(
            x,
            history=request.messages[:-1],
            timeout=request.timeout,
            sampling=request.sampling,
            tools=request.tools,
            tool_choice=request.tool_choice,
            run_id=chosen_run_id(scope),
            body=partial(answer_several, flow, x, n) if n > 1 else None,
        )

    async def _answer(self, request: ChatRequest, reply: Reply) -> None:
        run_id, model = reply.work.run.id, self.desk.model
        if request.stream:
            await stream_answer(reply, ChatStream(request, run_id, model))
        else:
            await answer_whole(reply, ChatWhole(request, run_id, model))


def unknown_model(name: str, known: str) -> Refusal:
    shown = name if len(name) <= 100 else f"{name[:100]}..."
    message = f"the model {shown!r} does not exist; this server has {known!r}"
    return Refusal(404, message, "model_not_found", "model")
