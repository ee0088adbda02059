from __future__ import annotations

from typing import Any

import torch
from transformers import RepetitionPenaltyLogitsProcessor

from millrace.modules.local.penalties import Penalties
from millrace.modules.local.sampling import Sampling
from millrace.modules.local.sequences import Sequence

SIZE = 40


def sequence_of(prompt: list[int], answer: list[int], **settings: Any) -> Sequence:
    return Sequence([*prompt, *answer], len(prompt), 100, Sampling(**settings))


def test_repetition_penalty_is_that_of_transformers() -> None:
    logits = torch.randn(1, SIZE, generator=torch.Generator().manual_seed(0))
    sequence = sequence_of([3, 4, 5], [6, 6], repetition_penalty=1.7)
    expected = RepetitionPenaltyLogitsProcessor(1.7)(torch.tensor([sequence.tokens]), logits.clone())
    found = Penalties().apply([sequence], logits)
    assert torch.allclose(found, expected)


def test_presence_and_frequency_count_the_answer_alone() -> None:
    logits = torch.zeros(2, SIZE)
    sequences = [
        sequence_of([3, 4], [5, 5, 6], presence_penalty=1.0, frequency_penalty=0.5),
        sequence_of([8], [9], frequency_penalty=-2.0),
    ]
    penalties = Penalties()
    found = penalties.apply(sequences, logits)
    assert found[0, [3, 4, 5, 6]].tolist() == [0.0, 0.0, -2.0, -1.5]
    assert found[1, [8, 9]].tolist() == [0.0, 2.0]
    sequences[0].tokens.append(6)
    assert penalties.apply(sequences, logits)[0, 6] == -2.0
    assert logits.abs().sum() == 0, "the model's logits stay as they are"


def test_biases_are_added_to_their_row() -> None:
    logits = torch.zeros(2, SIZE)
    sequences = [sequence_of([1], []), sequence_of([1], [], logit_bias={3: 5.0, 4: -1.5})]
    found = Penalties().apply(sequences, logits)
    assert found[0].abs().sum() == 0
    assert found[1, [3, 4]].tolist() == [5.0, -1.5]


def test_without_penalties_nothing_is_copied() -> None:
    logits = torch.zeros(1, SIZE)
    assert Penalties().apply([sequence_of([1], [])], logits) is logits
