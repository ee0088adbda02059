from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from transformers import (
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from millrace.modules.local.noise import gumbel, row_key
from millrace.modules.local.sampler import Sampler
from millrace.modules.local.sampling import Sampling
from millrace.modules.local.sequences import Sequence

SIZE = 40
SPREAD = 3.0


def logits_of(rows: int, size: int = SIZE, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, size, generator=torch.Generator().manual_seed(seed)) * SPREAD


def sequence_of(
    prompt: list[int] | None = None, answer: list[int] | None = None, **settings: Any
) -> Sequence:
    prompt = prompt or [1]
    sequence = Sequence([*prompt, *(answer or [])], len(prompt), 100, Sampling(**settings))
    return sequence


def draws(row: torch.Tensor, count: int = 4000, **settings: Any) -> torch.Tensor:
    """How often each token is drawn from the same logits, with seeds 0 to count - 1; as shares."""
    sampler, size = Sampler(), 500
    counts = torch.zeros(row.shape[0])
    for start in range(0, count, size):
        sequences = [sequence_of(seed=start + offset, **settings) for offset in range(size)]
        tokens = [found.token for found in sampler.sample(sequences, row.expand(size, -1))]
        counts += torch.bincount(torch.tensor(tokens), minlength=row.shape[0])
    return counts / count


def warped(row: torch.Tensor, *warpers: Any) -> torch.Tensor:
    """The probabilities that transformers' own warpers leave."""
    scores = row[None].clone()
    for warper in warpers:
        scores = warper(torch.tensor([[1]]), scores)
    return scores.softmax(-1)[0]


def test_greedy_takes_the_largest() -> None:
    logits = logits_of(5)
    found = Sampler().sample([sequence_of(temperature=0.0) for _ in range(5)], logits)
    assert [choice.token for choice in found] == logits.argmax(-1).tolist()


@pytest.mark.parametrize(
    ("settings", "warpers"),
    [
        ({}, []),
        ({"temperature": 0.5}, [TemperatureLogitsWarper(0.5)]),
        ({"top_k": 5}, [TopKLogitsWarper(5)]),
        ({"top_p": 0.8}, [TopPLogitsWarper(0.8)]),
        ({"min_p": 0.1}, [MinPLogitsWarper(0.1)]),
        (
            {"temperature": 1.5, "top_k": 12, "top_p": 0.9, "min_p": 0.05},
            [
                TemperatureLogitsWarper(1.5),
                TopKLogitsWarper(12),
                TopPLogitsWarper(0.9),
                MinPLogitsWarper(0.05),
            ],
        ),
    ],
)
def test_tokens_come_as_often_as_transformers_warpers_say(
    settings: dict[str, Any], warpers: list[Any]
) -> None:
    row = logits_of(1, seed=4)[0]
    expected, found = warped(row, *warpers), draws(row, **settings)
    assert found[expected == 0].sum() == 0
    deviation = (expected * (1 - expected) / 4000).sqrt()
    assert ((found - expected).abs() <= 4 * deviation + 1e-3).all()


def test_top_p_sorts_on_where_the_likeliest_few_are_not_enough() -> None:
    flat = torch.linspace(0, 0.1, 6000)
    found = draws(flat, 1000, top_p=0.9)
    kept = warped(flat, TopPLogitsWarper(0.9)) > 0
    assert found[~kept].sum() == 0
    assert (found > 0).sum() > 500


def test_each_row_by_its_own_settings() -> None:
    """A row's choice is the same alone and among neighbours with all kinds of settings."""
    kinds: list[dict[str, Any]] = [
        {"temperature": 0.0},
        {"seed": 1},
        {"seed": 2, "top_k": 3},
        {"seed": 3, "top_p": 0.5, "temperature": 2.0},
        {"seed": 4, "min_p": 0.2},
        {"seed": 5, "repetition_penalty": 1.5},
        {"temperature": 0.0, "logit_bias": {7: 50.0}},
        {"seed": 6, "presence_penalty": 1.0, "frequency_penalty": 0.5},
    ]
    logits = logits_of(len(kinds), 3000)
    sequences = [sequence_of([3, 4, 5], [6, 6, 7], **kind) for kind in kinds]
    together = [found.token for found in Sampler().sample(sequences, logits)]
    alone = [
        Sampler().sample([sequence], logits[row : row + 1])[0].token for row, sequence in enumerate(sequences)
    ]
    assert together == alone
    assert together[6] == 7


@pytest.mark.parametrize("settings", [{"top_p": 0.6}, {"top_k": 20}, {"min_p": 0.5}])
def test_equally_likely_tokens_stay_or_go_together(settings: dict[str, Any]) -> None:
    row = torch.tensor([1.0] * 10 + [0.0] * 300 + [-1.0] * 300)
    found = draws(row, 3000, **settings) > 0
    assert found[:10].all()
    assert found[10:310].sum() > 200 or settings == {"min_p": 0.5}
    assert not found[310:].any()
    alone = [Sampler().sample([sequence_of(seed=seed, **settings)], row[None])[0].token for seed in range(9)]
    neighbours = [sequence_of(seed=seed, **settings) for seed in range(9)]
    assert [found.token for found in Sampler().sample(neighbours, row.expand(9, -1))] == alone


def test_a_seed_gives_the_same_choices_and_another_position_others() -> None:
    row = torch.zeros(1, 1000)
    sampler = Sampler()
    sequence = sequence_of(seed=9)
    said = []
    for _ in range(20):
        said.append(sampler.sample([sequence], row)[0].token)
        sequence.tokens.append(said[-1])
    again = sequence_of(answer=said[:10], seed=9)
    assert Sampler().sample([again], row)[0].token == said[10]
    assert len(set(said)) > 15


def test_without_a_seed_each_request_draws_its_own() -> None:
    assert len({sequence_of().seed for _ in range(20)}) == 20


def test_logprobs_are_those_of_the_model() -> None:
    logits = logits_of(2)
    sequences = [sequence_of(temperature=0.0, logprobs=3, logit_bias={2: 90.0}), sequence_of(temperature=0.0)]
    found = Sampler().sample(sequences, logits)
    assert found[1].logprobs is None
    report = found[0].logprobs
    assert report is not None
    spread = logits[0].log_softmax(-1)
    assert report.token_id == found[0].token == 2
    assert report.logprob == pytest.approx(float(spread[2]))
    assert [rival.token_id for rival in report.top] == spread.topk(3).indices.tolist()
    assert math.fsum(math.exp(rival.logprob) for rival in report.top) <= 1.0


@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {}, {"top_p": 0.9}, {"presence_penalty": 1.0}])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_row_that_is_not_finite_is_told_and_its_neighbours_are_not(
    settings: dict[str, Any], bad: float
) -> None:
    logits = logits_of(3)
    logits[1, 5] = bad
    found = Sampler().sample([sequence_of(**settings) for _ in range(3)], logits)
    assert [choice.finite for choice in found] == [True, False, True]


def test_noise_is_gumbel_noise() -> None:
    keys = torch.tensor([[row_key(seed, 3)] for seed in range(50)])
    noise = gumbel(keys, torch.arange(4000)[None])
    assert noise.isfinite().all()
    assert float(noise.mean()) == pytest.approx(0.5772, abs=0.02)
    assert float(noise.var()) == pytest.approx(math.pi**2 / 6, abs=0.05)
    below = torch.exp(-torch.exp(-noise)).flatten().sort().values
    even = torch.linspace(0, 1, below.numel())
    assert (below - even).abs().max() < 1.63 / math.sqrt(below.numel()), "Kolmogorov and Smirnov, at 1 %"


def test_noise_of_neighbours_is_unrelated() -> None:
    seeds = torch.tensor([[row_key(seed, 0)] for seed in range(300)])
    positions = torch.tensor([[row_key(0, position)] for position in range(300)])
    for keys in (seeds, positions):
        noise = gumbel(keys, torch.arange(300)[None])
        correlation = torch.corrcoef(noise).fill_diagonal_(0)
        assert correlation.abs().max() < 6 / math.sqrt(300)
        across = torch.corrcoef(noise.T).fill_diagonal_(0)
        assert across.abs().max() < 6 / math.sqrt(300)
