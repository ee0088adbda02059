"""What modules/protocols.py promises, tried on every engine that there is: ours here, ours behind a socket, another's.

All stand on the same weights, so their greedy answers are the same. Stops are in `test_conformance_stops.py`.
"""

from __future__ import annotations

import asyncio

import pytest

from millrace import Message
from millrace.modules.local import Engine, Request
from millrace.modules.protocols import ModelEngine
from millrace.modules.remote import RemoteEngine
from millrace.streaming import (
    ContextLengthExceeded,
    Logprobs,
    MillraceError,
    ModelError,
    RemoteError,
    TextDelta,
    TokenUsage,
)
from tests.modules.conformance_parts import QUESTION, TOKENS, answers_again, each, question, rest
from tests.modules.subjects import RUNNING, SUBJECTS, RemoteSubject, Subject

pytestmark = pytest.mark.anyio


class TestAnswers:
    async def test_a_plain_answer_and_its_usage(
        self, subject: Subject, engine: ModelEngine, expected: str
    ) -> None:
        subject.open_all()
        found = await engine.submit(question()).result()
        assert (found.text, found.finish_reason) == (expected, "length")
        assert found.usage == TokenUsage(4, TOKENS)

    async def test_streaming_equals_unary_and_comes_piece_by_piece(
        self, subject: Subject, engine: ModelEngine, expected: str
    ) -> None:
        before = subject.left()
        generation = engine.submit(question())
        texts: list[str] = []
        subject.open(1)
        async for delta in generation:
            texts.append(delta.text)
            if len(texts) < TOKENS:
                assert subject.left() - before == len(texts), "not one token more was made than delivered"
            subject.open(1)
        assert "".join(texts) == expected
        assert len(texts) >= TOKENS / 2

    @pytest.mark.parametrize("tokens", [1, 5])
    async def test_max_tokens(
        self, subject: Subject, engine: ModelEngine, expected: str, tokens: int
    ) -> None:
        subject.open_all()
        found = await engine.submit(question(max_tokens=tokens)).result()
        assert (found.finish_reason, found.usage.completion_tokens) == ("length", tokens)
        assert expected.startswith(found.text)
        assert len(found.text) < len(expected)

    async def test_stop_strings(self, subject: Subject, engine: ModelEngine, expected: str) -> None:
        subject.open_all()
        middle = len(expected) // 2
        stop = expected[middle : middle + 4]
        deltas = await rest(engine.submit(question(stop=["never said", stop])))
        assert "".join(delta.text for delta in deltas) == expected[: expected.index(stop)]
        assert deltas[-1].finish_reason == "stop"

    async def test_log_probabilities(self, subject: Subject, engine: ModelEngine, expected: str) -> None:
        subject.open_all()
        if not subject.tells_logprobs:
            return
        found = await engine.submit(question(logprobs=2)).result()
        assert found.text == expected
        assert len(found.logprobs) == TOKENS
        assert "".join(report.text for report in found.logprobs).strip() == expected.strip()
        for report in found.logprobs:
            assert [rival.logprob for rival in report.top] == sorted(rival.logprob for rival in report.top)[
                ::-1
            ]
            assert (report.top[0].text, report.top[0].data) == (report.text, report.data), "it is greedy"
            assert len(report.top) == 2
            assert report.logprob < 0
        model = subject.model(engine, sampling=question(logprobs=1).sampling)
        events = [event async for event in model.stream("the mill")]
        told = [event for event in events if isinstance(event, Logprobs)]
        assert [token["token"] for event in told for token in event.tokens] == [
            report.text for report in found.logprobs
        ]
        first = next(at for at, event in enumerate(events) if isinstance(event, TextDelta))
        assert isinstance(events[first - 1], Logprobs), "it is told right before its text"

    async def test_a_seed(self, subject: Subject, engine: ModelEngine, expected: str) -> None:
        subject.open_all()
        texts = [
            (await engine.submit(question(temperature=1.5, seed=seed)).result()).text for seed in (1, 1, 2, 3)
        ]
        assert texts[0] == texts[1]
        assert len({expected, *texts}) > 2

    async def test_many_at_once_as_alone(self, subject: Subject, engine: ModelEngine) -> None:
        subject.open_all()
        questions = [question([Message.user(f"the water {i}")]) for i in range(2 * RUNNING)]
        together = await asyncio.gather(*(engine.submit(asked).result() for asked in questions))
        alone = [await engine.submit(asked).result() for asked in questions]
        assert [found.text for found in together] == [found.text for found in alone]
        assert len({found.text for found in alone}) > RUNNING

    async def test_as_a_step(self, subject: Subject, engine: ModelEngine, expected: str) -> None:
        subject.open_all()
        model = subject.model(engine, sampling=question().sampling)
        assert await model.acall("the mill") == expected
        assert await model.acall(QUESTION) == expected
        assert "".join([piece async for piece in model.stream("the mill").text()]) == expected
        assert await model.replace(system="Be brief.").acall("the mill") != expected
        assert await model.acall("the mill", history=[Message.user("a"), Message.assistant("b")]) != expected


