"""Runs that fail behind /v1/chat/completions: what the openai client is told, and what it never is."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from millrace.streaming import (
    ContextLengthExceeded,
    EventsExpired,
    ModelError,
    Overloaded,
    RunCancelled,
    SessionBusy,
)
from tests.launchers.support import Source, client_of, question, running
from tests.support.leaks import eventually

HELLO: Any = [{"role": "user", "content": "hello there you"}]


class SlotlessError(Exception):
    __slots__ = ()


SECRET = "the password is 123"
ERRORS = [
    (ValueError(SECRET), 500, "flow_error", "ValueError"),
    (SlotlessError(SECRET), 500, "flow_error", "SlotlessError"),
    (TimeoutError(SECRET), 500, "flow_error", "TimeoutError"),
    (OSError(SECRET), 500, "flow_error", "OSError"),
    (ModelError(SECRET), 500, "model_error", "ModelError"),
    (Overloaded(SECRET, 2.5), 429, "overloaded", "try again later"),
    (EventsExpired(SECRET), 410, "events_expired", "not kept any more"),
    (
        ContextLengthExceeded(SECRET),
        400,
        "context_length_exceeded",
        "lower max_tokens",
    ),
    (SessionBusy(SECRET), 409, "session_busy", "another run of this session"),
    (RunCancelled(SECRET), 503, "cancelled", "the run was cancelled"),
]


class TestErrors:
    @pytest.mark.parametrize(("error", "status", "code", "told"), ERRORS, ids=lambda e: type(e).__name__)
    @pytest.mark.parametrize("stream", [True, False])
    def test_before_the_first_piece_they_carry_their_status(
        self, error: Exception, status: int, code: str, told: str, stream: bool
    ) -> None:
        async def fails(text: str) -> AsyncIterator[str]:
            raise error
            yield ""

        with running(fails) as server:
            got, headers, answer = server.post(question(stream=stream))
            eventually(server.idle)
        assert got == status
        assert (answer["error"]["code"], answer["error"]["param"] is None) == (code, status not in (400, 410))
        assert told in answer["error"]["message"]
        assert SECRET not in json.dumps(answer)
        assert len(headers["x-run-id"]) == 32
        if status == 429:
            assert (headers["retry-after"], headers["retry-after-ms"]) == ("3", "2500")
        elif status >= 500:
            assert headers["x-should-retry"] == "false"

    def test_after_the_first_piece_they_come_in_the_stream(self) -> None:
        with running(fails_later) as server, client_of(server) as client:
            pieces = []
            with pytest.raises(openai.APIError, match="failed with ValueError") as failed:
                for chunk in client.chat.completions.create(model="fails_later", messages=HELLO, stream=True):
                    pieces.append(chunk.choices[0].delta.content)
                    assert chunk.choices[0].finish_reason is None
            assert "some " in pieces
            assert failed.value.code == "flow_error"
            with server.ask() as connection:
                events = connection.events()
            assert "[DONE]" not in events
            assert SECRET not in str(events)

    def test_the_log_says_what_the_client_may_not_see(self, caplog: pytest.LogCaptureFixture) -> None:
        with running(fails_later) as server, caplog.at_level(logging.ERROR, "millrace"):
            _, headers, _ = server.post(question())
        assert headers["x-run-id"] in caplog.text
        assert SECRET in caplog.text
        assert "in fails_later" in caplog.text

    def test_in_debug_the_client_sees_the_traceback(self) -> None:
        with running(fails_later, debug=True) as server:
            message = server.post(question())[2]["error"]["message"]
        assert f"ValueError: {SECRET}" in message
        assert "test_completion_errors.py" in message

    def test_a_run_that_somebody_cancels(self) -> None:
        source = Source()
        with running(source) as server:
            with server.ask() as connection:
                source.allow(1)
                connection.events(2)
                (run,) = server.runs
                run.cancel("an operator")
                (error,) = connection.events()
            assert json.loads(error)["error"]["message"] == "the run was cancelled: an operator"

    def test_the_client_does_not_repeat_what_failed(self) -> None:
        source = Source(items=0)

        async def fails(text: str) -> str:
            source.started += 1
            raise ValueError(SECRET)

        with running(fails) as server, client_of(server).with_options(max_retries=2) as client:
            ask = client.chat.completions.create
            with pytest.raises(openai.InternalServerError):
                ask(model="fails", messages=HELLO)
        assert source.started == 1


async def fails_later(text: str) -> AsyncIterator[str]:
    yield "some "
    await asyncio.sleep(0.01)
    raise ValueError(SECRET)
