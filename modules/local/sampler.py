"""Sampler: logits to tokens, for all rows of a step at once, each row by its request's settings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch

from .noise import gumbel, row_key
from .penalties import Penalties
from .requests import TokenLogprobs
from .sequences import Sequence

__all__ = ["Sampled", "Sampler"]

CANDIDATES = (256, 4096)
"""How many of the likeliest tokens are looked at for top-k, top-p and min-p; a full sort comes last."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """The choice for one sequence."""

    token: int
    finite: bool
    """False when the logits were NaN or infinite: the token means nothing."""
    logprobs: TokenLogprobs | None = None


@dataclass(slots=True)
class Group:
    """Rows that are sampled in the same way, and their settings as columns (rows, 1)."""

    sequences: list[Sequence]
    index: torch.Tensor
    """Which rows of the batch they are; (rows,)."""
    temperature: torch.Tensor
    top_k: torch.Tensor
    """The whole vocabulary where there is no limit."""
    top_p: torch.Tensor
    min_logit: torch.Tensor
    """The logarithm of min-p; -inf where there is none."""
    most: int
    """The largest top-k."""

    @classmethod
    def of(cls, rows: list[tuple[int, Sequence]], logits: torch.Tensor) -> Self | None:
        """The group of some rows of a batch; None when there are none."""
        if not rows:
            return None
        settings = [sequence.sampling for _, sequence in rows]
        size = logits.shape[1]

        def column(values: list[float]) -> torch.Tensor:
            return torch.tensor(values, dtype=logits.dtype, device=logits.device)[:, None]

        return cls(
            sequences=[sequence for _, sequence in rows],
            index=torch.tensor([row for row, _ in rows], device=logits.device),
            temperature=column([sampling.temperature for sampling in settings]),
            top_k=torch.tensor(
                [[min(sampling.top_k or size, size)] for sampling in settings], device=logits.device
            ),
            top_p=column([sampling.top_p for sampling in settings]),
            min_logit=column(
                [math.log(sampling.min_p) if sampling.min_p else -math.inf for sampling in settings]
            ),
            most=max(sampling.top_k for sampling in settings),
        )

    def keys(self) -> torch.Tensor:
        """The noise keys of the tokens at hand; (rows, 1)."""
        keys = [row_key(sequence.seed, len(sequence.tokens)) for sequence in self.sequences]
        return torch.tensor(keys, device=self.index.device)[:, None]


@dataclass(slots=True)
class Batch:
    """What is known of a batch from its sequences alone; made anew only when they change."""

    sequences: list[Sequence]
    plain: bool
    """All greedy, without penalties, biases, constraints and log-probabilities."""
    limited: Group | None
    """Sampled rows with top-k, top-p or min-p."""
    open: Group | None
    """Sampled rows that may choose any token."""


class Sampler:
    """Picks the next token of each row.

    After penalties, biases and constraints come temperature, top-k, top-p and min-p, in this order. The choice
    among what is left adds Gumbel noise to the logits and takes the largest, so that there is no running random
    state.
    """

    def __init__(self) -> None:
        self._batch: Batch | None = None
        self._penalties = Penalties()

    @torch.inference_mode()
    def sample(self, sequences: list[Sequence], logits: torch.Tensor) -> list[Sampled]:
        """One token for each sequence; logits (sequences, vocabulary)."""
        if logits.dtype != torch.float64:
            logits = logits.float()
        batch = self._batch_of(sequences, logits)
        if batch.plain:
            best, tokens = logits.max(-1)
            finite = best.isfinite().tolist()
            return [Sampled(token, fine) for token, fine in zip(tokens.tolist(), finite, strict=True)]
        changed = hold(sequences, self._penalties.apply(sequences, logits), logits)
        best, tokens = changed.max(-1)
        for group, draw in ((batch.limited, self._draw_likely), (batch.open, self._draw_any)):
            if group is not None:
                scaled = (changed[group.index] - best[group.index, None]) / group.temperature
                tokens[group.index] = draw(group, scaled)
        chosen, finite = tokens.tolist(), best.isfinite().tolist()
        return [
            Sampled(token, fine, self._logprobs(sequence, row, token))
            for sequence, row, token, fine in zip(sequences, logits, chosen, finite, strict=True)
        ]

    def forget(self, sequence: Sequence) -> None:
        """Drops what is kept of a sequence that has ended."""
        self._penalties.forget(sequence)
        self._batch = None

    def _batch_of(self, sequences: list[Sequence], logits: torch.Tensor) -> Batch:
        if self._batch is not None and self._batch.sequences == sequences:
            return self._batch
        settings = [sequence.sampling for sequence in sequences]
        rows = [(row, found) for row, found in enumerate(sequences) if not found.sampling.greedy]
        limited = [(row, found) for row, found in rows if is_limited(found)]
        self._batch = Batch(
            sequences=list(sequences),
            plain=not rows
            and not any(
                self._penalties.wanted(sampling) or sampling.logprobs is not None for sampling in settings
            )
            and all(sequence.constraint is None for sequence in sequences),
            limited=Group.of(limited, logits),
            open=Group.of([(row, found) for row, found in rows if not is_limited(found)], logits),
        )
        return self._batch

    def _draw_any(self, group: Group, logits: torch.Tensor) -> torch.Tensor:
        """Token ids, of all there are; logits with 0 as the largest of each row."""
        ids = torch.arange(logits.shape[1], device=logits.device)[None]
        return (logits + gumbel(group.keys(), ids)).argmax(-1)

    def _draw_likely(self, group: Group, logits: torch.Tensor) -> torch.Tensor:
        """Token ids, of those that top-k, top-p and min-p leave; looks at the likeliest few first."""
        size = logits.shape[1]
        total = logits.logsumexp(-1, keepdim=True)
        for count in (*CANDIDATES, size):
            count = min(max(count, group.most), size)
            values, ids = logits.topk(count, -1)
            values, complete = keep_likely(group, values, total)
            if complete or count == size:
                break
        choice = (values + gumbel(group.keys(), ids)).argmax(-1, keepdim=True)
        return ids.gather(1, choice)[:, 0]

    def _logprobs(self, sequence: Sequence, logits: torch.Tensor, token: int) -> TokenLogprobs | None:
        """Log-probabilities under the model's own distribution, where they are asked for; logits (vocabulary,)."""
        wanted = sequence.sampling.logprobs
        if wanted is None:
            return None
        spread = logits.log_softmax(-1)
        values, ids = spread.topk(min(wanted, spread.shape[0]))
        top = tuple(map(TokenLogprobs, ids.tolist(), values.tolist()))
        return TokenLogprobs(token, float(spread[token]), top)


