"""Runs as turns of a conversation: what they see of it, what they leave in it, and who excludes whom."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from millrace import Message, Parallel, Pipeline, session
from millrace.streaming import (
    RunTimeout,
    SessionBusy,
    TextDelta,
    Usage,
    current_run,
    emit,
    forget_session,
    session_history,
)
from millrace.streaming.messages import Conversation
from tests.streaming.parts import Gate, taken
from tests.support.leaks import eventually


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    yield
    for name in ("alice", "bob"):
        forget_session(name)


async def recall(question: Any) -> AsyncIterator[str]:
    """Answers with what was said before, as a model sees it."""
    run = current_run()
    assert run is not None
    before = run.take_history(str(question))
    emit(Usage(3, 2))
    yield " ".join(message.content for message in before)
    yield f"<{question}>"


talk = Pipeline(recall)


def contents(name: str = "alice") -> list[str]:
    return [message.content for message in session_history(name)]


class TestNamedSessions:
    def test_each_turn_sees_those_before(self) -> None:
        with session("alice"):
            assert talk("one") == "<one>"
            assert talk("two") == "one <one><two>"
        assert talk("three", session="bob") == "<three>"
        assert contents() == ["one", "<one>", "two", "one <one><two>"]
        assert isinstance(session_history("alice"), Conversation)
        assert [message.marks for message in session_history("alice")] == [{}] * 4

    @pytest.mark.anyio
    async def test_however_it_is_called(self) -> None:
        with session("alice"):
            await talk.acall("one")
            async for _ in talk.stream("two").text():
                pass
            run = talk.start("three")
            await run.wait()
            await asyncio.to_thread(talk, "four")
            assert await asyncio.to_thread(lambda: talk.stream("five").result)
        assert contents()[::2] == ["one", "two", "three", "four", "five"]

    def test_plain_functions_too(self) -> None:
        """They need no loop, and so no task of a run's own."""

        def plain(question: str) -> str:
            run = current_run()
            assert run is not None
            return f"{len(run.take_history())} before"

        with session("alice"):
            assert Pipeline(plain)("one") == "0 before"
            assert Pipeline(plain)("two") == "2 before"
        assert contents() == ["one", "0 before", "two", "2 before"]

    def test_without_a_name_nothing_is_kept(self) -> None:
        with talk.stream("one") as stream:
            assert list(stream.text())[-1] == "<one>"
            name = stream.run.session
        assert contents(name) == []
        assert [message.content for message in stream.run.history] == ["one", "<one>"]

    def test_a_value_that_cannot_be_shown_ends_its_run_as_well(self) -> None:
        class Mute:
            def __str__(self) -> str:
                raise RuntimeError("no words")

        def answer(question: str) -> Mute:
            run = current_run()
            assert run is not None
            run.take_history()
            return Mute()

        run = Pipeline(answer).start("one", session="alice")
        assert isinstance(run.result(5), Mute)
        assert contents() == ["one", "(a Mute that cannot be shown)"]
        assert talk("two", session="alice").endswith("<two>")

    def test_a_run_that_prepends_nothing_leaves_nothing(self) -> None:
        assert Pipeline(str.upper)("one", session="alice") == "ONE"
        assert contents() == []

    def test_looking_takes_nothing(self) -> None:
        def look(_: Any) -> list[str]:
            run = current_run()
            assert run is not None
            return [message.content for message in run.history]

        talk("one", session="alice")
        assert Pipeline(look)(0, session="alice") == ["one", "<one>"]
        assert contents() == ["one", "<one>"]

    def test_it_can_be_forgotten(self) -> None:
        talk("one", session="alice")
        forget_session("alice")
        assert talk("two", session="alice") == "<two>"


