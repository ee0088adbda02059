"""What servers say when they refuse, and what we make of it; the bodies are those of real ones."""

from __future__ import annotations

import json
import time
from email.utils import formatdate
from typing import Any

import pytest

from millrace.modules.remote.addresses import Address
from millrace.modules.remote.failures import Failure, failure_of_frame, failure_of_reply
from millrace.streaming import ContextLengthExceeded, Overloaded, RemoteError

ADDRESS = Address("http://host/v1", "sk-secret")


def refused(status: int, body: object = None, **headers: str) -> Failure:
    raw = body.encode() if isinstance(body, str) else b"" if body is None else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return failure_of_reply(ADDRESS, status, named, raw)


TOO_LONG = {
    "openai": {"error": {"message": "Too long", "param": "messages", "code": "context_length_exceeded"}},
    "vllm": {
        "error": {"message": "This model's maximum context length is 4096 tokens, not 5000", "code": 400}
    },
    "sglang": {
        "object": "error",
        "message": "The input is longer than the model's context length",
        "code": 400,
    },
    "llama.cpp": {"error": {"code": 400, "message": "too large", "type": "exceed_context_size_error"}},
}


@pytest.mark.parametrize("body", TOO_LONG.values(), ids=TOO_LONG)
def test_too_long(body: Any) -> None:
    failure = refused(400, body)
    assert isinstance(failure.error, ContextLengthExceeded)
    assert not failure.again


def test_too_many_requests() -> None:
    failure = refused(
        429, {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}, retry_after="7"
    )
    assert isinstance(failure.error, Overloaded)
    assert (failure.again, failure.wait, failure.error.retry_after) == (True, 7.0, 7.0)
    assert "slow down" in str(failure.error)


def test_the_end_of_a_quota_is_no_overload() -> None:
    failure = refused(429, {"error": {"message": "pay first", "code": "insufficient_quota"}})
    assert isinstance(failure.error, RemoteError)
    assert (failure.error.status, failure.again) == (429, False)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({}, None),
        ({"retry_after": "2"}, 2.0),
        ({"retry_after": "2.5"}, 2.5),
        ({"retry_after_ms": "1500", "retry_after": "9"}, 1.5),
        ({"retry_after": "soon"}, None),
        ({"retry_after": "-5"}, None),
        ({"retry_after": "nan"}, None),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], wait: float | None) -> None:
    assert refused(503, **headers).wait == wait


def test_a_date_to_wait_for() -> None:
    wait = refused(503, retry_after=formatdate(time.time() + 30, usegmt=True)).wait
    assert wait is not None
    assert 25 < wait <= 30
    assert refused(503, retry_after=formatdate(0, usegmt=True)).wait == 0.0


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_may_pass_is_tried_again(status: int) -> None:
    assert refused(status).again
    assert not refused(status, x_should_retry="false").again


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 500, 501])
def test_what_does_not_pass_is_not(status: int) -> None:
    failure = refused(status, {"detail": "no"})
    assert not failure.again
    assert isinstance(failure.error, RemoteError)
    assert failure.error.status == status
    assert str(failure.error).startswith(f"http://host/v1 answered {status}: no")


def test_a_redirect_names_where_to() -> None:
    assert "https://elsewhere/v1" in str(refused(307, location="https://elsewhere/v1").error)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("plain text\nof a proxy", "plain text of a proxy"),
        ({"error": "in short"}, "in short"),
        ({"detail": [{"loc": ["body"], "msg": "missing"}]}, '[{"loc": ["body"], "msg": "missing"}]'),
        ({"message": "top level"}, "top level"),
        ({}, "it did not say why"),
        (None, "it did not say why"),
        ("x" * 5000, "x" * 600 + "..."),
    ],
)
def test_the_message_whatever_its_shape(body: object, message: str) -> None:
    assert str(refused(500, body).error) == f"http://host/v1 answered 500: {message}"


def test_the_key_is_not_quoted_back() -> None:
    failure = refused(401, {"error": {"message": "Incorrect API key provided: sk-secret"}})
    assert "sk-secret" not in str(failure.error)
    assert "give its key as api_key" in str(failure.error)


@pytest.mark.parametrize(
    ("error", "kind", "again"),
    [
        ("it broke", RemoteError, False),
        ({"message": "it broke", "code": None, "type": "server_error"}, RemoteError, False),
        ({"message": "full", "code": "overloaded"}, Overloaded, True),
        ({"message": "full", "code": 429}, Overloaded, True),
        ({"message": "upstream", "code": 502}, RemoteError, True),
        ({"message": "too long", "code": "context_length_exceeded"}, ContextLengthExceeded, False),
    ],
)
def test_in_the_midst_of_a_stream(error: Any, kind: type[Exception], again: bool) -> None:
    failure = failure_of_frame(ADDRESS, error)
    assert type(failure.error) is kind
    assert failure.again is again
