"""Stops on every engine that there is: ours here, ours behind a socket, another's.

Every forward is the test's step, and is counted where it is made: a stop ends the work there within two tokens.
"""

from __future__ import annotations

import asyncio
import time

import pytest

from millrace import Message
from millrace.modules.local import Request
from millrace.modules.protocols import ModelEngine, ModelGeneration
from millrace.streaming import RunCancelled
from tests.modules.conformance_parts import QUESTION, answers_again, question, rest
from tests.modules.subjects import RUNNING, Subject
from tests.support.leaks import eventually_async

pytestmark = pytest.mark.anyio
MOST = 2
"""Forwards that may still be made after a stop has reached the server."""


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
