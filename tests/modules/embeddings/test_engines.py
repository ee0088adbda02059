"""An embedding engine behind a gate: every way to start and to end, forward by forward."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from millrace.modules.embeddings import EmbeddingEngine
from millrace.streaming import ContextLengthExceeded, Limits, ModelError, Overloaded, TokenUsage
from tests.support.encoders import GatedEncoderEngine, gated_encoder, tiny_encoder, wordpieces
from tests.support.gated import Gate
from tests.support.leaks import eventually, eventually_async, leaks

pytestmark = pytest.mark.anyio

WORDS = ["mill", "river", "water", "wheel", "corn", "bread"]


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def engine(gate: Gate, request: pytest.FixtureRequest) -> Iterator[GatedEncoderEngine]:
    made = gated_encoder(gate, **getattr(request, "param", {}))
    made.start()
    eventually(lambda: made.status().ready, timeout=60)
    yield made
    made.close()


def options(**given: Any) -> Any:
    return pytest.mark.parametrize("engine", [given], indirect=True)


def counts(engine: EmbeddingEngine) -> tuple[int, int]:
    return engine.status().running, engine.status().waiting


async def free(engine: EmbeddingEngine) -> list[list[float]]:
    """What comes with the gate open."""
    return (await engine.embed(WORDS)).vectors


class TestWork:
    async def test_those_who_ask_meanwhile_share_the_next_forward(
        self, gate: Gate, engine: GatedEncoderEngine
    ) -> None:
        first = engine.submit(["mill"])
        await gate.areached()
        others = [engine.submit([word]) for word in WORDS[1:]]
        gate.open(1)
        assert len((await first.result()).vectors) == 1
        await gate.areached()
        gate.open(1)
        vectors = [(await other.result()).vectors[0] for other in others]
        assert gate.forwards.left == 2
        gate.open_all()
        alone = await free(engine)
        for one, other in zip(vectors, alone[1:], strict=True):
            assert max(abs(a - b) for a, b in zip(one, other, strict=True)) < 1e-9

    async def test_order_and_usage(self, gate: Gate, engine: GatedEncoderEngine) -> None:
        gate.open_all()
        texts = ["a", "the mill grinds corn for bread", "water of a river"]
        found = await engine.embed(texts)
        tokens = sum(len(row) for row in wordpieces()(texts)["input_ids"])
        assert found.usage == TokenUsage(tokens, 0)
        for text, vector in zip(texts, found.vectors, strict=True):
            alone = (await engine.embed([text])).vectors[0]
            assert max(abs(a - b) for a, b in zip(alone, vector, strict=True)) < 1e-9
        assert engine.status().tokens_read == 2 * tokens
        assert engine.status().stops == {"stop": 4}

    @options(batch_tokens=16)
    async def test_a_large_call_takes_many_forwards_and_lets_a_small_one_in(
        self, gate: Gate, engine: GatedEncoderEngine
    ) -> None:
        large = engine.submit(["the mill"] * 40)
        await gate.areached()
        small = engine.submit(["corn"])
        gate.open(2)
        assert len((await small.result()).vectors) == 1
        assert large.status == "running"
        gate.open_all()
        assert len((await large.result()).vectors) == 40
        assert gate.forwards.left > 8
        assert max(gate.tokens) <= 16

    async def test_no_texts(self, engine: GatedEncoderEngine) -> None:
        assert (await engine.embed([])).vectors == []

    async def test_from_many_loops_and_threads(self, gate: Gate, engine: GatedEncoderEngine) -> None:
        gate.open_all()
        expected = await free(engine)
        found: list[list[list[float]]] = []
        threads = [threading.Thread(target=lambda: found.append(asyncio.run(free(engine)))) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(found) == 6
        assert all(
            abs(a - b) < 1e-9
            for vectors in found
            for one, other in zip(vectors, expected, strict=True)
            for a, b in zip(one, other, strict=True)
        )


class TestStops:
    async def test_before_it_has_run_nothing_is_computed(
        self, gate: Gate, engine: GatedEncoderEngine
    ) -> None:
        first = engine.submit(["mill"])
        await gate.areached()
        queued = engine.submit(WORDS)
        await eventually_async(lambda: counts(engine) == (1, 1))
        queued.cancel()
        queued.cancel()
        assert (queued.status, queued.finish_reason, counts(engine)) == ("finished", "cancelled", (1, 0))
        gate.open_all()
        await first.result()
        assert gate.forwards.left == 1
        with pytest.raises(asyncio.CancelledError):
            await queued.result()

    @options(batch_tokens=16)
    async def test_in_the_midst_of_many_forwards_one_more_at_most(
        self, gate: Gate, engine: GatedEncoderEngine
    ) -> None:
        task = asyncio.create_task(engine.embed(["the mill"] * 100))
        for _ in range(3):
            await gate.areached()
            gate.open(1)
        await gate.areached()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert counts(engine) == (0, 0)
        gate.open_all()
        neighbour = await engine.embed(["corn"])
        assert len(neighbour.vectors) == 1
        assert gate.forwards.left == 5, "the one at hand, and the neighbour's"
        assert engine.status().stops == {"cancelled": 1, "stop": 1}

    async def test_after_the_end_it_changes_nothing(self, gate: Gate, engine: GatedEncoderEngine) -> None:
        gate.open_all()
        job = engine.submit(["mill"])
        vectors = (await job.result()).vectors
        job.cancel()
        assert (await job.result()).vectors == vectors
        assert engine.status().stops == {"stop": 1}

    async def test_closing_ends_all(self, gate: Gate, engine: GatedEncoderEngine) -> None:
        jobs = [engine.submit(WORDS) for _ in range(3)]
        await gate.areached()
        await engine.aclose()
        await engine.aclose()
        assert {job.status for job in jobs} == {"finished"}
        assert engine.status().state == "closed"
        with pytest.raises(ModelError, match="closed"):
            engine.submit(["mill"])

    def test_opened_and_closed_nothing_is_left(self) -> None:
        async def life() -> int:
            engine = EmbeddingEngine(tiny_encoder)
            found = await free(engine)
            await engine.aclose()
            engine.start()
            assert await free(engine) == found
            await engine.aclose()
            return len(found)

        asyncio.run(life())
        with leaks():
            assert asyncio.run(life()) == len(WORDS)


class TestRefusals:
    @options(limits=Limits(running=1, waiting=1))
    async def test_too_many_at_once(self, gate: Gate, engine: GatedEncoderEngine) -> None:
        jobs = [engine.submit(["mill"]) for _ in range(2)]
        with pytest.raises(Overloaded, match="running=1, waiting=1"):
            engine.submit(["mill"])
        gate.open_all()
        for job in jobs:
            await job.result()
        assert len((await engine.embed(["mill"])).vectors) == 1

    @options(limits=Limits(running=1, waiting=5, queue_timeout=0.05), batch_tokens=8)
    async def test_waiting_too_long(self, gate: Gate, engine: GatedEncoderEngine) -> None:
        first = engine.submit(["mill"] * 3)
        await gate.areached()
        queued = engine.submit(["corn"])
        await asyncio.sleep(0.1)  # what is waited for is the time itself
        gate.open_all()
        with pytest.raises(Overloaded, match="queue_timeout"):
            await queued.result()
        assert len((await first.result()).vectors) == 3

    async def test_one_text_that_is_too_long_fails_its_call_before_any_forward(
        self, gate: Gate, engine: GatedEncoderEngine
    ) -> None:
        with pytest.raises(ContextLengthExceeded, match="text 1 of 2"):
            await engine.embed(["mill", "the " * 100])
        assert gate.forwards.entered == 0
        assert counts(engine) == (0, 0)
        assert engine.status().stops == {"error": 1}


class TestFailures:
    async def test_a_failing_forward_fails_those_alone_whose_texts_are_to_blame(
        self, gate: Gate, engine: GatedEncoderEngine
    ) -> None:
        first = engine.submit(["mill"])
        await gate.areached()
        good, bad = engine.submit(WORDS), engine.submit(["bells"])
        gate.open(1)
        await first.result()
        await gate.areached()
        gate.fail_next(RuntimeError("too large"))  # the whole batch, then its halves go through
        gate.open_all()
        assert len((await good.result()).vectors) == len(WORDS)
        assert len((await bad.result()).vectors) == 1
        gate.close()
        alone = engine.submit(["bells"])
        await gate.areached()
        gate.fail_next(RuntimeError("broken"))
        gate.open_all()
        with pytest.raises(RuntimeError, match="broken"):
            await alone.result()
        assert len(await free(engine)) == len(WORDS)

    async def test_numbers_that_are_none_fail_that_call(self) -> None:
        import torch

        model, tokenizer = tiny_encoder()
        with torch.no_grad():
            model.embeddings.word_embeddings.weight[wordpieces()("bells")["input_ids"][1]] = float("nan")
        engine = EmbeddingEngine(lambda: (model, tokenizer))
        found = await asyncio.gather(
            engine.embed(["mill"]), engine.embed(["corn", "bells"]), return_exceptions=True
        )
        assert not isinstance(found[0], BaseException)
        assert isinstance(found[1], ModelError)
        assert "for text 1" in str(found[1])
        await engine.aclose()

    async def test_a_load_that_fails_is_told_to_all_and_tried_again_by_the_next(self) -> None:
        broken = [True]

        def load() -> Any:
            if broken.pop() if broken else False:
                raise OSError("no disk")
            return tiny_encoder()

        engine = EmbeddingEngine(load)
        found = await asyncio.gather(*(engine.embed(["mill"]) for _ in range(3)), return_exceptions=True)
        assert [type(error) for error in found] == [ModelError] * 3
        assert len({id(error) for error in found}) == 3
        assert (engine.status().state, "no disk" in engine.status().error) == ("failed", True)
        with pytest.raises(ModelError, match="no disk"):
            engine.submit(["mill"])
        engine.start()
        assert len(await free(engine)) == len(WORDS)
        await engine.aclose()

    async def test_closed_while_it_loads(self) -> None:
        loading, go_on = threading.Event(), threading.Event()

        def load() -> Any:
            loading.set()
            go_on.wait(30)
            return tiny_encoder()

        engine = EmbeddingEngine(load)
        job = engine.submit(["mill"])
        await asyncio.to_thread(loading.wait, 30)
        assert engine.status().state == "loading"
        closing = asyncio.create_task(engine.aclose())
        go_on.set()
        await closing
        with pytest.raises(asyncio.CancelledError):
            await job.result()
        assert job.finish_reason == "cancelled"
