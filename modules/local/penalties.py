"""Penalties: logits changed by what a prompt and its answer already have, and by the caller's biases."""

from __future__ import annotations

from array import array

import torch

from .sampling import Sampling
from .sequences import Sequence

__all__ = ["Penalties"]


class TokenCounts:
    """The different tokens of one sequence, and how often its answer has each; grows with the answer."""

    def __init__(self) -> None:
        self.ids = array("q")
        self.counts = array("q")
        """How often the answer has the token; 0 for those of the prompt alone."""
        self._places: dict[int, int] = {}
        self._seen = 0

    def catch_up(self, sequence: Sequence) -> None:
        """Counts the tokens that are new since the last time."""
        for position in range(self._seen, len(sequence.tokens)):
            token = sequence.tokens[position]
            place = self._places.setdefault(token, len(self.ids))
            if place == len(self.ids):
                self.ids.append(token)
                self.counts.append(0)
            self.counts[place] += position >= sequence.prompt_length
        self._seen = len(sequence.tokens)


class Penalties:
    """Repetition, presence and frequency penalties and logit biases, for the rows that have any."""

    def __init__(self) -> None:
        self._counts: dict[Sequence, TokenCounts] = {}

    def wanted(self, sampling: Sampling) -> bool:
        return bool(sampling.logit_bias) or self._counted(sampling)

    def apply(self, sequences: list[Sequence], logits: torch.Tensor) -> torch.Tensor:
        """Logits (sequences, vocabulary) with the penalties applied; a copy where there are any."""
        counted = [(row, found) for row, found in enumerate(sequences) if self._counted(found.sampling)]
        biased = [(row, found) for row, found in enumerate(sequences) if found.sampling.logit_bias]
        if counted or biased:
            logits = logits.clone()
        if counted:
            self._penalise(counted, logits)
        if biased:
            self._add_biases(biased, logits)
        return logits

    def forget(self, sequence: Sequence) -> None:
        """Drops the counts of a sequence that has ended."""
        self._counts.pop(sequence, None)

    def _counted(self, sampling: Sampling) -> bool:
        return bool(
            sampling.repetition_penalty != 1.0 or sampling.presence_penalty or sampling.frequency_penalty
        )

    def _penalise(self, rows: list[tuple[int, Sequence]], logits: torch.Tensor) -> None:
        ids, counts, lengths = array("q"), array("q"), []
        for _, sequence in rows:
            found = self._counts.setdefault(sequence, TokenCounts())
            found.catch_up(sequence)
            ids.extend(found.ids)
            counts.extend(found.counts)
            lengths.append(len(found.ids))
        settings = [sequence.sampling for _, sequence in rows]
        repeat = torch.tensor(lengths)

        def column(values: list[float]) -> torch.Tensor:
            column = torch.tensor(values, dtype=logits.dtype).repeat_interleave(repeat)
            return column.to(logits.device)

        first = torch.tensor([row * logits.shape[1] for row, _ in rows]).repeat_interleave(repeat)
        where = (first + torch.frombuffer(ids, dtype=torch.int64)).to(logits.device)
        how_often = torch.frombuffer(counts, dtype=torch.int64).to(logits.device, logits.dtype)
        repetition = column([sampling.repetition_penalty for sampling in settings])
        frequency = column([sampling.frequency_penalty for sampling in settings])
        presence = column([sampling.presence_penalty for sampling in settings])
        flat = logits.view(-1)
        values = flat[where]
        values = torch.where(values > 0, values / repetition, values * repetition)
        flat[where] = values - frequency * how_often - presence * (how_often > 0)

    def _add_biases(self, rows: list[tuple[int, Sequence]], logits: torch.Tensor) -> None:
        places, biases = array("q"), array("d")
        for row, sequence in rows:
            places.extend(row * logits.shape[1] + token for token in sequence.sampling.logit_bias)
            biases.extend(sequence.sampling.logit_bias.values())
        where = torch.frombuffer(places, dtype=torch.int64).to(logits.device)
        logits.view(-1).index_add_(
            0, where, torch.frombuffer(biases, dtype=torch.float64).to(logits.device, logits.dtype)
        )
