"""What the endpoints that OpenAI's clients know have in common: the flow is a model there, and a request is one run."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from starlette.types import Receive, Scope, Send

from ..abilities import Abilities
from ..inputs import takes_messages
from ..owners import owner_of
from .chat_requests import TextRequest
from .desks import Asked, Desk, Work
from .exchanges import Exchange, chosen_run_id
from .purposes import Purpose, conversation
from .refusals import Refusal
from .replies import Reply

__all__ = ["ModelEndpoint", "TextEndpoint", "unknown_model"]


class ModelRequest(Protocol):
    """A request that names the flow as a model, or nothing."""

    model: str | None


Request = TypeVar("Request", bound=ModelRequest)
Text = TypeVar("Text", bound=TextRequest)


class ModelEndpoint(Generic[Request]):
    """A bare ASGI application, for the flow of a desk; a subclass says what a request is and how it is answered.

    `purpose` is what the flow must be for.
    """

    path: ClassVar[str]

    def __init__(self, desk: Desk, purpose: Purpose) -> None:
        self.desk = desk
        self.purpose = purpose

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return Exchange(self.desk, scope, receive, send).run(self._accept, self._answer)

    async def _accept(self, exchange: Exchange) -> tuple[Request, Work]:
        """Reads and checks the request; where there is no place left it is not even read."""
        desk, scope = self.desk, exchange.scope
        if scope["method"] != "POST":
            raise Refusal(405, f"use POST for {self.path}", "method_not_allowed", headers={"allow": "POST"})
        self.purpose.check()
        owner = owner_of(scope)
        desk.check(owner, self.path)
        body = await desk.read(scope, exchange.receive)
        request = self._parse(body)
        if request.model is not None and request.model != desk.model:
            raise unknown_model(request.model, desk.model)
        asked = self._asked(request)
        asked.run_id = chosen_run_id(scope)
        return request, desk.accept(owner, asked, self.path)

    def _parse(self, body: Mapping[str, Any]) -> Request:
        """Raises: Refusal: 400, naming the parameter."""
        raise NotImplementedError

    def _asked(self, request: Request) -> Asked:
        raise NotImplementedError

    async def _answer(self, request: Request, reply: Reply) -> None:
        raise NotImplementedError


class TextEndpoint(ModelEndpoint[Text]):
    """An endpoint where the flow is asked in messages and answers in text."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk, conversation(desk.flow, desk.model))
        self.takes_messages = takes_messages(desk.flow)
        self.able = Abilities.of(desk.flow)

    def _asked(self, request: Text) -> Asked:
        """The last message goes in, what was said before is the history; a flow of messages gets all."""
        return Asked(
            request.messages if self.takes_messages else request.question,
            history=request.messages[:-1],
            timeout=request.timeout,
            sampling=request.sampling,
        )


def unknown_model(name: str, known: str) -> Refusal:
    shown = name if len(name) <= 100 else f"{name[:100]}..."
    message = f"the model {shown!r} does not exist; this server has {known!r}"
    return Refusal(404, message, "model_not_found", "model")
