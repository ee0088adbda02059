"""What an endpoint refuses, and how: each error status with what it means, an example and its headers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..refusals import Refusal
from .answers import TEXT, content, headers
from .components import Components, Schema

__all__ = ["GUARDED", "Refused", "refusals"]


class Refused(NamedTuple):
    """An error that may come: what it means, one as it is sent, and the headers that may come with it."""

    text: str
    example: Refusal
    headers: tuple[str, ...] = ()


RETRY = ("Retry-After", "retry-after-ms")

COMMON: Mapping[int, Refused] = {
    refused.example.status: refused
    for refused in (
        Refused(
            "The request is malformed, or asks for what is not supported: `invalid_json`, `invalid_value`, "
            "`unknown_parameter`, `unsupported_parameter`, `unsupported_content`, `context_length_exceeded`",
            Refusal(400, "timeout must be a number from 0.001 to 600", "invalid_value", "timeout"),
        ),
        Refused(
            "The body did not arrive in time",
            Refusal(408, "the body did not arrive in time; send it again", "request_timeout"),
        ),
        Refused(
            "There was a run of this id before, or its session has one going on: `run_exists`, `session_busy`",
            Refusal(409, "there was a run of this id before; choose another x-run-id", "run_exists"),
        ),
        Refused(
            "It is not kept any more",
            Refusal(410, "the events after 3 are not kept any more", "events_expired", "after"),
        ),
        Refused(
            "The body is too large",
            Refusal(413, "the body is larger than 4194304 bytes; send less", "body_too_large"),
        ),
        Refused(
            "The body is not declared as JSON, or is compressed",
            Refusal(
                415, "the body must be JSON; send Content-Type: application/json", "unsupported_media_type"
            ),
        ),
        Refused(
            "The input is not what the flow takes; `param` names the part that does not fit",
            Refusal(422, "input.count: Input should be a valid integer", "invalid_value", "input.count"),
        ),
        Refused(
            "Too many requests at once; come again after `Retry-After` seconds",
            Refusal(429, "the server is at its limit (4 running, 16 waiting); try again later", "overloaded"),
            RETRY,
        ),
        Refused(
            "The flow failed: `flow_error`, `model_error`. What else is known stands in the server's log alone",
            Refusal(500, "the flow failed with ValueError; the server's log says more", "flow_error"),
            ("x-should-retry",),
        ),
        Refused(
            "A package is not installed on the server",
            Refusal(
                501, "prometheus_client is not installed: pip install 'millrace[serve]'", "missing_extra"
            ),
        ),
        Refused(
            "No place became free in time, the server is shutting down, or somebody cancelled the run: "
            "`queue_timeout`, `shutting_down`, `cancelled`",
            Refusal(503, "no place became free within 30 s; try again later", "queue_timeout"),
            (*RETRY, "x-should-retry"),
        ),
        Refused(
            "The deadline passed",
            Refusal(504, "the deadline passed before the answer was complete", "timeout"),
            ("x-should-retry",),
        ),
    )
}
"""What most endpoints mean by a status."""

GUARDED: Mapping[str, Refused] = {
    "keys": Refused(
        "No valid API key",
        Refusal(401, "send a valid API key, as the header Authorization: Bearer <key>", "invalid_api_key"),
        ("WWW-Authenticate",),
    ),
    "hosts": Refused(
        "The Host header does not name this machine, or what is asked for is not allowed here",
        Refusal(403, "this server answers to localhost only, as it has no API keys", "host_not_allowed"),
    ),
}
"""What is refused before any endpoint is asked: by API keys, and by names of the machine."""

ERROR: Schema = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {**TEXT, "description": "What is wrong and what to do about it, for people"},
                "type": {"enum": ["invalid_request_error", "rate_limit_error", "server_error"]},
                "param": {
                    "type": ["string", "null"],
                    "description": "The part of the request that is at fault, such as `messages[0].role`",
                },
                "code": {**TEXT, "description": "What is wrong, for programs"},
            },
        }
    },
}


def refusals(components: Components, *refused: int | Refused) -> dict[str, Any]:
    """The errors that may come, by status: as in COMMON, or an endpoint's own."""
    error = components.name("Error", ERROR)
    answers = {}
    for one in refused:
        text, example, more = COMMON[one] if isinstance(one, int) else one
        answers[str(example.status)] = {
            "description": text,
            **headers(*more),
            "content": content(error, {"error": example.fields()}),
        }
    return answers