class TestGivenHistory:
    GIVEN = (Message.user("a"), Message.assistant("b"))

    def test_it_is_what_models_see_and_the_sessions_stays_as_it_was(self) -> None:
        talk("one", session="alice")
        with talk.stream("two", session="alice", history=list(self.GIVEN)) as stream:
            assert "".join(stream.text()) == "a b<two>"
        assert [message.content for message in stream.run.history] == ["a", "b", "two", "a b<two>"]
        assert not isinstance(stream.run.history, Conversation)
        assert contents() == ["one", "<one>"]

    def test_an_empty_one_is_one(self) -> None:
        talk("one", session="alice")
        assert talk("two", session="alice", history=[]) == "<two>"
        assert contents() == ["one", "<one>"]

    def test_a_batch_is_no_conversation(self) -> None:
        talk("one", session="alice")
        with session("alice"):
            assert talk.batch(["two", "three"]) == ["<two>", "<three>"]
        assert contents() == ["one", "<one>"]

    def test_a_chats_stays_one_that_may_be_shortened(self) -> None:
        with talk.stream("two", history=Conversation(self.GIVEN)) as stream:
            list(stream)
        assert isinstance(stream.run.history, Conversation)


class TestPartsOfARun:
    def test_the_question_is_the_runs_and_the_answer_too(self) -> None:
        flow = Pipeline(lambda question: f"a long prompt about {question}", recall, str.upper)
        assert flow("mills", session="alice") == "<A LONG PROMPT ABOUT MILLS>"
        assert contents() == ["mills", "<A LONG PROMPT ABOUT MILLS>"]

    def test_where_the_input_is_no_text_the_question_is_the_models(self) -> None:
        flow = Pipeline(lambda page: f"about page {page['number']}", recall)
        flow({"number": 7}, session="alice")
        assert contents() == ["about page 7", "<about page 7>"]

    def test_what_is_no_text_is_told_as_text(self) -> None:
        Pipeline(recall, len)("one", session="alice")
        assert contents() == ["one", "5"]
        flow = Pipeline(recall, lambda text: {"length": len(text)})
        flow("two", session="alice", history=())
        assert flow.stream("three", session="alice").result == {"length": 12}
        assert contents()[-1] == "{'length': 12}"

    def test_many_models_of_one_run_take_part_in_one_turn(self) -> None:
        flow = Pipeline(Parallel(recall, recall), lambda a, b: f"{a} | {b}", recall)
        talk("zero", session="alice")
        flow("one", session="alice")
        assert contents()[2:] == ["one", "zero <zero><zero <zero><one> | zero <zero><one>>"]

    def test_a_child_run_takes_part_in_its_parents(self) -> None:
        async def outer(question: str) -> AsyncIterator[str]:
            async for piece in talk.stream(question.upper()).text():
                yield piece

        talk("zero", session="alice")
        assert Pipeline(outer)("one", session="alice") == "zero <zero><ONE>"
        assert contents()[2:] == ["one", "zero <zero><ONE>"]

    def test_a_child_run_in_another_session_has_that_ones(self) -> None:
        async def outer(question: str) -> str:
            with session("bob"):
                return "".join([piece async for piece in talk.stream(question).text()])

        Pipeline(recall, outer)("one", session="alice")
        assert contents() == ["one", "<<one>>"]
        assert contents("bob") == ["<one>", "<<one>>"]


