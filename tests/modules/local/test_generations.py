"""The caller's side of an engine: every way to start and to end, step by step at the gate."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from millrace.modules.local import KV, Engine, Generation, Request
from millrace.streaming.errors import ContextLengthExceeded, ModelError
from millrace.streaming.limits import Limits
from millrace.streaming.messages import Message
from tests.modules.local.gated_parts import GREEDY, ask, limited, rest
from tests.support.gated import Gate, tiny_engine
from tests.support.leaks import eventually_async

pytestmark = pytest.mark.anyio


class TestAnswers:
    async def test_each_forward_gives_one_delta(self, gate: Gate, engine: Engine) -> None:
        generation = ask(engine)
        for count in range(1, 5):
            await gate.areached()
            assert generation.usage.completion_tokens == count - 1
            gate.open(1)
            assert len((await anext(generation)).token_ids) == 1
        gate.open_all()
        assert (await rest(generation))[-1].finish_reason == "length"
        assert gate.tokens == [2, *[1] * 7]

    async def test_result_has_the_whole_text(self, gate: Gate, engine: Engine) -> None:
        gate.open_all()
        streamed, whole = ask(engine), await ask(engine).result()
        deltas = await rest(streamed)
        assert whole.text == "".join(delta.text for delta in deltas)
        assert whole.token_ids == tuple(token for delta in deltas for token in delta.token_ids)
        assert (whole.finish_reason, whole.usage.completion_tokens) == ("length", 8)

    async def test_messages_go_through_the_chat_template(self, gate: Gate, engine: Engine) -> None:
        gate.open_all()
        one = engine.submit(Request(messages=[Message.user("Hi")], sampling=GREEDY))
        same = engine.submit(Request(prompt="<|user|>Hi<|assistant|>", sampling=GREEDY))
        assert await one.result() == await same.result()

    async def test_a_request_joins_the_others_between_two_forwards(self, gate: Gate, engine: Engine) -> None:
        first = ask(engine)
        await gate.areached()
        second = ask(engine, "water and bread")
        await eventually_async(lambda: second.status == "waiting")
        gate.open(1)
        await anext(first)
        await gate.areached()
        assert gate.tokens[-1] > 1, "the second prompt, packed with the first one's token"
        gate.open_all()
        assert len((await second.result()).token_ids) == len((await first.result()).token_ids) == 8

    async def test_logprobs_come_with_their_tokens(self, gate: Gate, engine: Engine) -> None:
        gate.open_all()
        found = await ask(engine, logprobs=2).result()
        assert [report.token_id for report in found.logprobs] == list(found.token_ids)
        assert all(report.top[0].logprob == report.logprob for report in found.logprobs)
        spelled = b"".join(report.data or b"" for report in found.logprobs)
        assert spelled.decode("utf-8", "replace").strip() == found.text.strip()
        assert all(report.top[0].data == report.data for report in found.logprobs)

    async def test_a_listener_may_be_in_another_loop(self, gate: Gate, engine: Engine) -> None:
        gate.open_all()
        expected = await ask(engine).result()
        found = await asyncio.to_thread(lambda: asyncio.run(ask(engine).result()))
        assert found == expected


class TestCancel:
    async def check(self, engine: Engine, generation: Generation, produced: int) -> None:
        """The generation is cancelled: one terminal delta, nothing buffered, nothing held."""
        (last,) = await rest(generation)
        assert last.finish_reason == "cancelled"
        assert generation.usage.completion_tokens == produced
        status = engine.status()
        assert (status.running, status.waiting, status.blocks_used) == (0, 0, 0)
        assert status.stops == {"cancelled": 1}

    async def test_while_the_engine_loads(self) -> None:
        loading, go_on = threading.Event(), threading.Event()

        def load() -> Any:
            loading.set()
            go_on.wait(30)
            raise OSError("never mind")

        engine = Engine(load)
        generation = ask(engine)
        await asyncio.to_thread(loading.wait, 30)
        assert generation.status == "preparing"
        generation.cancel()
        await self.check(engine, generation, 0)
        go_on.set()
        engine.close()

    @limited(running=1)
    async def test_while_it_waits_for_its_turn(self, gate: Gate, engine: Engine) -> None:
        other = ask(engine)
        await gate.areached()
        generation = ask(engine)
        await eventually_async(lambda: generation.status == "waiting")
        generation.cancel()
        assert generation.status == "finished", "at once: it holds nothing"
        assert [delta.finish_reason for delta in await rest(generation)] == ["cancelled"]
        gate.open_all()
        assert len((await other.result()).token_ids) == 8
        assert gate.tokens == [2, *[1] * 7], "it never ran"

    async def test_in_the_first_forward(self, gate: Gate, engine: Engine) -> None:
        generation = ask(engine)
        await gate.areached()
        generation.cancel()
        assert generation.status == "running"
        gate.open(1)
        await generation.aclose()
        await self.check(engine, generation, 0)
        assert gate.forwards.entered == 1

    async def test_in_a_later_chunk_of_the_prompt(self, gate: Gate, engine: Engine) -> None:
        generation = engine.submit(Request(token_ids=[7] * 500))
        more = engine.submit(Request(token_ids=[7] * 300))
        await gate.areached()
        await eventually_async(lambda: more.status != "preparing")
        gate.open(1)
        await anext(generation)
        await gate.areached()
        more.cancel()
        generation.cancel()
        gate.open(1)
        await more.aclose()
        await generation.aclose()
        assert engine.status().blocks_used == 0
        assert (gate.forwards.entered, more.usage.completion_tokens) == (2, 0)

    async def test_while_decoding_the_token_at_the_gate_is_dropped(self, gate: Gate, engine: Engine) -> None:
        generation = ask(engine, max_tokens=100)
        gate.open(3)
        for _ in range(3):
            await anext(generation)
        await gate.areached()
        generation.cancel()
        gate.open(1)
        await generation.aclose()
        await self.check(engine, generation, 3)
        assert gate.forwards.entered == 4

    async def test_what_is_buffered_is_discarded(self, gate: Gate, engine: Engine) -> None:
        generation = ask(engine, max_tokens=100)
        gate.open(5)
        await anext(generation)
        await eventually_async(lambda: gate.forwards.entered == 6)
        generation.cancel()
        gate.open(1)
        await self.check(engine, generation, 5)

    async def test_after_the_end_untaken_text_is_discarded_and_the_end_says_so(
        self, gate: Gate, engine: Engine
    ) -> None:
        gate.open_all()
        generation = ask(engine)
        await eventually_async(lambda: generation.status == "finished")
        assert generation.finish_reason == "length"
        generation.cancel()
        (last,) = await rest(generation)
        assert last.finish_reason == "cancelled"
        assert last.usage is not None
        assert last.usage.completion_tokens == 8

    async def test_when_all_was_taken_the_end_stays(self, gate: Gate, engine: Engine) -> None:
        gate.open_all()
        generation = ask(engine)
        await rest(generation)
        generation.cancel()
        await generation.aclose()
        assert generation.finish_reason == "length"

    async def test_twice_and_from_several_threads(self, gate: Gate, engine: Engine) -> None:
        generation = ask(engine, max_tokens=100)
        await gate.areached()
        threads = [threading.Thread(target=generation.cancel) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        generation.cancel("timeout")
        gate.open_all()
        await generation.aclose()
        await generation.aclose()
        await self.check(engine, generation, 0)

    @pytest.mark.parametrize(
        ("reason", "finish"),
        [("stop_condition", "stop_condition"), ("timeout", "timeout"), ("the tab was closed", "cancelled")],
    )
    async def test_reasons(self, gate: Gate, engine: Engine, reason: str, finish: str) -> None:
        generation = ask(engine)
        await gate.areached()
        generation.cancel(reason)
        gate.open_all()
        assert [delta.finish_reason for delta in await rest(generation)] == [finish]
        assert engine.status().stops == {finish: 1}

    async def test_a_neighbour_answers_as_if_alone(self, gate: Gate, engine: Engine) -> None:
        gate.open_all()
        alone = await ask(engine, "spring and harvest").result()
        gate.close()
        generation, victim = ask(engine, "spring and harvest"), ask(engine, "snow", max_tokens=100)
        for _ in range(3):
            await gate.areached()
            gate.open(1)
        victim.cancel()
        gate.open_all()
        assert await generation.result() == alone

    async def test_result_of_a_cancelled_request_is_what_was_delivered(
        self, gate: Gate, engine: Engine
    ) -> None:
        generation = ask(engine, max_tokens=100)
        gate.open(2)
        text = (await anext(generation)).text + (await anext(generation)).text
        generation.cancel()
        gate.open_all()
        found = await generation.result()
        assert (found.text, found.finish_reason, found.usage.completion_tokens) == (text, "cancelled", 2)

    async def test_a_cancelled_listener_can_be_replaced(self, gate: Gate, engine: Engine) -> None:
        """Whoever waits for a delta may give up waiting; the generation goes on for others."""
        generation = ask(engine)
        await gate.areached()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(generation), 0.01)
        gate.open_all()
        assert sum(len(delta.token_ids) for delta in await rest(generation)) == 8


class TestPreemption:
    async def test_answers_are_those_without_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        settings = {"max_tokens": 60, "stop": "never said"}
        prompts = [f"number {number} of the mills" for number in range(10)]
        roomy = tiny_engine()
        expected = [await ask(roomy, prompt, **settings).result() for prompt in prompts]
        await roomy.aclose()
        monkeypatch.setattr("millrace.modules.local.assembling.available_memory", lambda device: 150_000)
        engine = tiny_engine(kv=KV(fraction=0.5, block_size=8), limits=Limits(running=10))
        await engine.ready()
        assert engine.status().blocks_total < 50
        found = await asyncio.gather(*(ask(engine, prompt, **settings).result() for prompt in prompts))
        assert found == expected
        assert engine.status().preemptions > 0
        assert engine.status().blocks_used == 0
        tight = engine.submit(Request(token_ids=[7] * 300, sampling=GREEDY.replace(max_tokens=200)))
        with pytest.raises(ContextLengthExceeded, match=r"KV pool of \d+ tokens"):
            await tight.result()
        await engine.aclose()


class TestFailures:
    async def test_a_listener_whose_loop_is_closed_harms_nobody(self, gate: Gate, engine: Engine) -> None:
        def listen_once() -> Generation:
            loop = asyncio.new_event_loop()
            generation = ask(engine, max_tokens=3)
            waiting = loop.create_task(anext(generation))  # type: ignore[arg-type]
            loop.run_until_complete(asyncio.sleep(0))
            waiting.cancel()
            loop.run_until_complete(asyncio.wait([waiting]))
            loop.close()
            return generation

        left = await asyncio.to_thread(listen_once)
        other = ask(engine)
        gate.open_all()
        assert (await other.result()).finish_reason == "length"
        assert (await left.result()).finish_reason == "length"

    async def test_an_exception_in_a_forward_is_the_requests_own(self, gate: Gate, engine: Engine) -> None:
        gate.fail_next(RuntimeError("broken once"))
        generation = ask(engine)
        gate.open_all()
        with pytest.raises(RuntimeError, match="broken once"):
            await generation.result()
        assert generation.finish_reason == "error"
        assert (await ask(engine).result()).finish_reason == "length"

    async def test_a_dead_engine_tells_everybody_at_once(self, gate: Gate, engine: Engine) -> None:
        generations = [ask(engine, f"request {number}") for number in range(20)]
        await gate.areached()
        gate.fail_next(SystemExit("the thread is gone"))
        gate.open(1)
        for generation in generations:
            (last,) = await rest(generation)
            assert isinstance(last.error, ModelError)
            assert "the thread is gone" in str(last.error)
        assert engine.status().state == "failed"
        assert "the thread is gone" in engine.status().error
        with pytest.raises(ModelError, match="the thread is gone"):
            ask(engine)

    async def test_closing_ends_everything_as_cancelled(self, gate: Gate, engine: Engine) -> None:
        generations = [ask(engine) for _ in range(30)]
        await gate.areached()
        await asyncio.to_thread(engine.close)
        for generation in generations:
            assert (await rest(generation))[-1].finish_reason == "cancelled"
        assert engine.status().state == "closed"


@pytest.fixture(scope="module")
def busy_engine() -> Iterator[Engine]:
    engine = tiny_engine(limits=Limits(running=6, waiting=100), kv=KV(block_size=4))
    engine.wait_ready(60)
    yield engine
    engine.close()


@pytest.fixture
async def watched(busy_engine: Engine) -> AsyncIterator[Engine]:
    """The engine; afterwards nothing runs, waits or is held."""
    yield busy_engine
    status = busy_engine.status()
    assert (status.running, status.waiting, status.blocks_used) == (0, 0, 0)


class TestManyAtOnce:
    async def test_sixteen_answer_as_each_alone(self, watched: Engine) -> None:
        prompts = [
            f"{word} number {number}" for number, word in enumerate(["mill", "water", "snow", "bell"] * 4)
        ]
        alone = [await ask(watched, prompt, max_tokens=30).result() for prompt in prompts]
        together = await asyncio.gather(*(ask(watched, prompt, max_tokens=30).result() for prompt in prompts))
        assert together == alone
        assert len({token for found in alone for token in found.token_ids}) > 20

    async def test_a_seed_gives_the_same_answer_among_neighbours(self, watched: Engine) -> None:
        settings = {"temperature": 1.0, "top_p": 0.9, "max_tokens": 25}
        alone = await ask(watched, seed=11, **settings).result()
        neighbours = [ask(watched, "bells ring", **settings) for _ in range(7)]
        again = await ask(watched, seed=11, **settings).result()
        assert again == alone
        others = [await neighbour.result() for neighbour in neighbours]
        assert len({found.text for found in others}) > 1

    async def test_random_stops_leave_nothing(self, watched: Engine) -> None:
        rnd = random.Random(1)
        before = sum(watched.status().stops.values())

        async def one(number: int) -> None:
            await asyncio.sleep(rnd.random() * 0.3)
            generation = ask(watched, "the " * rnd.randint(1, 60), max_tokens=rnd.randint(1, 40))
            takes = rnd.randint(0, 10)
            async for _ in generation:
                if takes == 0:
                    break
                takes -= 1
            if rnd.random() < 0.5:
                generation.cancel()
                deltas = [delta async for delta in generation]
                assert len(deltas) <= 1
            await generation.aclose()
            assert generation.finish_reason in ("cancelled", "length", "stop")

        await asyncio.gather(*(one(number) for number in range(100)))
        await asyncio.gather(*(one(number) for number in range(100)))
        assert sum(watched.status().stops.values()) == before + 200

    async def test_status_counts(self, watched: Engine) -> None:
        before = watched.status()
        await ask(watched, max_tokens=10).result()
        after = watched.status()
        assert after.tokens_produced == before.tokens_produced + 10
        assert after.tokens_read == before.tokens_read + 2
        assert after.steps == before.steps + 10
        assert after.tokens_per_second > 0
        assert after.blocks_free == after.blocks_total
        assert after.ready
