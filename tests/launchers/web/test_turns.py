"""What a chat makes of the events of a run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from millrace import Message, Pipeline, step
from millrace.flow.functions import as_step
from millrace.launchers.web.turns import Failure, Turn, failure_of
from millrace.streaming import (
    ContextLengthExceeded,
    ModelError,
    Overloaded,
    Progress,
    ReasoningDelta,
    RunCancelled,
    RunTimeout,
    Usage,
    emit,
)


def played(flow: Any, question: str = "question", stop_after: int | None = None) -> Turn:
    """A turn after the run of a flow; stopped once it shows so many characters."""

    async def play() -> Turn:
        turn = Turn(question)
        turn.begin()
        async with as_step(flow).stream(question) as stream:
            try:
                async for event in stream:
                    turn.take(event)
                    if stop_after is not None and len(turn.text) >= stop_after:
                        turn.stopping()
                        stream.run.cancel("stopped")
            except RunCancelled:
                pass
        return turn

    return asyncio.run(play())


async def answer(x: str) -> AsyncIterator[str]:
    for piece in ("one ", "two ", "three"):
        yield piece
        await asyncio.sleep(0)


class TestText:
    def test_the_pieces_of_the_output_step_are_the_answer(self) -> None:
        turn = played(answer)
        assert (turn.text, turn.state, turn.parts) == ("one two three", "done", [])

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ("plain", "plain"),
            (7, "```\n7\n```"),
            ({"ä": [1]}, '```json\n{\n  "ä": [\n    1\n  ]\n}\n```'),
            ({1, 2}, "```\n{1, 2}\n```"),
            (None, ""),
        ],
    )
    def test_without_pieces_it_is_the_result(self, value: Any, text: str) -> None:
        assert played(lambda x: value).text == text

    def test_what_comes_after_a_stop_is_not_shown(self) -> None:
        turn = played(answer, stop_after=4)
        assert (turn.text, turn.state, turn.note.split(" · ")[0]) == ("one ", "stopped", "stopped")


class TestParts:
    def test_each_step_on_the_way_is_one_part_in_order_of_happening(self) -> None:
        async def search(x: str) -> AsyncIterator[str]:
            for word in ("found ", "it"):
                yield word

        async def rank(x: str) -> AsyncIterator[Any]:
            yield {"best": 1}

        turn = played(Pipeline(search, rank, answer))
        assert [(part.title, part.text.strip()) for part in turn.parts] == [
            ("search", "found it"),
            ("rank", '```json\n{\n  "best": 1\n}\n```'),
        ]
        assert all(part.seconds is not None for part in turn.parts)

    def test_reasoning_closes_when_the_answer_begins(self) -> None:
        closed: list[bool] = []

        async def think(x: str) -> AsyncIterator[str]:
            emit(ReasoningDelta("let me "))
            emit(ReasoningDelta("see"))
            yield "so"

        turn = Turn("q")
        turn.begin()

        async def play() -> None:
            async with step(think).stream("q") as stream:
                async for event in stream:
                    turn.take(event)
                    if turn.text:
                        closed.append(turn.parts[0].seconds is not None)

        asyncio.run(play())
        assert [(part.title, part.text) for part in turn.parts] == [("Reasoning", "let me see")]
        assert all(closed)


class TestStatus:
    @pytest.mark.parametrize(
        ("event", "status"),
        [
            (Progress(0.4, "reading"), "reading 40%"),
            (Progress(0.4, "weights 31%"), "weights 40%"),
            (Progress(1.0, "ready"), "ready"),
            (Progress(0.5), "working 50%"),
        ],
    )
    def test_progress_is_told_until_the_answer_begins(self, event: Progress, status: str) -> None:
        turn = Turn("q")
        turn.begin()
        turn.take(event)
        assert turn.status == status
        turn.end()
        assert turn.status == ""


class TestNote:
    def test_it_counts_tokens_and_the_time_to_the_first(self) -> None:
        async def model(x: str) -> AsyncIterator[str]:
            yield "so"
            emit(Usage(12, 5))

        tokens, first = played(model).note.split(" · ")
        assert tokens == "5 tokens"
        assert first.startswith("first after ")

    def test_there_is_none_while_it_goes_on(self) -> None:
        assert Turn("q").note == ""


class TestHistory:
    def test_partial_text_stays_and_is_marked(self) -> None:
        turn = played(answer, stop_after=8)
        assert list(turn.messages()) == [
            Message.user("question"),
            Message.assistant("one two ", status="stopped"),
        ]

    def test_a_whole_answer_has_no_mark(self) -> None:
        assert list(played(answer).messages())[1] == Message.assistant("one two three")

    def test_a_turn_without_an_answer_leaves_nothing(self) -> None:
        turn = Turn("q")
        turn.end(Failure("Busy right now"))
        assert list(turn.messages()) == []


class TestFailures:
    @pytest.mark.parametrize(
        ("error", "words"),
        [
            (Overloaded("full", 6.2), "Busy right now Try again in 7 seconds."),
            (Overloaded("full", 0.1), "Busy right now Try again in 1 second."),
            (ContextLengthExceeded("9000 tokens"), "This is too long"),
            (RunTimeout("passed"), "took too long"),
            (ModelError("no weights in /srv/models"), "The flow failed with ModelError"),
            (ValueError("password=x"), "The flow failed with ValueError"),
        ],
    )
    def test_they_say_what_to_do_and_tell_no_secret(self, error: Exception, words: str) -> None:
        failure = failure_of(error)
        assert words in f"{failure.what} {failure.advice}"
        assert str(error) not in f"{failure.what} {failure.advice}"

    def test_their_text_is_for_debugging(self) -> None:
        assert failure_of(ValueError("of x"), debug=True) == Failure("ValueError: of x")
