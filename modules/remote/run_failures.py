"""Failures of served flows: what a service says of a run that did not begin, or did not end well, as errors here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ...streaming.errors import (
    ContextLengthExceeded,
    MillraceError,
    Overloaded,
    RemoteError,
    RequestRefused,
    RunCancelled,
    RunTimeout,
    SessionBusy,
)
from .addresses import Address
from .failures import LONGEST_MESSAGE, Failure, failure_of_reply

__all__ = ["Refused", "error_of_end", "failure_of_refusal"]

CANCELLED = "the run was cancelled: "
"""How the message of a run that was cancelled begins, before its reason."""
CURES = {
    401: "; give its key as api_key",
    403: "; may this key do that?",
    404: "; is it a millrace service, and is the address right?",
    405: "; is it a millrace service, and is the address right?",
}
SETTING = "sampling."
CODES = {
    "ContextLengthExceeded": "context_length_exceeded",
    "Overloaded": "overloaded",
    "RunCancelled": "cancelled",
    "RunTimeout": "timeout",
    "SessionBusy": "session_busy",
}
"""The code of each kind of error that is the same there and here."""


class Refused(Failure):
    """An answer of the service itself that is a refusal.

    `param` is the part of the request that is at fault, `ran` whether there was a run, which has failed.
    """

    param: str | None = None
    ran = False


def failure_of_refusal(address: Address, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """What an HTTP answer means that is a refusal, and whether another try may go better."""
    failure = failure_of_reply(address, status, headers, body)
    told = _told(body)
    if told is not None:
        refused = Refused(
            _error(address, {**told, "status": status}, failure.wait), failure.again, failure.wait
        )
        refused.param, refused.ran = told.get("param"), "x-run-id" in headers
        return refused
    if isinstance(failure.error, RemoteError) and status in CURES:
        failure.error = RemoteError(f"{address} answered {status}{CURES[status]}", status)
    return failure


def error_of_end(address: Address, status: str, reason: Any, told: Any) -> MillraceError:
    """What is raised here for a run that ended there as `status`: cancelled, timeout, error or lost."""
    if status == "cancelled":
        return RunCancelled(address.hide(str(reason or "cancelled")))
    told = told if isinstance(told, dict) else {}
    if status == "timeout":
        return RunTimeout(f"{address}: {_message(address, told) or 'the run passed its deadline there'}")
    return _error(address, told, None)


def _error(address: Address, told: Mapping[str, Any], wait: float | None) -> MillraceError:
    status, kind, code = told.get("status"), told.get("kind"), told.get("code")
    message = _message(address, told) or "it did not say why"
    said = f"{address}: {message}"
    match code if code in (*CODES.values(), "queue_timeout") else CODES.get(str(kind)):
        case "context_length_exceeded":
            return ContextLengthExceeded(said)
        case "session_busy":
            return SessionBusy(said)
        case "timeout" if status in (None, 504):
            return RunTimeout(said)
        case "cancelled":
            return RunCancelled(message.removeprefix(CANCELLED))
        case "queue_timeout":
            return _overloaded(address, message, wait, waited=True)
        case "overloaded":
            return _overloaded(address, message, wait)
    if status == 429:
        return _overloaded(address, message, wait)
    param = str(told.get("param"))
    if status == 400 and param.startswith(SETTING):  # the settings are those of the run here
        return RequestRefused(said, param.removeprefix(SETTING), by_run=True)
    known = status if isinstance(status, int) else None
    answered = f"answered {known}" if known is not None else "failed"
    return RemoteError(
        f"{address} {answered}: {message}{CURES.get(known or 0, '')}", known, kind if kind else None
    )


def _overloaded(address: Address, message: str, wait: float | None, waited: bool = False) -> Overloaded:
    """`waited`: it stood in line there, for how long it does not say."""
    error = Overloaded(f"{address} takes no more requests now: {message}", 1.0 if wait is None else wait)
    error.waited = 1.0 if waited else 0.0
    return error


def _message(address: Address, told: Mapping[str, Any]) -> str:
    message = " ".join(address.hide(str(told.get("message") or "")).split())
    return message if len(message) <= LONGEST_MESSAGE else f"{message[:LONGEST_MESSAGE]}..."


def _told(body: bytes) -> Mapping[str, Any] | None:
    """The error of a refusal in OpenAI's shape; None where it has another, and so is not the service's own."""
    try:
        error = json.loads(body)["error"]
    except (ValueError, TypeError, KeyError):
        return None
    return error if isinstance(error, dict) and isinstance(error.get("message"), str) else None
