"""Prefixes that come again: not computed again, and the answers are the same token for token."""

from __future__ import annotations

import random

import pytest
import torch

from millrace import Limits
from millrace.modules.local import Request, Sampling
from tests.support.gated import Gate, gated_engine, tiny_engine

from .families import VOCABULARY, core_of, generated, model_of
from .test_exactness import STRICT, drive, sequence_of

pytestmark = pytest.mark.anyio
NEW = 20


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def prompts_with_prefixes(seed: int, count: int = 10) -> list[list[int]]:
    """Prompts of which many begin alike, at all lengths around the edges of blocks."""
    rnd = random.Random(seed)
    stems = [[rnd.randrange(3, VOCABULARY) for _ in range(40)] for _ in range(2)]
    return [
        stems[rnd.randrange(2)][: rnd.randint(0, 40)]
        + [rnd.randrange(3, VOCABULARY) for _ in range(rnd.randint(1, 6))]
        for _ in range(count)
    ]


@pytest.mark.parametrize("family", STRICT)
def test_hits_change_no_answer(family: str) -> None:
    model = model_of(family)
    prompts = prompts_with_prefixes(2)
    expected = generated(model, prompts, NEW)
    assert len({token for answer in expected for token in answer}) > 20
    core = core_of(model, tokens_per_step=13, block_size=4, blocks=400)
    for seed in range(2):  # the second time all of them are there
        said = drive(core, [sequence_of(prompt) for prompt in prompts], seed)
        assert list(said.values()) == expected
    assert core.blocks.tokens_reused > 100


@pytest.mark.parametrize("blocks", [18, 22, 40])
@pytest.mark.parametrize("seed", range(3))
def test_not_in_a_pool_that_is_too_small_either(blocks: int, seed: int) -> None:
    model = model_of("llama")
    prompts = prompts_with_prefixes(seed)
    core = core_of(model, blocks=blocks, block_size=4, running=5, tokens_per_step=9)
    said = drive(core, [sequence_of(prompt) for prompt in prompts], seed)
    assert list(said.values()) == generated(model, prompts, NEW)
    assert core.blocks.used == 0


async def test_a_shared_beginning_of_200_tokens_is_computed_once() -> None:
    engine = tiny_engine()
    stem = [20 + place % 300 for place in range(200)]
    sampling = Sampling(temperature=0.0, max_tokens=4)
    await engine.submit(Request(token_ids=[*stem, 5], sampling=sampling)).result()
    first = engine.status().tokens_read
    assert first == 201
    await engine.submit(Request(token_ids=[*stem, 6], sampling=sampling)).result()
    status = engine.status()
    assert status.tokens_read - first < 0.1 * first
    assert status.tokens_reused >= 192
    assert status.blocks_used == 0
    await engine.submit(Request(token_ids=[*stem, 6], sampling=sampling, salt="another")).result()
    assert engine.status().tokens_read - status.tokens_read == 201
    engine.close()


async def test_a_session_with_many_requests_does_not_starve_another() -> None:
    gate = Gate()
    engine = gated_engine(gate, limits=Limits(running=2, waiting=64))
    await engine.ready()
    sampling = Sampling(temperature=0.0, max_tokens=2)
    many = [engine.submit(Request(prompt=f"mill {i}", sampling=sampling, session="many")) for i in range(50)]
    await gate.areached()
    few = engine.submit(Request(prompt="corn", sampling=sampling, session="few"))
    gate.open(6)
    await few.result()
    assert sum(generation.finish_reason is None for generation in many) > 40
    gate.open_all()
    for generation in many:
        assert (await generation.result()).finish_reason == "length"
    engine.close()
