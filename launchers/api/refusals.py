"""Refusals: every answer of the service that is an error, in OpenAI's shape and with a safe text.

Errors of a user's own steps carry text that belongs into the log: a client is told their type, no more.
"""

from __future__ import annotations

import json
import logging
import math
import traceback
from collections.abc import Mapping
from typing import Any

from starlette.types import Send

from ...streaming.errors import (
    ContextLengthExceeded,
    EventsExpired,
    MillraceError,
    ModelError,
    Overloaded,
    RemoteError,
    RequestRefused,
    RunCancelled,
    RunTimeout,
    SessionBusy,
    WriterLost,
)
from ..quotas import QuotaExceeded

__all__ = ["SHUTTING_DOWN", "Refusal", "failure_of", "kind_of", "log_failure", "refusal_of", "shutting_down"]

logger = logging.getLogger("millrace.service")

SHUTTING_DOWN = "the server is shutting down"

DO_NOT_RETRY = {"x-should-retry": "false"}
"""The openai client repeats every 5xx by itself; a failed flow or a passed deadline would only fail again."""


FULL = "too many requests at once; try again later"
TOO_LATE = "no place became free in time; try again later"
TOO_LONG = "the prompt and its answer do not fit the model's context; shorten the prompt or lower max_tokens"
SESSION_BUSY = "another run of this session is at its turn; wait for that one's end, or use another session"
CANCELLED = "the run was cancelled: stopped by the flow"
EXPIRED = (
    "what the run said there is not kept any more, or it has not said so much; start it again, or have the server keep "
    "its runs on disk"
)
"""What clients are told of errors whose own texts may say what is not for them."""

PARAMS = {"json_schema": "response_format"}
"""What clients call the settings that a model can refuse, where that is another name."""


class Refusal(Exception):
    """An HTTP answer that is an error; raised inside the service, sent, and never seen by its user.

    Args:
        status: the HTTP status.
        message: what is wrong and what to do about it; the client reads it.
        code: a word for programs.
        param: the part of the request that is at fault, such as `messages[0].role`.
        headers: further headers of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.headers = dict(headers or {})

    @property
    def type(self) -> str:
        """OpenAI's coarse kind of error."""
        if self.status == 429:
            return "rate_limit_error"
        return "server_error" if self.status >= 500 else "invalid_request_error"

    def fields(self) -> dict[str, Any]:
        """`{message, type, param, code}`."""
        told = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return {name: text and text.encode(errors="backslashreplace").decode() for name, text in told.items()}

    def as_json(self) -> str:
        """`{"error": {message, type, param, code}}`."""
        return json.dumps({"error": self.fields()}, separators=(",", ":"))

    async def send_to(self, send: Send) -> None:
        """Sends it as the whole response."""
        body = self.as_json().encode()
        headers = {"content-type": "application/json", "content-length": str(len(body)), **self.headers}
        raw = [(name.encode(), text.encode("latin-1", "replace")) for name, text in headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": raw})
        await send({"type": "http.response.body", "body": body})


def failure_of(error: Exception) -> Refusal:
    """What a client is told of a fault of the service's own; servers close the connection behind one."""
    message = f"the server failed with {type(error).__name__}"
    return Refusal(500, message, "internal_error", headers={"connection": "close"})


def shutting_down() -> Refusal:
    """The server takes nothing new, or has stopped what went on."""
    return Refusal(503, SHUTTING_DOWN, "shutting_down", headers={"retry-after": "5"})


def overloaded(error: Overloaded, message: str | None = None) -> Refusal:
    """429 where there was no place, or the caller had its share already; 503 where none became free in time.

    `message` stands for what the error says, which is for clients where the service's own admission raised it.
    """
    status, code = (503, "queue_timeout") if error.waited else (429, "overloaded")
    if isinstance(error, QuotaExceeded):
        code = "quota_exceeded"
    said = error.retry_after  # where a step has raised it, that may be anything
    seconds = max(0.0, said) if math.isfinite(said) else 1.0
    wait = {"retry-after": str(math.ceil(seconds)), "retry-after-ms": str(math.ceil(seconds * 1000))}
    return Refusal(status, message or str(error), code, headers=wait)


def refusal_of(error: BaseException, run_id: str | None = None, debug: bool = False) -> Refusal:
    """What a client is told about an error that ended its run; `debug` puts the traceback into the message."""
    match error:
        case Overloaded():
            return overloaded(error, _told(error, FULL if not error.waited else TOO_LATE, debug))
        case EventsExpired():
            return Refusal(410, _told(error, EXPIRED, debug), "events_expired", "after")
        case ContextLengthExceeded():
            return Refusal(400, _told(error, TOO_LONG, debug), "context_length_exceeded", "messages")
        case RequestRefused(by_run=True):
            param = PARAMS.get(error.setting, error.setting)
            message = (
                f"the model cannot do what {param or 'the request'} asks for; change it, or leave it out"
            )
            return Refusal(400, _told(error, message, debug), "invalid_value", param)
        case SessionBusy():
            return Refusal(409, _told(error, SESSION_BUSY, debug), "session_busy")
        case RunTimeout():
            return Refusal(
                504,
                "the deadline passed before the answer was complete; ask for less, or for more time (timeout, up to "
                "the server's default_timeout)",
                "timeout",
                headers=DO_NOT_RETRY,
            )
        case RunCancelled(reason=reason) if reason == SHUTTING_DOWN:
            return shutting_down()
        case RunCancelled():
            return Refusal(503, _told(error, CANCELLED, debug), "cancelled", headers=DO_NOT_RETRY)
        case WriterLost():
            message = "the process that ran it died before its end; begin it anew"
            return Refusal(500, message, "run_lost", headers=DO_NOT_RETRY)
    return Refusal(500, _safe(error, run_id, debug), _code(error), headers=DO_NOT_RETRY)


def log_failure(error: BaseException, run_id: str) -> None:
    """Writes down what a client may not see of an error that ended its run: in a line, where its kind says enough."""
    if refusal_of(error).status == 500:
        logger.error("run %s failed", run_id, exc_info=error)
    elif not getattr(error, "public", False):
        words = "; ".join([str(error), *getattr(error, "__notes__", ())])
        logger.warning("run %s ended with %s: %s", run_id, type(error).__name__, words)


def _told(error: MillraceError, message: str, debug: bool) -> str:
    """What an error says where that is for clients, and else `message`: a step may have raised it, or a server that
    it has asked, whose texts are for the log.
    """
    return str(error) if error.public or debug else message


def _safe(error: BaseException, run_id: str | None, debug: bool) -> str:
    if debug:
        return "".join(traceback.format_exception(error)).rstrip()
    where = f"run {run_id}" if run_id else "this request"
    return f"the flow failed with {kind_of(error)}; the server's log says more about {where}"


def kind_of(error: BaseException) -> str:
    """The name of an error's class; also where it is read again, from what was kept of its run."""
    return (error.kind if isinstance(error, RemoteError) else None) or type(error).__name__


def _code(error: BaseException) -> str:
    return "model_error" if isinstance(error, ModelError) else "flow_error"


def refusal_of_end(status: str, reason: str | None, error: Any, run_id: str, debug: bool) -> Refusal:
    """What a client is told about a run that has not ended as done."""
    if status == "timeout":
        return refusal_of(RunTimeout(), run_id, debug)
    if error is not None:
        return refusal_of(error, run_id, debug)
    return refusal_of(RunCancelled(reason or status).for_clients(), run_id, debug)
