"""What modules/protocols.py promises, tried on every engine that there is: ours here, ours behind a socket, another's.

All stand on the same weights, so their greedy answers are the same. Every forward is the test's step, and is counted
where it is made: a stop ends the work there within two tokens.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from millrace import Message, Sampling
from millrace.modules.local import Delta, Engine, Request
from millrace.modules.protocols import ModelEngine, ModelGeneration
from millrace.modules.remote import RemoteEngine
from millrace.streaming import (
    ContextLengthExceeded,
    Logprobs,
    MillraceError,
    ModelError,
    RemoteError,
    RunCancelled,
    TextDelta,
    TokenUsage,
)
from tests.modules.subjects import RUNNING, SUBJECTS, RemoteSubject, Subject
from tests.support.leaks import eventually_async

pytestmark = pytest.mark.anyio

QUESTION = [Message.user("the mill")]
TOKENS = 12
MOST = 2
"""Forwards that may still be made after a stop has reached the server."""


def each(*names: str) -> Any:
    """The subjects, those in processes of their own as slow tests."""
    return [
        pytest.param(name, marks=[] if name == "local" else pytest.mark.slow) for name in names or SUBJECTS
    ]


@pytest.fixture(scope="module", params=each())
def made(request: pytest.FixtureRequest) -> Iterator[Subject]:
    with SUBJECTS[request.param]() as subject:
        yield subject


@pytest.fixture
def subject(made: Subject) -> Iterator[Subject]:
    """With its gate closed, and nothing going on."""
    made.reset()
    yield made
    made.open_all()


@pytest.fixture
async def engine(subject: Subject) -> AsyncIterator[ModelEngine]:
    found = subject.engine()
    await found.ready()
    yield found
    if subject.remote:
        await found.aclose()


@pytest.fixture(scope="module")
def expected() -> str:
    """What the weights say, by the local engine."""
    with SUBJECTS["local"]() as subject:
        subject.open_all()
        return asyncio.run(subject.engine().submit(question()).result()).text


def question(messages: list[Message] = QUESTION, **settings: Any) -> Request:
    return Request(
        messages=messages, sampling=Sampling(**{"temperature": 0.0, "max_tokens": TOKENS, **settings})
    )


async def rest(generation: ModelGeneration) -> list[Delta]:
    """The remaining deltas; the last one and only the last one is terminal."""
    deltas = [delta async for delta in generation]
    assert [delta.finish_reason is not None for delta in deltas] == [False] * (len(deltas) - 1) + [True]
    assert deltas[-1].usage is not None
    assert (generation.status, generation.finish_reason) == ("finished", deltas[-1].finish_reason)
    assert generation.usage == deltas[-1].usage
    with pytest.raises(StopAsyncIteration):
        await anext(generation)
    return deltas


async def steps_to_rest(subject: Subject) -> int:
    """Lets forwards through one by one until none comes any more; how many those were."""
    steps = 0
    while True:
        await eventually_async(lambda: subject.reached() or subject.idle(), timeout=20)
        if not subject.reached():
            return steps
        assert steps < 20, "it goes on and on"
        subject.open(1)
        steps += 1


async def stop(subject: Subject, generation: ModelGeneration, reason: str = "cancelled") -> None:
    """Stops it, and waits until the server has seen that."""
    before = subject.connections()
    generation.cancel(reason)
    if subject.remote:
        await eventually_async(lambda: subject.connections() < before, timeout=20)


async def answers_again(subject: Subject, engine: ModelEngine, expected: str) -> None:
    """The next request gets the whole of its answer, and nothing else is computed."""
    subject.open_all()
    before = subject.left()
    assert (await engine.submit(question()).result()).text == expected
    assert subject.left() - before == TOKENS


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


class TestStops:
    """Counted where the tokens are made."""

    async def test_while_it_waits(self, subject: Subject, engine: ModelEngine, expected: str) -> None:
        going = [engine.submit(question(max_tokens=3)) for _ in range(RUNNING)]
        await eventually_async(subject.reached)
        queued = engine.submit(question())
        if subject.remote:
            await eventually_async(lambda: subject.connections() > RUNNING)
        await stop(subject, queued)
        subject.open_all()
        assert [delta.finish_reason for delta in await rest(queued)] == ["cancelled"]
        assert queued.usage.completion_tokens == 0
        assert {(await generation.result()).usage.completion_tokens for generation in going} == {3}
        await eventually_async(subject.idle)
        await answers_again(subject, engine, expected)

    async def test_before_the_first_token(self, subject: Subject, engine: ModelEngine, expected: str) -> None:
        generation = engine.submit(question(max_tokens=200))
        await eventually_async(subject.reached)
        await stop(subject, generation)
        assert await steps_to_rest(subject) <= MOST
        assert [delta.finish_reason for delta in await rest(generation)] == ["cancelled"]
        await answers_again(subject, engine, expected)

    async def test_while_it_decodes(self, subject: Subject, engine: ModelEngine, expected: str) -> None:
        generation = engine.submit(question(max_tokens=200))
        subject.open(3)
        texts = [(await anext(generation)).text for _ in range(3)]
        await eventually_async(subject.reached)
        await stop(subject, generation)
        assert await steps_to_rest(subject) <= MOST
        deltas = await rest(generation)
        assert [(delta.text, delta.finish_reason) for delta in deltas] == [("", "cancelled")]
        assert generation.usage.completion_tokens == 3
        assert expected.startswith("".join(texts))
        await answers_again(subject, engine, expected)

    async def test_twice_and_again(self, subject: Subject, engine: ModelEngine, expected: str) -> None:
        generation = engine.submit(question(max_tokens=200))
        subject.open(1)
        await anext(generation)
        await stop(subject, generation, "stop_condition")
        generation.cancel()
        assert await steps_to_rest(subject) <= MOST
        await generation.aclose()
        generation.cancel()
        assert (await rest(generation))[-1].finish_reason == "stop_condition"
        await answers_again(subject, engine, expected)

    async def test_at_the_end(self, subject: Subject, engine: ModelEngine, expected: str) -> None:
        generation = engine.submit(question())
        subject.open_all()
        texts = [delta.text async for delta in generation]
        generation.cancel()
        await generation.aclose()
        assert (generation.finish_reason, "".join(texts)) == ("length", expected)
        await answers_again(subject, engine, expected)

    async def test_after_the_end_what_nobody_took_is_discarded(
        self, subject: Subject, engine: ModelEngine
    ) -> None:
        subject.open_all()
        generation = engine.submit(question())
        await eventually_async(lambda: generation.status == "finished")
        generation.cancel()
        assert [(delta.text, delta.finish_reason) for delta in await rest(generation)] == [("", "cancelled")]

    async def test_right_after_submit(self, subject: Subject, engine: ModelEngine, expected: str) -> None:
        generation = engine.submit(question())
        generation.cancel()
        assert await steps_to_rest(subject) <= MOST
        assert [delta.finish_reason for delta in await rest(generation)] == ["cancelled"]
        await answers_again(subject, engine, expected)

    async def test_a_deadline(self, subject: Subject, engine: ModelEngine, expected: str) -> None:
        request = Request(
            messages=QUESTION, sampling=question(max_tokens=200).sampling, deadline=time.monotonic() + 1
        )
        generation = engine.submit(request)
        subject.open(2)
        for _ in range(2):
            await anext(generation)
        await eventually_async(subject.reached)
        before = subject.connections()
        if subject.remote:
            await eventually_async(lambda: subject.connections() < before)
        else:
            await eventually_async(lambda: time.monotonic() > request.deadline)  # type: ignore[operator]
        assert await steps_to_rest(subject) <= MOST
        deltas = await rest(generation)
        assert (deltas[-1].finish_reason, deltas[-1].error) == ("timeout", None)
        await answers_again(subject, engine, expected)

    @pytest.mark.parametrize("way", ["break", "cancel", "outer"])
    async def test_leaving_a_stream(
        self, subject: Subject, engine: ModelEngine, expected: str, way: str
    ) -> None:
        model = subject.model(engine, sampling=question(max_tokens=200).sampling)
        subject.open(3)
        got: list[str] = []
        open_before: list[int] = []

        async def listen() -> None:
            stream = model.stream("the mill")
            async for piece in stream.text():
                got.append(piece)
                open_before.append(subject.connections())
                if len(got) == 3 and way == "break":
                    break
                if len(got) == 3 and way == "cancel":
                    stream.run.cancel("enough")

        task = asyncio.create_task(listen())
        await eventually_async(lambda: len(got) == 3)
        if way == "outer":
            task.cancel()
        if subject.remote:
            await eventually_async(lambda: subject.connections() < open_before[0])
        assert await steps_to_rest(subject) <= MOST
        if way == "break":
            await task
        else:
            with pytest.raises(RunCancelled if way == "cancel" else asyncio.CancelledError):
                await task
        assert expected.startswith("".join(got))
        assert len(got) == 3
        await answers_again(subject, engine, expected)

    async def test_a_neighbour_does_not_notice(
        self, subject: Subject, engine: ModelEngine, expected: str
    ) -> None:
        subject.open_all()

        async def leave(i: int) -> None:
            generation = engine.submit(question([Message.user(f"snow {i}")], max_tokens=200))
            await anext(generation)
            await generation.aclose()

        found, *_ = await asyncio.gather(engine.submit(question()).result(), *(leave(i) for i in range(3)))
        assert found.text == expected
        await eventually_async(subject.idle)


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
