"""Token for token what transformers' own `generate` says to each prompt alone, whatever the engine does meanwhile."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from millrace.modules.local.core import EngineCore
from millrace.modules.local.sampling import Sampling
from millrace.modules.local.sequences import Sequence
from millrace.streaming.errors import ModelError

from .families import FAMILIES, VOCABULARY, core_of, generated, model_of

NEW = 20
GREEDY = Sampling(temperature=0.0)
INEXACT = ("mixtral",)
"""Experts are chosen by rounding, so equality is not strict."""
REFUSED = ("gpt-oss",)
OWN_TEST = ("phi3 longrope",)
STRICT = [name for name in FAMILIES if name not in (*INEXACT, *REFUSED, *OWN_TEST)]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def prompts_of(seed: int, count: int = 8, longest: int = 40) -> list[list[int]]:
    rnd = random.Random(seed)
    return [[rnd.randrange(3, VOCABULARY) for _ in range(rnd.randint(1, longest))] for _ in range(count)]


def sequence_of(prompt: list[int], new: int = NEW) -> Sequence:
    return Sequence(list(prompt), len(prompt), new, GREEDY)


def drive(core: EngineCore, sequences: list[Sequence], seed: int) -> dict[Sequence, list[int]]:
    """Adds the sequences at random moments, with others between them that are aborted at random; their tokens."""
    rnd = random.Random(seed)
    waiting, victims = list(sequences), [sequence_of(prompt, 40) for prompt in prompts_of(seed + 1, 4)]
    todo = [*waiting, *victims]
    rnd.shuffle(todo)
    said: dict[Sequence, list[int]] = {sequence: [] for sequence in todo}
    while todo or not core.idle:
        while todo and rnd.random() < 0.4:
            core.add(todo.pop())
        for victim in victims:
            if rnd.random() < 0.1:
                core.abort(victim)
        for sequence, delta in core.step():
            assert delta.error is None
            said[sequence] += delta.token_ids
    assert core.blocks.used == 0
    return {sequence: said[sequence] for sequence in sequences}


def assert_exact(model: Any, seed: int, **options: Any) -> EngineCore:
    prompts = prompts_of(seed)
    expected = generated(model, prompts, NEW)
    assert len({token for answer in expected for token in answer}) > 20
    core = core_of(model, **options)
    said = drive(core, [sequence_of(prompt) for prompt in prompts], seed)
    assert list(said.values()) == expected
    return core


@pytest.mark.parametrize("family", STRICT)
def test_families_answer_as_generate_does(family: str) -> None:
    assert_exact(model_of(family), seed=3, tokens_per_step=13)


@pytest.mark.slow
@pytest.mark.parametrize("tokens_per_step", [1, 7, 16, 512])
@pytest.mark.parametrize("block_size", [1, 5, 16])
def test_chunks_and_blocks_change_nothing(tokens_per_step: int, block_size: int) -> None:
    assert_exact(
        model_of("llama"), seed=5, tokens_per_step=tokens_per_step, block_size=block_size, blocks=900
    )


@pytest.mark.parametrize("blocks", [8, 11])
def test_preemption_changes_nothing(blocks: int) -> None:
    core = assert_exact(model_of("llama"), seed=4, blocks=blocks, running=6)
    assert core.scheduler.preemptions > 0


def test_lengths_far_apart_change_nothing() -> None:
    model = model_of("mistral window")
    prompts = [[9] * 3, [5, 6] * 70, [7, 8, 9] * 4, [200] * 90, [300, 4]]
    expected = generated(model, prompts, NEW)
    core = core_of(model, blocks=200, block_size=2)
    assert list(drive(core, [sequence_of(prompt) for prompt in prompts], 1).values()) == expected


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_random_loads(seed: int) -> None:
    rnd = random.Random(seed)
    assert_exact(
        model_of("mistral window"),
        seed=seed,
        blocks=rnd.randint(9, 30),
        running=rnd.randint(1, 9),
        tokens_per_step=rnd.randint(1, 60),
    )


@pytest.mark.slow
def test_longrope_uses_the_factors_of_the_context() -> None:
    """Prompts beyond the original length, where `generate` uses the long factors throughout as well."""
    model = model_of("phi3 longrope")
    prompts = [prompt * 50 for prompt in prompts_of(6, 4, 1)]
    expected = generated(model, prompts, NEW)
    core = core_of(model)
    assert list(drive(core, [sequence_of(prompt) for prompt in prompts], 6).values()) == expected


@pytest.mark.slow
def test_longrope_within_the_original_length_uses_the_short_factors() -> None:
    model = model_of("phi3 longrope", max_position_embeddings=48)
    prompts = prompts_of(6, 4, 20)
    expected = generated(model, prompts, NEW)
    core = core_of(model)
    assert list(drive(core, [sequence_of(prompt) for prompt in prompts], 6).values()) == expected


@pytest.mark.slow
@pytest.mark.parametrize("family", ["mixtral", "llama"])
def test_in_float32_only_ties_differ(family: str, capsys: pytest.CaptureFixture[str]) -> None:
    """At the first difference the reference's two best logits are closer than rounding."""
    model = model_of(family, torch.float32)
    prompts = prompts_of(8, 12)
    expected = generated(model, prompts, 40)
    margins = [margin_at_difference(model, *pair) for pair in zip(prompts, expected, strict=True)]
    core = core_of(model)
    said = drive(core, [sequence_of(prompt, 40) for prompt in prompts], 8)
    differing = []
    for margin, mine, theirs in zip(margins, said.values(), expected, strict=True):
        at = next((at for at in range(len(theirs)) if mine[at] != theirs[at]), None)
        if at is not None:
            differing.append(margin[at])
    print(f"{family} in float32: {len(differing)} of {len(prompts)} answers differ")
    assert all(margin < 2e-4 for margin in differing)
    assert len(differing) <= 1


def margin_at_difference(model: Any, prompt: list[int], answer: list[int]) -> list[float]:
    """How far the two likeliest tokens are apart, at each token of the answer."""
    with torch.inference_mode():
        logits = model(torch.tensor([prompt + answer]), use_cache=False).logits[0, len(prompt) - 1 : -1]
    best = logits.topk(2, -1).values
    margins: list[float] = (best[:, 0] - best[:, 1]).tolist()
    return margins


@pytest.mark.parametrize("family", REFUSED)
def test_what_it_cannot_honour_is_refused_by_name(family: str) -> None:
    with pytest.raises(ModelError, match="s_aux="):
        core_of(model_of(family, torch.float32))
