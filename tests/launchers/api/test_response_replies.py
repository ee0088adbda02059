"""What /v1/responses answers: the items of the output as events and as a whole, and every way to end."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from millrace import Pipeline, step
from millrace.launchers.api.patience import Timings
from millrace.streaming import (
    ContextLengthExceeded,
    ReasoningDelta,
    Run,
    RunCancelled,
    Usage,
    current_run,
    emit,
)
from tests.launchers.support import RESPONSES, Source, running, words
from tests.support.leaks import eventually

EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
BEFORE = ["response.created", "response.in_progress"]
OPENING = ["response.output_item.added", "response.content_part.added"]
CLOSING = ["response.content_part.done", "response.output_item.done"]
SECRET = "the password is 123"


def text_events(deltas: int, name: str = "output_text") -> list[str]:
    """The kinds of events about one item."""
    return [*OPENING, *[f"response.{name}.delta"] * deltas, f"response.{name}.done", *CLOSING]


def streamed(flow: Any, **more: Any) -> list[Any]:
    """What the client is told, each event checked against its type."""
    with running(flow) as server, server.ask(path=RESPONSES, **more) as connection:
        events = [json.loads(event) for event in connection.events()]
        eventually(server.idle)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return [EVENTS.validate_python(event) for event in events]


def whole(flow: Any, **more: Any) -> Response:
    with running(flow) as server:
        status, headers, answer = server.post({"input": "hello", **more}, path=RESPONSES)
        eventually(server.idle)
    assert status == 200, answer
    assert answer["id"] == f"resp_{headers['x-run-id']}"
    return Response.model_validate(answer)


def this_run() -> Run:
    run = current_run()
    assert run is not None
    return run


class TestOutput:
    def test_nothing_streams(self) -> None:
        events = streamed(step(str.upper))
        assert [event.type for event in events] == [*BEFORE, *text_events(1), "response.completed"]
        assert events[-1].response.output_text == "HELLO"
        assert whole(step(str.upper)).output_text == "HELLO"

    def test_no_result(self) -> None:
        async def nothing(text: str) -> None:
            return None

        events = streamed(nothing)
        assert [event.type for event in events] == [*BEFORE, *text_events(1), "response.completed"]
        for answer in (events[-1].response, whole(nothing)):
            assert (answer.output_text, len(answer.output)) == ("", 1)

    def test_only_the_last_steps_pieces(self) -> None:
        assert whole(Pipeline(words, str.upper)).output_text == "HELLO "

    def test_usage(self) -> None:
        async def model(text: str) -> str:
            emit(Usage(3, 4))
            return "x"

        for answer in (streamed(model)[-1].response, whole(model)):
            usage = answer.usage
            assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (3, 4, 7)

    def test_an_answer_that_was_cut_short(self) -> None:
        async def model(text: str) -> AsyncIterator[str]:
            yield "cut"
            this_run().finish_reason = "length"

        events = streamed(model)
        assert [event.type for event in events] == [*BEFORE, *text_events(1), "response.incomplete"]
        for answer in (events[-1].response, whole(model)):
            assert (answer.status, answer.completed_at) == ("incomplete", None)
            assert answer.incomplete_details.reason == "max_output_tokens"
            assert [item.status for item in answer.output] == ["incomplete"]
            assert answer.output_text == "cut"

    def test_reasoning_is_an_item_of_its_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        if not hasattr(ReasoningDelta("x"), "output"):
            monkeypatch.setattr(ReasoningDelta, "output", True, raising=False)

        async def model(text: str) -> AsyncIterator[str | ReasoningDelta]:
            yield ReasoningDelta("so ")
            yield ReasoningDelta("it is")
            yield "one"
            yield ReasoningDelta("and")
            yield "two"

        events = streamed(model)
        assert [event.type for event in events] == [
            *BEFORE,
            *text_events(2, "reasoning_text"),
            *text_events(1),
            *text_events(1, "reasoning_text"),
            *text_events(1),
            "response.completed",
        ]
        deltas = [event for event in events if event.type == "response.reasoning_text.delta"]
        assert [(event.output_index, event.delta) for event in deltas] == [
            (0, "so "),
            (0, "it is"),
            (2, "and"),
        ]
        for answer in (events[-1].response, whole(model)):
            assert [item.type for item in answer.output] == ["reasoning", "message"] * 2
            assert {item.status for item in answer.output} == {"completed"}
            assert answer.output[0].content[0].text == "so it is"
            assert answer.output_text == "onetwo"

    def test_reasoning_of_other_steps_stays_inside(self) -> None:
        async def thinks(text: str) -> AsyncIterator[str | ReasoningDelta]:
            piece = ReasoningDelta("so ")
            if hasattr(piece, "output"):
                piece.output = False
            yield piece
            yield text

        assert [item.type for item in whole(thinks).output] == ["message"]


async def fails_later(text: str) -> AsyncIterator[str]:
    yield "some "
    await asyncio.sleep(0.01)
    raise ValueError(SECRET)


class TestErrors:
    @pytest.mark.parametrize(
        ("error", "status", "code", "param"),
        [
            (ValueError(SECRET), 500, "flow_error", None),
            (ContextLengthExceeded("too long"), 400, "context_length_exceeded", "input"),
            (RunCancelled(SECRET), 503, "cancelled", None),
        ],
        ids=lambda e: type(e).__name__,
    )
    @pytest.mark.parametrize("stream", [True, False])
    def test_before_the_first_piece_they_carry_their_status(
        self, error: Exception, status: int, code: str, param: str | None, stream: bool
    ) -> None:
        async def fails(text: str) -> AsyncIterator[str]:
            raise error
            yield ""

        with running(fails) as server:
            got, _, answer = server.post({"input": "x", "stream": stream}, path=RESPONSES)
            eventually(server.idle)
        assert (got, answer["error"]["code"], answer["error"]["param"]) == (status, code, param)
        assert SECRET not in json.dumps(answer)

    def test_in_mid_stream(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.ERROR, "millrace"):
            events = streamed(fails_later)
        assert [event.type for event in events] == [
            *BEFORE,
            *OPENING,
            "response.output_text.delta",
            "response.failed",
        ]
        answer = events[-1].response
        assert answer.status == "failed"
        assert (answer.error.code, answer.error.type) == ("server_error", "flow_error")
        assert "failed with ValueError" in answer.error.message
        assert (answer.output_text, answer.output[0].status) == ("some ", "incomplete")
        assert SECRET not in answer.model_dump_json()
        assert SECRET in caplog.text

    def test_after_silence_it_is_told_in_the_stream(self) -> None:
        async def fails(text: str) -> str:
            await asyncio.sleep(0.1)
            raise ContextLengthExceeded("too long")

        with (
            running(fails, timings=Timings(first_output=0.02)) as server,
            server.ask(path=RESPONSES) as connection,
        ):
            *before, last = (EVENTS.validate_json(event) for event in connection.events())
        assert [event.type for event in before] == BEFORE
        assert last.type == "response.failed"
        error = last.response.error
        assert (error.code, error.type, error.param) == ("invalid_prompt", "context_length_exceeded", "input")

    def test_a_deadline(self) -> None:
        source = Source()
        with running(source) as server, server.ask(path=RESPONSES, timeout=0.2) as connection:
            source.allow(2)
            *_, last = (EVENTS.validate_json(event) for event in connection.events())
            assert (last.type, last.response.status) == ("response.failed", "failed")
            assert last.response.error.type == "timeout"
            eventually(lambda: source.cleaned == 1)

    def test_a_run_that_somebody_cancels(self) -> None:
        source = Source()
        with running(source) as server, server.ask(path=RESPONSES) as connection:
            source.allow(1)
            connection.events(5)
            (run,) = server.runs
            run.cancel("an operator")
            (last,) = (EVENTS.validate_json(event) for event in connection.events())
        assert (last.type, last.response.status) == ("response.failed", "cancelled")
        assert last.response.error.message == "the run was cancelled: an operator"
