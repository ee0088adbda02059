"""What a service says of a run that failed, as errors here."""

from __future__ import annotations

import json
from typing import Any

import pytest

from millrace.modules.remote.addresses import Address
from millrace.modules.remote.run_failures import error_of_end, failure_of_refusal
from millrace.streaming import (
    ContextLengthExceeded,
    MillraceError,
    Overloaded,
    RemoteError,
    RunCancelled,
    RunTimeout,
    SessionBusy,
)

ADDRESS = Address("http://localhost:8000", "sk-secret")


def refused(
    status: int, code: str = "", message: str = "no", headers: dict[str, str] | None = None, **more: Any
) -> Any:
    body = {"error": {"message": message, "type": "server_error", "param": None, "code": code, **more}}
    return failure_of_refusal(ADDRESS, status, headers or {}, json.dumps(body).encode())


@pytest.mark.parametrize(
    ("status", "code", "kind", "again"),
    [
        (429, "overloaded", Overloaded, True),
        (429, "rate_limit_exceeded", Overloaded, True),
        (503, "queue_timeout", Overloaded, True),
        (400, "context_length_exceeded", ContextLengthExceeded, False),
        (409, "session_busy", SessionBusy, False),
        (504, "timeout", RunTimeout, True),
        (408, "timeout", RemoteError, False),
        (503, "cancelled", RunCancelled, True),
        (503, "shutting_down", RemoteError, True),
        (500, "flow_error", RemoteError, False),
        (401, "invalid_api_key", RemoteError, False),
    ],
)
def test_refusals(status: int, code: str, kind: type[MillraceError], again: bool) -> None:
    failure = refused(status, code)
    assert type(failure.error) is kind
    assert failure.again is again
    if isinstance(failure.error, RemoteError):
        assert failure.error.status == status


def test_what_must_not_be_tried_again() -> None:
    """A deadline that has passed would pass again; the service says so of it."""
    assert not refused(504, "timeout", headers={"x-should-retry": "false"}).again


def test_when_to_come_back() -> None:
    failure = refused(429, "overloaded", headers={"retry-after": "3", "retry-after-ms": "2500"})
    assert (failure.wait, failure.error.retry_after, failure.error.waited) == (2.5, 2.5, 0.0)
    assert refused(503, "queue_timeout").error.waited > 0


def test_the_reason_of_a_cancel_comes_over() -> None:
    assert refused(503, "cancelled", "the run was cancelled: enough of it").error.reason == "enough of it"
    error = error_of_end(ADDRESS, "cancelled", "enough", None)
    assert isinstance(error, RunCancelled)
    assert error.reason == "enough"


def test_the_name_of_the_errors_type_comes_over() -> None:
    failure = refused(500, "flow_error", "the flow failed with KeyError", kind="KeyError")
    assert (failure.error.kind, failure.error.status) == ("KeyError", 500)
    assert "localhost:8000" in str(failure.error)


def test_which_part_of_the_request_is_at_fault() -> None:
    assert refused(400, "invalid_value", param="timeout").param == "timeout"


@pytest.mark.parametrize(
    "body", [b"", b"<html>Bad Gateway</html>", b'{"detail": "no"}', b"[]", b'{"error": "no"}']
)
def test_what_is_not_the_services_own_answer(body: bytes) -> None:
    """A proxy in between has something to say."""
    failure = failure_of_refusal(ADDRESS, 502, {}, body)
    assert type(failure.error) is RemoteError
    assert (failure.error.status, failure.again) == (502, True)
    missing = failure_of_refusal(ADDRESS, 404, {}, body).error
    assert "is it a millrace service" in str(missing)
    assert "model" not in str(missing)


def test_the_key_is_not_repeated() -> None:
    assert "sk-secret" not in str(refused(401, "invalid_api_key", "sk-secret is no key").error)
    assert "sk-secret" not in str(error_of_end(ADDRESS, "cancelled", "sk-secret", None))
    assert "sk-secret" not in str(error_of_end(ADDRESS, "error", None, {"message": "sk-secret"}))


def test_long_messages_are_cut() -> None:
    assert len(str(refused(500, "flow_error", "a" * 5000).error)) < 700
