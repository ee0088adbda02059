"""/v1/responses: the flow as OpenAI's newer clients ask it; and what became of a response, for a while."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from starlette.types import Receive, Scope, Send

from ...streaming.queues import RunInfo
from ..owners import owner_of
from .exchanges import query_of, send_object, take_only
from .kept_runs import end_of, find_run, stop_run
from .model_endpoints import TextEndpoint
from .refusals import Refusal, refusal_of_end
from .replies import Reply, answer_whole, stream_answer
from .response_items import MESSAGE, Output
from .response_objects import PREFIX, ResponseObject, status_of
from .response_replies import ResponseStream, ResponseWhole, ended, rest_of
from .response_requests import ResponseRequest

__all__ = ["Responses"]

PATH = "/v1/responses"


class Responses(TextEndpoint[ResponseRequest]):
    """The endpoints at and below /v1/responses, for the flow of a desk."""

    path = PATH

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", "")).removeprefix(PATH).strip("/")
        if not path:
            await super().__call__(scope, receive, send)
            return
        response_id, _, part = path.partition("/")
        method = scope["method"]
        try:
            if not part:
                take_only(method, "GET")
                _check_query(query_of(scope), response_id)
                await send_object(send, await self._told(await self._found(response_id, scope)))
            elif part == "cancel":
                take_only(method, "POST")
                info = await self._found(response_id, scope)
                info = await stop_run(self.desk, info, "cancelled by its client")
                await send_object(send, await self._told(info))
            else:
                raise Refusal(404, f"there is nothing at {scope['path'][:200]}", "not_found")
        except Refusal as refusal:
            await refusal.send_to(send)

    def _parse(self, body: Mapping[str, Any]) -> ResponseRequest:
        return ResponseRequest.parse(body, self.desk.default_timeout, self.able)

    async def _answer(self, request: ResponseRequest, reply: Reply) -> None:
        reply.prompt = "input"
        about = ResponseObject(reply.work.run.id, self.desk.model, time.time(), request.echo)
        if request.stream:
            await stream_answer(reply, ResponseStream(about))
        else:
            await answer_whole(reply, ResponseWhole(about))

    # ------------------------------------------------------------ what became of it

    async def _found(self, response_id: str, scope: Scope) -> RunInfo:
        info = None
        if response_id.startswith(PREFIX):
            info = await find_run(self.desk, response_id.removeprefix(PREFIX), owner_of(scope))
        if info is None:
            shown = response_id if len(response_id) <= 64 else f"{response_id[:64]}..."
            raise Refusal(404, f"there is no response {shown!r}", "response_not_found")
        return info

    async def _told(self, info: RunInfo) -> dict[str, Any]:
        """The response of a run, as its end tells it: what the request had said is not kept."""
        about = ResponseObject(info.id, self.desk.model, info.created)
        finished = await end_of(self.desk, info)
        if finished is None:
            return about.begun(status_of(info.status, None))
        output, refusal = Output(info.id), None
        if finished.status == "done":
            output.add(MESSAGE, rest_of(output, finished) or "")
        else:
            refusal = refusal_of_end(
                finished.status, finished.reason, finished.error, info.id, self.desk.debug
            )
        return ended(about, output, finished, refusal)


def _check_query(query: Mapping[str, str], response_id: str) -> None:
    """Nothing can be asked for here but the response as it is."""
    for name, value in query.items():
        if (name, value) == ("stream", "false"):
            continue
        known = name.removesuffix("[]") in ("stream", "starting_after", "include", "include_obfuscation")
        message = f"{name[:60]} is not supported here; leave it out"
        if name in ("stream", "starting_after"):
            run_id = response_id.removeprefix(PREFIX)[:64]
            message = f"{name} is not supported here; follow it at GET /v1/runs/{run_id}/events"
        code = "unsupported_parameter" if known else "unknown_parameter"
        raise Refusal(400, message, code, name[:60])
