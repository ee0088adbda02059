"""The engine in a process of its own: the same answers, the same errors, the same stops."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from millrace import Limits, LocalModel, Message, Pipeline
from millrace.modules.local import Engine, Request, Sampling
from millrace.streaming.errors import ContextLengthExceeded, ModelError, Overloaded, RequestRefused
from millrace.streaming.messages import FunctionCall
from tests.modules.local.process_parts import ENDLESS, GREEDY, request
from tests.support import paced
from tests.support.gated import tiny_engine
from tests.support.leaks import eventually, eventually_async

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def shared(hand: paced.Paced) -> Iterator[Engine]:
    engine = Engine(paced.load, process=True, limits=Limits(running=4, waiting=8))
    engine.wait_ready(60)
    yield engine
    engine.close()


@pytest.fixture
def engine(shared: Engine, hand: paced.Paced) -> Iterator[Engine]:
    hand.run_free()
    yield shared
    hand.run_free()
    eventually(lambda: shared.status().running + shared.status().waiting == 0)
    eventually(lambda: shared.status().blocks_used == 0, message=shared.status)


class TestAnswers:
    async def test_they_are_those_of_the_thread(self, engine: Engine) -> None:
        beside = tiny_engine()
        for sampling in (GREEDY, Sampling(seed=7, max_tokens=20, logprobs=2), Sampling(seed=7, stop="mill")):
            one = await engine.submit(request(sampling=sampling.replace(max_tokens=20))).result()
            other = await beside.submit(request(sampling=sampling.replace(max_tokens=20))).result()
            assert one.text == other.text
            assert (one.token_ids, one.usage, one.finish_reason) == (
                other.token_ids,
                other.usage,
                other.finish_reason,
            )
            assert one.logprobs == other.logprobs
        assert sampling.logprobs is None
        beside.close()

    async def test_conversations_with_calls_travel(self, engine: Engine) -> None:
        template = (
            "{% for m in messages %}{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function.name }} "
            "{{ c.function.arguments.at }}{% endfor %}{{ m.name }} {% endfor %}"
        )
        call = FunctionCall("a", "look", '{"at": 7}')
        told = [Message.assistant(tool_calls=[call]), Message.tool("the 🦊", tool_call_id="a")]
        asked = Request(messages=told, sampling=GREEDY, chat_template=template)
        beside = tiny_engine()
        one, other = await engine.submit(asked).result(), await beside.submit(asked).result()
        assert (one.text, one.usage) == (other.text, other.usage)
        asked = Request(messages=told[:1], sampling=GREEDY, chat_template=template)
        assert (await engine.submit(asked).result()).usage.prompt_tokens < one.usage.prompt_tokens
        beside.close()

    async def test_all_kinds_of_requests_travel(self, engine: Engine) -> None:
        messages = [Message.system("Be brief."), Message.user("the 🦊mill")]
        assert (
            await engine.submit(Request(messages=messages, sampling=GREEDY)).result()
        ).usage.completion_tokens
        assert (
            await engine.submit(Request(token_ids=[5, 6], sampling=GREEDY)).result()
        ).usage.prompt_tokens == 2
        biased = Sampling(temperature=0.0, max_tokens=2, logit_bias={300: 100.0})
        assert (await engine.submit(request(sampling=biased)).result()).token_ids == (300, 300)

    async def test_many_at_once(self, engine: Engine) -> None:
        alone = [await engine.submit(request(f"bread {i}")).result() for i in range(8)]
        together = await asyncio.gather(*(engine.submit(request(f"bread {i}")).result() for i in range(8)))
        assert [one.text for one in together] == [one.text for one in alone]

    async def test_the_status_is_the_engines(self, engine: Engine, hand: paced.Paced) -> None:
        before = engine.status()
        hand.pace(0.01)
        generation = engine.submit(request(sampling=ENDLESS))
        assert generation.status == "preparing"
        async for _ in generation:
            break
        await eventually_async(lambda: generation.status == "running")
        status = engine.status()
        assert (status.running, status.blocks_used > 0, status.ready) == (1, True, True)
        assert generation.usage.completion_tokens >= 1
        await generation.aclose()
        after = engine.status()
        assert (after.running, after.blocks_used) == (0, 0)
        assert after.stops["cancelled"] == before.stops.get("cancelled", 0) + 1
        assert after.tokens_produced > before.tokens_produced


class TestErrors:
    async def test_a_refusal_knows_its_setting(self, engine: Engine) -> None:
        with pytest.raises(RequestRefused, match="cannot be held to") as refused:
            await engine.submit(request(sampling=Sampling(json_schema={"type": "nonsense"}))).result()
        assert refused.value.setting == "json_schema"

    @pytest.mark.parametrize(
        ("made", "error"),
        [
            (lambda: request("mill " * 1000), ContextLengthExceeded),
            (lambda: Request(token_ids=[1_000_000]), RequestRefused),
            (lambda: request(sampling=Sampling(max_tokens=1_000_000)), ContextLengthExceeded),
        ],
    )
    async def test_one_request_fails_with_its_own_error(
        self, engine: Engine, made: Callable[[], Request], error: type[Exception]
    ) -> None:
        neighbour = engine.submit(request())
        with pytest.raises(error):
            await engine.submit(made()).result()
        assert (await neighbour.result()).finish_reason == "length"

    async def test_one_that_is_no_json_costs_nobody_anything(self, engine: Engine) -> None:
        odd = [{"type": "function", "function": {"name": "look", "parameters": {"what": object()}}}]
        for _ in range(20):
            with pytest.raises(ModelError, match="JSON"):
                engine.submit(Request(messages=[Message.user("Hi")], tools=odd))
        assert engine.status().waiting == 0
        assert (await engine.submit(request()).result()).finish_reason == "length"

    async def test_a_question_to_the_caller_that_fails(self, engine: Engine) -> None:
        def breaks() -> bool:
            raise KeyError("no such page")

        neighbour = engine.submit(request())
        with pytest.raises(KeyError, match="no such page"):
            await engine.submit(request(is_stopped=breaks)).result()
        assert (await neighbour.result()).finish_reason == "length"

    async def test_what_is_too_much_is_refused_at_once(self, engine: Engine, hand: paced.Paced) -> None:
        hand.pace(0.01)
        taken = [engine.submit(request(sampling=ENDLESS)) for _ in range(12)]
        before = hand.forwards
        started = time.perf_counter()
        with pytest.raises(Overloaded) as refused:
            engine.submit(request())
        assert time.perf_counter() - started < 0.05
        assert refused.value.retry_after >= 1
        assert hand.forwards - before < 10
        for generation in taken:
            await generation.aclose()

    async def test_a_place_in_the_line_has_its_time(self, hand: paced.Paced) -> None:
        engine = Engine(paced.load, process=True, limits=Limits(running=1, waiting=4, queue_timeout=0.3))
        await engine.ready()
        hand.pace(0.02)
        first = engine.submit(request(sampling=ENDLESS))
        async for _ in first:
            break
        with pytest.raises(Overloaded, match="no turn came within") as refused:
            await engine.submit(request()).result()
        assert refused.value.public
        assert refused.value.waited >= 0.3
        late = engine.submit(request(deadline=time.monotonic() + 0.1))
        assert (await late.result()).finish_reason == "timeout"
        await first.aclose()
        hand.run_free()
        await engine.aclose()

    async def test_a_load_that_fails_says_why(self, tmp_path: Path) -> None:
        engine = Engine(tmp_path / "nowhere", process=True)
        with pytest.raises(ModelError, match="there is no directory"):
            await engine.ready()
        assert engine.status().state == "failed"
        with pytest.raises(ModelError, match="there is no directory"):
            engine.submit(request())
        engine.close()

    def test_a_source_that_cannot_travel_is_refused(self) -> None:
        with pytest.raises(ModelError, match="cannot be found by another process"):
            Engine(lambda: (None, None), process=True)


class TestStops:
    async def test_while_decoding(self, engine: Engine, hand: paced.Paced) -> None:
        alone = await engine.submit(request("bread")).result()
        hand.pace(0.02)
        neighbour = engine.submit(request("bread"))
        generation = engine.submit(request(sampling=ENDLESS))
        async for _ in generation:
            break
        generation.cancel()
        generation.cancel("again")
        await generation.aclose()
        assert generation.finish_reason == "cancelled"
        assert 1 <= generation.usage.completion_tokens < 30
        assert (await neighbour.result()).text == alone.text

    async def test_no_more_than_one_forward_after_the_stop(self, engine: Engine, hand: paced.Paced) -> None:
        hand.pace(0.05)
        generation = engine.submit(request(sampling=ENDLESS))
        async for _ in generation:
            break
        generation.cancel()
        before = hand.forwards
        await generation.aclose()
        assert hand.forwards - before <= 1
        assert engine.status().blocks_used == 0

    async def test_in_the_line(self, engine: Engine, hand: paced.Paced) -> None:
        hand.pace(0.02)
        running = [engine.submit(request(sampling=ENDLESS)) for _ in range(4)]
        for generation in running:
            async for _ in generation:
                break
        waiting = engine.submit(request())
        await eventually_async(lambda: waiting.status == "waiting")
        waiting.cancel()
        assert waiting.finish_reason == "cancelled"
        assert waiting.usage.completion_tokens == 0
        for generation in running:
            await generation.aclose()

    async def test_by_a_word_that_only_the_caller_knows(self, engine: Engine, hand: paced.Paced) -> None:
        hand.pace(0.01)
        stopped = False
        generation = engine.submit(request(sampling=ENDLESS, is_stopped=lambda: stopped))
        async for _ in generation:
            break
        stopped = True
        assert (await generation.result()).finish_reason == "cancelled"

    async def test_while_it_loads(self, hand: paced.Paced) -> None:
        engine = Engine(paced.load, process=True)
        generation = engine.submit(request())
        generation.cancel()
        assert (await generation.result()).finish_reason == "cancelled"
        kept = engine.submit(request())
        assert (await kept.result()).finish_reason == "length"
        await engine.aclose()

    async def test_at_random(self, engine: Engine) -> None:
        chance = random.Random(1)

        async def one(i: int) -> None:
            generation = engine.submit(request(f"grain {i % 5}", sampling=Sampling(max_tokens=30, seed=i)))
            for _ in range(chance.randrange(12)):
                if await anext(generation, None) is None:
                    break
            await generation.aclose()

        for _ in range(25):
            await asyncio.gather(*(one(chance.randrange(100)) for _ in range(8)))
        assert engine.status().blocks_used == 0

    async def test_a_flow_that_is_left(self, engine: Engine, hand: paced.Paced) -> None:
        model = LocalModel(engine, sampling={"max_tokens": 400})
        await model.ready()
        hand.pace(0.02)
        before = hand.forwards
        async for _ in Pipeline(model).stream("the mill").text():
            break
        await eventually_async(lambda: engine.status().running == 0)
        assert engine.status().blocks_used == 0
        assert hand.forwards - before < 20


class TestWhoDecides:
    async def test_a_launcher_may_ask_for_one(self) -> None:
        asked = Engine(paced.load_plainly)
        asked.prefer_process()
        assert asked.process is True
        decided = Engine(paced.load_plainly, process=False)
        decided.prefer_process()
        assert decided.process is False
        cannot = tiny_engine()
        cannot.prefer_process()
        assert not cannot.process

    def test_models_on_the_same_weights_share_it(self) -> None:
        one, other = LocalModel.demo(process=True), LocalModel.demo()
        assert one.engine is other.engine
        assert one.engine.process is True
