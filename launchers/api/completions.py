"""POST /v1/chat/completions: one request is one run."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from .chat_replies import ChatStream, ChatWhole
from .chat_requests import ChatRequest
from .choices import answer_several
from .desks import Asked
from .model_endpoints import TextEndpoint
from .replies import Reply, answer_whole, stream_answer

__all__ = ["ChatCompletions"]

PATH = "/v1/chat/completions"


class ChatCompletions(TextEndpoint[ChatRequest]):
    """The endpoint for the flow of a desk."""

    path = PATH

    def _parse(self, body: Mapping[str, Any]) -> ChatRequest:
        return ChatRequest.parse(body, self.desk.default_timeout, self.able)

    def _asked(self, request: ChatRequest) -> Asked:
        asked = super()._asked(request)
        asked.tools, asked.tool_choice = request.tools, request.tool_choice
        if request.n > 1:
            at_once = self.desk.admission.limits.running
            asked.body = partial(answer_several, self.desk.flow, asked.x, request.n, at_once)
        return asked

    async def _answer(self, request: ChatRequest, reply: Reply) -> None:
        run_id, model = reply.work.run_id, self.desk.model
        if request.stream:
            await stream_answer(reply, ChatStream(request, run_id, model))
        else:
            await answer_whole(reply, ChatWhole(request, run_id, model))
