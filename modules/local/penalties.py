"""Penalties: logits changed by what a prompt and its answer already have, and by the caller's biases."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from .sampling import Sampling
from .sequences import Sequence

__all__ = ["Penalties"]


@dataclass(slots=True)
class Counts:
    """The different tokens of one sequence, and how often its answer has each; grows with the answer."""

    ids: torch.Tensor
    counts: torch.Tensor
    used: int = 0
    seen: int = 0
    places: dict[int, int] = field(default_factory=dict)

    @classmethod
    def empty(cls, device: torch.device) -> Counts:
        return cls(torch.empty(64, dtype=torch.int64, device=device), torch.zeros(64, device=device))

    def catch_up(self, sequence: Sequence) -> None:
        """Counts the tokens that are new since the last time."""
        for position in range(self.seen, len(sequence.tokens)):
            self._count(sequence.tokens[position], position >= sequence.prompt_length)
        self.seen = len(sequence.tokens)

    def _count(self, token: int, produced: bool) -> None:
        place = self.places.get(token)
        if place is None:
            if self.used == len(self.ids):
                self.ids = torch.cat([self.ids, torch.empty_like(self.ids)])
                self.counts = torch.cat([self.counts, torch.zeros_like(self.counts)])
            place = self.places[token] = self.used
            self.ids[place] = token
            self.used += 1
        if produced:
            self.counts[place] += 1


class Penalties:
    """Repetition, presence and frequency penalties and logit biases, for the rows that have any."""

    def __init__(self) -> None:
        self._counts: dict[Sequence, Counts] = {}
        self._biases: dict[Sequence, tuple[torch.Tensor, torch.Tensor]] = {}

    def wanted(self, sampling: Sampling) -> bool:
        return bool(sampling.logit_bias) or self._counted(sampling)

    def apply(self, sequences: list[Sequence], logits: torch.Tensor) -> torch.Tensor:
        """Logits (sequences, vocabulary) with the penalties applied; a copy where there are any."""
        rows = [row for row, sequence in enumerate(sequences) if self.wanted(sequence.sampling)]
        if rows:
            logits = logits.clone()
        for row in rows:
            sampling = sequences[row].sampling
            if self._counted(sampling):
                self._penalise(sequences[row], logits[row])
            if sampling.logit_bias:
                ids, biases = self._bias(sequences[row], logits)
                logits[row].index_add_(0, ids, biases)
        return logits

    def forget(self, sequence: Sequence) -> None:
        self._counts.pop(sequence, None)
        self._biases.pop(sequence, None)

    def _counted(self, sampling: Sampling) -> bool:
        return bool(
            sampling.repetition_penalty != 1.0 or sampling.presence_penalty or sampling.frequency_penalty
        )

    def _penalise(self, sequence: Sequence, logits: torch.Tensor) -> None:
        found = self._counts.get(sequence)
        if found is None:
            found = self._counts[sequence] = Counts.empty(logits.device)
        found.catch_up(sequence)
        ids, counts = found.ids[: found.used], found.counts[: found.used].to(logits.dtype)
        sampling = sequence.sampling
        values = logits[ids]
        if sampling.repetition_penalty != 1.0:
            penalty = sampling.repetition_penalty
            values = torch.where(values > 0, values / penalty, values * penalty)
        values = values - sampling.frequency_penalty * counts - sampling.presence_penalty * (counts > 0)
        logits[ids] = values

    def _bias(self, sequence: Sequence, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if sequence not in self._biases:
            bias = sequence.sampling.logit_bias
            ids = torch.tensor(list(bias), dtype=torch.int64, device=logits.device)
            self._biases[sequence] = (
                ids,
                torch.tensor(list(bias.values()), dtype=logits.dtype, device=logits.device),
            )
        return self._biases[sequence]