def hold(sequences: list[Sequence], changed: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """Rules out what a sequence's constraint does, as -inf; the model's `own` logits stay as they are."""
    held = [(row, found) for row, sequence in enumerate(sequences) if (found := sequence.held_to) is not None]
    if not held:
        return changed
    words = torch.stack([constraint.mask() for _, constraint in held]).to(changed.device)
    bits = (words[:, :, None] >> torch.arange(32, device=words.device, dtype=torch.int32)) & 1
    may = bits.flatten(1)[:, : changed.shape[1]].bool()
    rows = torch.tensor([row for row, _ in held], device=changed.device)
    if changed is own:
        changed = changed.clone()
    changed[rows] = changed[rows].masked_fill(~may, -math.inf)
    return changed


def is_limited(sequence: Sequence) -> bool:
    """Some tokens are ruled out whatever their noise."""
    sampling = sequence.sampling
    return bool(sampling.top_k or sampling.top_p < 1.0 or sampling.min_p)


def keep_likely(group: Group, values: torch.Tensor, total: torch.Tensor) -> tuple[torch.Tensor, bool]:
    """Rules out what top-k, top-p and min-p do, as -inf; and whether that needs no further candidates.

    Each of the three is a least logit, so tokens that are equally likely stay or go together: which of them come
    first in a sorted row is chance. `values` are logits in falling order, from 0; `total` is the logarithm of what
    all tokens have together.
    """
    count = values.shape[1]
    limited = group.top_k <= count
    least = values.gather(1, group.top_k.clamp(max=count) - 1).masked_fill(~limited, -math.inf)
    kept = values.masked_fill(values < least, -math.inf)
    shares = (kept - torch.where(limited, kept.logsumexp(-1, keepdim=True), total)).exp()
    needed = (shares.cumsum(-1) - shares < group.top_p).sum(-1, keepdim=True)
    nucleus = values.gather(1, (needed - 1).clamp(min=0)).masked_fill(group.top_p >= 1.0, -math.inf)
    least = torch.maximum(torch.maximum(least, nucleus), group.min_logit)
    complete = values[:, -1:] < least
    return values.masked_fill(values < least, -math.inf), bool(complete.all())
