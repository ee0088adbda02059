"""Failures: what went wrong between us and a server, and whether it is worth another try."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from ...streaming.errors import ContextLengthExceeded, MillraceError, Overloaded, RemoteError
from .addresses import Address

__all__ = ["Failure", "failure_of_frame", "failure_of_reply"]

TRY_AGAIN = frozenset((429, 502, 503, 504))
LONGEST_MESSAGE = 600
TOO_LONG = re.compile(
    r"maximum context length|context[ _-]?length[ _-]?exceeded|exceed_context_size|context (length|size|window)"
    r"|longer than the (model'?s )?context",
    re.IGNORECASE,
)
"""How servers say that a prompt is too long; OpenAI's code for it is `context_length_exceeded`."""
FULL = ("overloaded", "queue_timeout", "rate_limit_exceeded", "rate_limit_error", "overloaded_error")
NO_QUOTA = "insufficient_quota"
NUMBER = re.compile(r"\d{1,9}(\.\d+)?")


class Failure(Exception):
    """An attempt has failed; never seen by users.

    Args:
        error: what the user is told if it stays at that.
        again: another try may go better.
        wait: seconds after which the server asks to try again.
        sent: something of the request may have come to the server.
    """

    def __init__(
        self,
        error: MillraceError,
        again: bool = False,
        wait: float | None = None,
        sent: bool = True,
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.again = again
        self.wait = wait
        self.sent = sent


def failure_of_reply(address: Address, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """What an HTTP answer other than 200 means."""
    message, code, _ = _told(_parsed(body))
    wait = _wait(headers)
    again = status in TRY_AGAIN and headers.get("x-should-retry") != "false" and code != NO_QUOTA
    if 300 <= status < 400:
        message = (
            f"it sends elsewhere ({address.hide(headers.get('location', 'nowhere'))}); give that address"
        )
    return Failure(_error(address, status, message, code, wait), again, wait)


def failure_of_frame(address: Address, error: Any) -> Failure:
    """What an error in the midst of a stream means."""
    message, code, status = _told({"error": error})
    found = _error(address, status, message, code, None)
    return Failure(found, isinstance(found, Overloaded) or status in TRY_AGAIN)


def _error(
    address: Address, status: int | None, message: str, code: str, wait: float | None
) -> MillraceError:
    message = address.hide(message)
    if len(message) > LONGEST_MESSAGE:
        message = f"{message[:LONGEST_MESSAGE]}..."
    if code == "context_length_exceeded" or (
        status in (None, 400, 413, 422) and TOO_LONG.search(f"{code} {message}")
    ):
        return ContextLengthExceeded(f"{address}: {message}")
    if (status == 429 and code != NO_QUOTA) or (status in (None, 503) and code in FULL):
        return Overloaded(f"{address} takes no more requests now: {message}", 1.0 if wait is None else wait)
    told = f"{address} answered {status}" if status is not None else f"{address} failed while it answered"
    return RemoteError(f"{told}: {message}{CURES.get(status or 0, '')}", status)


CURES = {
    401: "; give its key as api_key",
    403: "; may this key use this model?",
    404: "; is the model's name right, and does the address end in /v1?",
}


def _parsed(body: bytes) -> Any:
    text = body.decode("utf-8", "replace").strip()
    try:
        return json.loads(text)
    except ValueError:
        return text


def _told(reply: Any) -> tuple[str, str, int | None]:
    """Message, code and status of an error, in the shapes that servers give it: OpenAI's, FastAPI's, plain."""
    code, status = "", None
    while isinstance(reply, dict):
        for word in (reply.get("type"), reply.get("code")):  # either may be a number, or missing
            if isinstance(word, str):
                code = word
            elif isinstance(word, int):
                status = word
        inner = next((reply[name] for name in ("error", "message", "detail") if reply.get(name)), None)
        if inner is None:
            break
        reply = inner
    message = reply if isinstance(reply, str) else json.dumps(reply) if reply else ""
    message = " ".join(message.split()) or "it did not say why"
    return message, code, status


def _wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait: `retry-after-ms`, or `Retry-After` (RFC 9110, 10.2.3) in both forms."""
    milliseconds, after = headers.get("retry-after-ms", ""), headers.get("retry-after", "")
    if NUMBER.fullmatch(milliseconds):
        return float(milliseconds) / 1000
    if NUMBER.fullmatch(after):
        return float(after)
    try:
        return max(0.0, parsedate_to_datetime(after).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
