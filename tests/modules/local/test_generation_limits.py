"""What one request may take of an engine: its place, its time, its length; step by step at the gate."""

from __future__ import annotations

import time

import pytest

from millrace.modules.local import Engine, Request, Sampling
from millrace.streaming.errors import ContextLengthExceeded, Overloaded
from tests.modules.local.gated_parts import GREEDY, ask, limited, rest
from tests.support.gated import Gate
from tests.support.leaks import eventually_async

pytestmark = pytest.mark.anyio


class TestLimits:
    @limited(running=2, waiting=3)
    async def test_as_many_as_let_in(self, gate: Gate, engine: Engine) -> None:
        taken = [ask(engine) for _ in range(5)]
        for _ in range(3):
            with pytest.raises(Overloaded, match=r"running=2, waiting=3") as refusal:
                ask(engine)
            assert 1 <= refusal.value.retry_after <= 30
        # Each is prepared in another thread: with the first forward only one may be there.
        await eventually_async(lambda: all(generation.sequence is not None for generation in taken))
        await gate.areached()
        gate.open(1)
        await eventually_async(lambda: engine.status().running == 2)
        assert engine.status().waiting == 3
        taken[4].cancel()
        late = ask(engine)
        gate.open_all()
        for generation in (*taken[:4], late):
            assert (await generation.result()).finish_reason == "length"
        assert engine.status().stops == {"cancelled": 1, "length": 5}

    @limited(running=1, waiting=0)
    async def test_refused_before_anything_is_done(self, gate: Gate, engine: Engine) -> None:
        ask(engine)
        started = time.perf_counter()
        with pytest.raises(Overloaded):
            ask(engine, "long " * 1_000_000)
        assert time.perf_counter() - started < 0.05, "it was not tokenised"
        gate.open_all()

    @limited(running=1, queue_timeout=0.05)
    async def test_who_waits_too_long_is_told(self, gate: Gate, engine: Engine) -> None:
        """At once, also while the forward of another stands at the gate."""
        running = ask(engine)
        await gate.areached()
        late = ask(engine)
        (last,) = await rest(late)
        assert last.finish_reason == "error"
        with pytest.raises(Overloaded, match=r"0\.05 s"):
            await late.result()
        gate.open_all()
        assert (await running.result()).finish_reason == "length"

    @limited(running=1)
    async def test_a_deadline_ends_a_request_that_waits(self, gate: Gate, engine: Engine) -> None:
        ask(engine)
        await gate.areached()
        late = engine.submit(Request(prompt="x", sampling=GREEDY, deadline=time.monotonic() + 0.05))
        assert [delta.finish_reason for delta in await rest(late)] == ["timeout"]
        gate.open_all()

    async def test_a_deadline_ends_a_request_that_runs(self, gate: Gate, engine: Engine) -> None:
        sampling = GREEDY.replace(max_tokens=400)
        generation = engine.submit(Request(prompt="x", sampling=sampling, deadline=time.monotonic() + 0.2))
        gate.open_all()
        deltas = await rest(generation)
        assert deltas[-1].finish_reason == "timeout"
        assert engine.status().blocks_used == 0

    async def test_a_prompt_beyond_the_context(self, gate: Gate, engine: Engine) -> None:
        generation = engine.submit(Request(token_ids=[7] * 500, sampling=GREEDY.replace(max_tokens=13)))
        (last,) = await rest(generation)
        assert last.finish_reason == "error"
        with pytest.raises(ContextLengthExceeded, match=r"500 tokens and max_tokens=13 .* 512 tokens"):
            await generation.result()
        assert gate.forwards.entered == 0

    async def test_max_tokens_unset_means_what_the_context_leaves(self, gate: Gate, engine: Engine) -> None:
        gate.open_all()
        found = await engine.submit(Request(token_ids=[7] * 500, sampling=Sampling(temperature=0.0))).result()
        assert (found.finish_reason, len(found.token_ids)) == ("length", 12)
