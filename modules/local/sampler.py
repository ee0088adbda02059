"""Sampler: logits to tokens, for all rows of a step at once, each row by its request's settings."""

from __future__ import annotations

import math
from collections.abc import Sequence as Several
from dataclasses import dataclass

import torch

from .noise import gumbel, row_key
from .penalties import Penalties
from .requests import TokenLogprobs
from .sequences import Sequence

__all__ = ["Sampled", "Sampler"]

CANDIDATES = 256
"""Tokens looked at first for top-p; a full sort follows only where their mass falls short."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """The choice for one sequence."""

    token: int
    finite: bool
    """False when the logits were NaN or infinite: the token means nothing."""
    logprobs: TokenLogprobs | None = None


@dataclass(slots=True)
class Rows:
    """The settings of the rows of a batch, as columns; made anew only when the batch changes."""

    sequences: list[Sequence]
    plain: bool
    """All greedy, without penalties, biases and log-probabilities."""
    sampled: list[int]
    """The rows that are not greedy."""
    temperature: torch.Tensor
    top_k: list[int]
    top_p: list[float]
    min_p: list[float]
    index: torch.Tensor


class Sampler:
    """Picks the next token of each row.

    Temperature, top-k, top-p and min-p apply in that order, after penalties and biases. The choice among what is
    left adds Gumbel noise to the logits and takes the largest, so that it needs no running random state.
    """

    def __init__(self) -> None:
        self._rows: Rows | None = None
        self._penalties = Penalties()

    @torch.inference_mode()
    def sample(self, sequences: list[Sequence], logits: torch.Tensor) -> list[Sampled]:
        """One token for each sequence; logits (sequences, vocabulary)."""
        rows = self._rows_for(sequences, logits.device)
        if rows.plain:
            best, tokens = logits.max(-1)
            finite = best.isfinite().tolist()
            return [Sampled(token, fine) for token, fine in zip(tokens.tolist(), finite, strict=True)]
        if logits.dtype != torch.float64:
            logits = logits.float()
        raw = logits
        logits = self._penalties.apply(sequences, logits)
        best, tokens = logits.max(-1)
        if rows.sampled:
            tokens[rows.index] = self._draw(rows, logits[rows.index], best[rows.index])
        chosen = tokens.tolist()
        logprobs = self._logprobs(sequences, raw, chosen)
        finite = best.isfinite().tolist()
        return [
            Sampled(token, fine, found) for token, fine, found in zip(chosen, finite, logprobs, strict=True)
        ]

    def forget(self, sequence: Sequence) -> None:
        """Drops what is kept of a sequence that has ended."""
        self._penalties.forget(sequence)
        if self._rows is not None and sequence in self._rows.sequences:
            self._rows = None

    def _rows_for(self, sequences: list[Sequence], device: torch.device) -> Rows:
        if self._rows is not None and self._rows.sequences == sequences:
            return self._rows
        settings = [sequence.sampling for sequence in sequences]
        sampled = [row for row, sampling in enumerate(settings) if not sampling.greedy]
        warm = [settings[row] for row in sampled]
        self._rows = Rows(
            sequences=list(sequences),
            plain=not sampled
            and not any(
                self._penalties.wanted(sampling) or sampling.logprobs is not None for sampling in settings
            ),
            sampled=sampled,
            temperature=torch.tensor(
                [sampling.temperature for sampling in warm], dtype=torch.float64, device=device
            )[:, None],
            top_k=[sampling.top_k for sampling in warm],
            top_p=[sampling.top_p for sampling in warm],
            min_p=[sampling.min_p for sampling in warm],
            index=torch.tensor(sampled, dtype=torch.int64, device=device),
        )
        return self._rows

    def _draw(self, rows: Rows, logits: torch.Tensor, best: torch.Tensor) -> torch.Tensor:
        """Token ids of the rows that are not greedy; `best` is the largest logit of each."""
        logits = (logits - best[:, None]).double() / rows.temperature
        keys = torch.tensor(
            [
                row_key(sequence.seed, len(sequence.tokens))
                for sequence in (rows.sequences[row] for row in rows.sampled)
            ],
            dtype=torch.int64,
            device=logits.device,
        )[:, None]
        logits = self._keep_likely(rows, logits)
        if not any(rows.top_k) and min(rows.top_p) >= 1.0:
            every = torch.arange(logits.shape[1], device=logits.device)[None]
            return (logits + gumbel(keys, every)).argmax(-1)
        values, ids = self._candidates(rows, logits)
        return ids.gather(1, (values + gumbel(keys, ids)).argmax(-1, keepdim=True))[:, 0]

    def _keep_likely(self, rows: Rows, logits: torch.Tensor) -> torch.Tensor:
        """Applies min-p. The largest logit is 0 here, so the threshold is the logarithm of min-p itself."""
        if not any(rows.min_p):
            return logits
        least = [math.log(min_p) if min_p else -math.inf for min_p in rows.min_p]
        threshold = torch.tensor(least, dtype=logits.dtype, device=logits.device)[:, None]
        return logits.masked_fill(logits < threshold, -math.inf)

    def _candidates(self, rows: Rows, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The tokens that top-k and top-p leave: logits (rows, n), -inf where ruled out, and their ids.

        Looks at the likeliest few first; where a row needs more, at all of them.
        """
        size = logits.shape[1]
        needs_all = any(not k and p >= 1.0 for k, p in zip(rows.top_k, rows.top_p, strict=True))
        count = size if needs_all else min(size, max(CANDIDATES, *rows.top_k))
        total = logits.logsumexp(-1, keepdim=True)
        while True:
            values, ids = logits.topk(count, -1)
            kept, enough = self._nucleus(rows, values, total)
            if enough or count == size:
                return kept, ids
            count = size

    def _nucleus(self, rows: Rows, values: torch.Tensor, total: torch.Tensor) -> tuple[torch.Tensor, bool]:
        """Rules out what is beyond top-k and top-p, of logits in falling order; and whether they were enough."""
        count = values.shape[1]
        k = torch.tensor([k or count for k in rows.top_k], device=values.device)[:, None]
        p = torch.tensor(rows.top_p, dtype=values.dtype, device=values.device)[:, None]
        limited = torch.tensor([bool(k) for k in rows.top_k], device=values.device)[:, None]
        beyond = torch.arange(count, device=values.device) >= k
        values = values.masked_fill(beyond, -math.inf)
        total = torch.where(limited, values.logsumexp(-1, keepdim=True), total)
        mass = (values - total).exp().cumsum(-1)
        before = mass - (values - total).exp()
        enough = bool(((mass[:, -1:] >= p) | limited | (p >= 1.0)).all())
        kept = values.masked_fill((before >= p) & (p < 1.0), -math.inf)
        return kept, enough

    def _logprobs(
        self, sequences: Several[Sequence], logits: torch.Tensor, chosen: list[int]
    ) -> list[TokenLogprobs | None]:
        """Log-probabilities under the model's own distribution, for the rows that ask for them."""
        found: list[TokenLogprobs | None] = [None] * len(chosen)
        for row, sequence in enumerate(sequences):
            wanted = sequence.sampling.logprobs
            if wanted is None:
                continue
            spread = logits[row].log_softmax(-1)
            values, ids = spread.topk(min(wanted, spread.shape[0]))
            top = tuple(zip(ids.tolist(), values.tolist(), strict=True))
            found[row] = TokenLogprobs(chosen[row], float(spread[chosen[row]]), top)
        return found