class TestOneTurnAtATime:
    @pytest.mark.anyio
    async def test_a_second_is_refused_and_the_first_unharmed(self) -> None:
        gate = Gate()

        async def slow(question: str) -> AsyncIterator[str]:
            run = current_run()
            assert run is not None
            run.take_history(question)
            async for piece in gate.pieces(3):
                yield piece

        first = Pipeline(slow).start("one", session="alice")
        await asyncio.to_thread(eventually, lambda: len(list_now(first)) > 1)
        with pytest.raises(SessionBusy, match="'alice' is busy") as caught:
            await talk.acall("two", session="alice")
        assert "in recall" in caught.value.__notes__[0]
        assert await talk.acall("other", session="bob") == "<other>"
        assert await Pipeline(str.upper).acall("free", session="alice") == "FREE"
        gate.let(3)
        assert await first.wait() == "done"
        assert await talk.acall("three", session="alice") == "one 0 1 2 <three>"

    def test_it_is_free_after_every_way_of_ending(self) -> None:
        async def breaks(question: str) -> AsyncIterator[str]:
            run = current_run()
            assert run is not None
            run.take_history(question)
            yield "half "
            raise ValueError

        async def waits(question: str) -> AsyncIterator[str]:
            run = current_run()
            assert run is not None
            run.take_history(question)
            yield "part "
            await asyncio.Event().wait()

        with pytest.raises(ValueError):
            Pipeline(breaks)("a", session="alice")
        for _ in Pipeline(waits).stream("b", session="alice").text():
            break
        eventually(lambda: contents() == ["b", "part "])
        with pytest.raises(RunTimeout):
            Pipeline(waits)("c", session="alice", timeout=0.02)
        run = Pipeline(waits).start("d", session="alice")
        eventually(lambda: run.text)
        run.cancel()
        run.wait_sync(5)
        assert talk("e", session="alice") == "b part  d part <e>"

    def test_from_many_threads_exactly_one_at_a_time(self) -> None:
        refused, done = [], []

        async def number(question: str) -> str:
            run = current_run()
            assert run is not None
            await asyncio.sleep(0.001)
            return str(len(run.take_history(question)))

        def asks(i: int) -> None:
            try:
                done.append(Pipeline(number)(f"q{i}", session="alice"))
            except SessionBusy:
                refused.append(i)

        threads = [threading.Thread(target=asks, args=(i,)) for i in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert len(done) + len(refused) == 32
        assert done
        assert contents()[1::2] == sorted(done, key=int) == [str(2 * i) for i in range(len(done))]


def list_now(run: Any) -> list[Any]:
    return run.log.kept()  # type: ignore[no-any-return]


class TestStops:
    def test_partial_text_and_usage_are_kept_and_marked(self) -> None:
        gate = Gate()

        async def twenty(question: str) -> AsyncIterator[str]:
            run = current_run()
            assert run is not None
            run.take_history(question)
            emit(Usage(5, 21))
            async for piece in gate.pieces(1000):
                yield piece

        gate.let(21)
        with Pipeline(twenty).stream("count", session="alice") as stream:
            pieces = iter(stream.text())
            read = taken(pieces, 20)
        assert len(read) == 20
        answer = stream.run.history[-1]
        assert answer == session_history("alice")[-1]
        assert answer.content == stream.run.text == "".join(read)
        assert answer.marks == {"status": "cancelled", "usage": {"prompt_tokens": 5, "completion_tokens": 21}}
        assert stream.run.history[-2] == Message.user("count")
        assert (stream.usage.completion_tokens, stream.run.status) == (21, "cancelled")

    def test_a_stopped_answer_without_a_word_is_none(self) -> None:
        async def silent(question: str) -> str:
            run = current_run()
            assert run is not None
            run.take_history(question)
            await asyncio.Event().wait()
            return ""

        with pytest.raises(RunTimeout):
            Pipeline(silent)("one", session="alice", timeout=0.02)
        assert contents() == []

    def test_a_stop_condition_is_no_stop_of_the_turn(self) -> None:
        gate = Gate()
        gate.let(100)

        async def many(question: str) -> AsyncIterator[str]:
            run = current_run()
            assert run is not None
            run.take_history(question)
            async for piece in gate.pieces(100):
                yield piece

        with Pipeline(many).stream("n", session="alice", stop_when=lambda text: "3" in text) as stream:
            list(stream)
        (question, answer) = session_history("alice")
        assert (question.content, answer.content, answer.marks) == ("n", "0 1 2 3 ", {})

    def test_a_run_that_has_failed_is_marked_error(self) -> None:
        async def breaks(question: str) -> AsyncIterator[str]:
            run = current_run()
            assert run is not None
            run.take_history(question)
            yield "half"
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            for _ in Pipeline(breaks).stream("one", session="alice").text():
                pass
        assert session_history("alice")[-1].marks == {"status": "error"}

    def test_the_events_of_a_listener_are_what_counts(self) -> None:
        """What was made, but not delivered, is not in the answer."""
        with talk.stream("one", session="alice") as stream:
            for event in stream:
                if isinstance(event, TextDelta):
                    break
            status = stream.run.status
        if status == "running":
            assert stream.run.text in ("", "<one>")