class TestFailures:
    async def test_a_prompt_that_is_too_long(
        self, subject: Subject, engine: ModelEngine, expected: str
    ) -> None:
        long = [Message.user("the mill " * 2000)]
        if not subject.refuses_long_prompts:  # a server without a limit of its own
            subject.open_all()
            assert (await engine.submit(question(long, max_tokens=1)).result()).usage.prompt_tokens > 2000
            return
        before = subject.left()
        with pytest.raises(ContextLengthExceeded, match="512"):
            await engine.submit(question(long)).result()
        with pytest.raises(ContextLengthExceeded, match="5000"):
            await engine.submit(question(max_tokens=5000)).result()
        assert subject.left() == before, "refused before any forward"
        await answers_again(subject, engine, expected)

    async def test_a_history_that_is_too_long_loses_its_oldest_turns(
        self, subject: Subject, engine: ModelEngine
    ) -> None:
        subject.open_all()
        turns = [Message.user("the water of a river " * 10), Message.assistant("turns the wheel " * 10)] * 20
        request = Request(
            messages=[*turns, *QUESTION], sampling=question(max_tokens=5).sampling, drop_oldest=len(turns)
        )
        generation = engine.submit(request)
        assert (await generation.result()).usage.completion_tokens == 5
        assert (generation.dropped > 0) is subject.refuses_long_prompts
        assert generation.dropped % 2 == 0, "turns go in whole"
        assert generation.dropped <= len(turns)

    async def test_a_model_that_is_not_there(self, subject: Subject) -> None:
        if isinstance(subject, RemoteSubject):
            engine: ModelEngine = RemoteEngine(subject.url, "nobody/nothing")
            kind: type[MillraceError] = RemoteError
        else:
            engine, kind = Engine("nobody/nothing"), ModelError
        with pytest.raises(kind, match="nobody/nothing"):
            await engine.submit(question()).result()
        await engine.aclose()


@pytest.mark.parametrize("name", each())
async def test_an_engine_that_dies_in_the_midst_of_an_answer(name: str) -> None:
    with SUBJECTS[name]() as subject:
        engine = subject.engine()
        generations = [engine.submit(question(max_tokens=200)) for _ in range(2)]
        subject.open(6)
        await anext(generations[0])
        if isinstance(subject, RemoteSubject):
            subject.server.process.kill()
        else:
            subject.open_all()
            await engine.aclose()
        for generation in generations:
            last = (await rest(generation))[-1]
            if subject.remote:
                assert isinstance(last.error, RemoteError)
                assert str(last.error).startswith("http://127.0.0.1:")
            else:
                assert last.finish_reason == "cancelled", "it was closed, which is no failure"
        if isinstance(subject, RemoteSubject):
            with pytest.raises(RemoteError, match=r"cannot be reached|broke the connection"):
                await subject.engine(retries=0).ready()
            subject.server.process.wait()
        await engine.aclose()
