"""/v1/runs: starting runs of the flow, looking at them, following what they say, and stopping them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from ...streaming.queues import RunInfo
from ..abilities import Abilities
from ..owners import Owner, owner_of
from .desks import Desk, Work
from .exchanges import Exchange, chosen_run_id, header_of, query_of, send_object, take_only
from .followers import Followers, follow
from .hints import Hint, taken_by
from .kept_runs import end_of, find_run, runs_of, stop_run
from .parameters import check_keys, check_text
from .purposes import Purpose, runs
from .refusals import Refusal
from .replies import SSE_HEADERS, Reply, answer_whole, stream_answer
from .run_frames import PROMPT, RunFrames, RunStream, RunWhole, object_of, run_object
from .run_requests import RunRequest, visible
from .values import as_json

__all__ = ["Runs"]

PATH = "/v1/runs"
PAGE, LARGEST_PAGE = 20, 100
REASON = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]{1,200}")


@dataclass
class Runs:
    """The endpoints below /v1/runs, for the flow of a desk."""

    desk: Desk
    takes: Hint = field(init=False)
    able: Abilities = field(init=False)
    purpose: Purpose = field(init=False)
    followers: Followers = field(init=False)

    def __post_init__(self) -> None:
        self.takes = taken_by(self.desk.flow)
        self.able = Abilities.of(self.desk.flow)
        self.purpose = runs(self.desk.flow, self.desk.model)
        self.followers = Followers(self.desk)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", "")).removeprefix(PATH).strip("/")
        run_id, _, part = path.partition("/")
        method = scope["method"]
        try:
            if not run_id:
                if method == "POST":
                    await Exchange(self.desk, scope, receive, send).run(self._accept, self._answer)
                else:
                    take_only(method, "GET", "POST")
                    await send_object(send, await self._listed(scope))
            elif not part:
                take_only(method, "GET")
                info = await self._found(run_id, scope)
                await send_object(send, await self._told(info, owner_of(scope)))
            elif part == "events":
                take_only(method, "GET")
                await self._follow(run_id, scope, receive, send)
            elif part == "cancel":
                take_only(method, "POST")
                await send_object(send, await self._cancel(run_id, scope, receive))
            else:
                raise Refusal(404, f"there is nothing at {scope['path'][:200]}", "not_found")
        except Refusal as refusal:
            await refusal.send_to(send)
        except ClientDisconnect:
            pass

    # ------------------------------------------------------------ starting

    async def _accept(self, exchange: Exchange) -> tuple[RunRequest, Work]:
        self.purpose.check()
        desk, scope = self.desk, exchange.scope
        owner = owner_of(scope)
        desk.check(owner, PATH)
        body = await desk.read(scope, exchange.receive)
        request = RunRequest.parse(body, self.takes, desk, self.able)
        request.asked.run_id = chosen_run_id(scope)
        return request, desk.accept(owner, request.asked, PATH)

    async def _answer(self, request: RunRequest, reply: Reply) -> None:
        desk, work = self.desk, reply.work
        reply.prompt = PROMPT
        if request.asked.background:
            await reply.whole(as_json(object_of(work)).encode(), 202)
        elif request.stream:
            await stream_answer(reply, RunStream(work.run.id, request.events, desk.debug))
        else:
            await answer_whole(reply, RunWhole(work))

    # ------------------------------------------------------------ looking

    async def _found(self, run_id: str, scope: Scope) -> RunInfo:
        """The run, if it is the owner's: of others it is not even told that they are there.

        Raises:
            Refusal: 404, or 410 where it is not kept any more.
        """
        info = await find_run(self.desk, run_id, owner_of(scope))
        if info is None:
            shown = run_id if len(run_id) <= 64 else f"{run_id[:64]}..."
            raise Refusal(404, f"there is no run {shown!r}; GET {PATH} lists yours", "run_not_found")
        return info

    async def _told(self, info: RunInfo, owner: Owner) -> dict[str, Any]:
        return run_object(info, owner, await end_of(self.desk, info), self.desk.debug)

    async def _listed(self, scope: Scope) -> dict[str, Any]:
        owner, limit = owner_of(scope), _limit(scope)
        page = await runs_of(self.desk, owner, limit + 1)
        data = [run_object(info, owner, None, self.desk.debug) for info in page[:limit]]
        return {"object": "list", "data": data, "has_more": len(page) > limit}

    async def _follow(self, run_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        info = await self._found(run_id, scope)
        query = query_of(scope)
        frames = RunFrames(info.id, visible(query.get("events"), self.desk.events), self.desk.debug)
        after = _after(scope, query)
        if scope["method"] == "HEAD":
            await send({"type": "http.response.start", "status": 200, "headers": SSE_HEADERS})
            await send({"type": "http.response.body", "body": b""})
        else:
            await follow(self.followers, info, after, frames, scope, receive, send)

    # ------------------------------------------------------------ stopping

    async def _cancel(self, run_id: str, scope: Scope, receive: Receive) -> dict[str, Any]:
        info = await self._found(run_id, scope)
        reason = await self._reason(scope, receive)
        info = await stop_run(self.desk, info, reason)
        return await self._told(info, owner_of(scope))

    async def _reason(self, scope: Scope, receive: Receive) -> str:
        """What the client says about its stop; nothing need be said."""
        if header_of(scope, b"content-length") in (None, b"0") and not header_of(scope, b"transfer-encoding"):
            return "cancelled by its client"
        body = await self.desk.read(scope, receive)
        check_keys(body, ("reason",), "")
        reason = body.get("reason", "cancelled by its client")
        if not isinstance(reason, str) or not REASON.fullmatch(reason):
            message = "reason must be one line of text, of 1 to 200 characters"
            raise Refusal(400, message, "invalid_value", "reason")
        return check_text(reason, "reason")


def _limit(scope: Scope) -> int:
    limit = _whole(query_of(scope).get("limit", str(PAGE)))
    if limit is None or not 1 <= limit <= LARGEST_PAGE:
        raise Refusal(400, f"limit must be a whole number from 1 to {LARGEST_PAGE}", "invalid_value", "limit")
    return limit


def _after(scope: Scope, query: dict[str, str]) -> int:
    """The `seq` that the client has already; the header is what browsers send when they come back."""
    header = header_of(scope, b"last-event-id")
    given = {"after": query.get("after", "0")}
    if header is not None:
        given["Last-Event-ID"] = header.decode("latin-1")
    numbers = {name: _whole(text) for name, text in given.items()}
    for name, number in numbers.items():
        if number is None:
            message = f"{name} must be the id of an event: a whole number from 0"
            raise Refusal(400, message, "invalid_value", name)
    return [number for number in numbers.values() if number is not None][-1]


def _whole(text: str) -> int | None:
    """The number, where the text is nothing but one from 0 of a sensible length."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 15 else None
