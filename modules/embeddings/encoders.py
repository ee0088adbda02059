"""Encoder: a model that turns texts into vectors, in the thread that owns it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...streaming.errors import ContextLengthExceeded, ModelError
from ..local.assembling import keep_to_one_thread
from ..local.estimates import check_memory
from ..local.loading import LoadedModel, find_device, find_dtype, own_dtype, quiet
from ..local.places import find_weights
from .jobs import Vector
from .sources import EmbeddingSettings, length_of, pooling_of

__all__ = ["Encoder", "load_encoder"]

Say = Callable[[float, str], None]
HUGE = 1_000_000
"""Tokens; what tokenizers give as their longest text when they do not know."""


@dataclass(slots=True)
class Encoder:
    """A loaded encoder and how its vectors are made."""

    loaded: LoadedModel
    pooling: str
    normalize: bool
    longest: int
    """Tokens of the longest text, special ones included."""

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text.

        Raises:
            ContextLengthExceeded: a text is too long; nothing is cut off in silence.
        """
        if not texts:
            return []
        rows: list[list[int]] = self.loaded.tokenizer(list(texts), truncation=False, verbose=False)[
            "input_ids"
        ]
        for at, row in enumerate(rows):
            if len(row) > self.longest:
                which = f"text {at} of {len(rows)}" if len(rows) > 1 else "the text"
                raise ContextLengthExceeded(
                    f"{which} has {len(row)} tokens, more than the {self.longest} that {self.loaded.name} takes; "
                    "split it"
                ).for_clients()
            if not row:
                raise ValueError(f"text {at} has no tokens; give some text")
        return rows

    @torch.inference_mode()
    def encode(self, rows: Sequence[list[int]]) -> list[Vector]:
        """One vector for each row of tokens, in one forward; an empty one where numbers are none (NaN, infinity)."""
        lengths = torch.tensor([len(row) for row in rows])
        ids = torch.full((len(rows), int(lengths.max())), self._padding)
        for at, row in enumerate(rows):
            ids[at, : len(row)] = torch.tensor(row)
        device = self.loaded.device
        mask = (torch.arange(ids.shape[1]) < lengths[:, None]).to(device)
        hidden = self.loaded.model(input_ids=ids.to(device), attention_mask=mask.long()).last_hidden_state
        if hidden.dtype != torch.float64:
            hidden = hidden.float()
        pooled = pool(hidden, mask, self.pooling)
        finite = torch.isfinite(pooled).all(-1).tolist()
        if self.normalize:
            pooled = torch.nn.functional.normalize(pooled, dim=-1)
        return [vector if whole else [] for vector, whole in zip(pooled.tolist(), finite, strict=True)]

    @property
    def _padding(self) -> int:
        """The padding token: some models count positions by it."""
        for owner in (self.loaded.config, self.loaded.tokenizer):
            found = getattr(owner, "pad_token_id", None)
            if found is not None:
                return int(found)
        return 0


def pool(hidden: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """The vectors of the tokens (row, token, number) as one per row; `mask` is false where there is padding."""
    if pooling == "cls":
        return hidden[:, 0]
    if pooling == "last":
        return hidden[torch.arange(len(hidden), device=hidden.device), mask.sum(1) - 1]
    inside = mask.unsqueeze(-1)
    if pooling == "max":
        return hidden.masked_fill(~inside, -torch.inf).amax(1)
    return (hidden * inside).sum(1) / inside.sum(1)


# ---------------------------------------------------------------- loading


def load_encoder(settings: EmbeddingSettings, say: Say) -> Encoder:
    """Loads, checks and warms up; `say(fraction, stage)` hears how far it is.

    Raises:
        ModelError: no such weights, no encoder, a kind of pooling that there is not; names the cure.
    """
    device = find_device(settings.device)
    path = None
    if callable(settings.source):
        say(0.1, "weights")
        model, tokenizer = settings.source()
        name = type(model).__name__
    else:
        say(0.0, "reading config")
        path, name = find_weights(settings.source), str(settings.source)
        model, tokenizer = from_directory(path, settings, device, say)
    pooling = chosen_pooling(settings, path, model, name)
    dtype = find_dtype(settings.dtype, model.dtype, device)
    model = model.to(device=device, dtype=dtype).eval().requires_grad_(False)
    loaded = LoadedModel(model, tokenizer, name, device)
    keep_to_one_thread(loaded)
    encoder = Encoder(loaded, pooling, settings.normalize, longest_text(loaded, path))
    say(0.9, "warming up")
    encoder.encode(encoder.tokens(["warming up"]))
    return encoder


def from_directory(
    path: Path, settings: EmbeddingSettings, device: torch.device, say: Say
) -> tuple[Any, Any]:
    """Model and tokenizer of a directory with safetensors; never code of the directory's own."""
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    offline: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
    try:
        config = AutoConfig.from_pretrained(path, **offline)
        dtype = find_dtype(settings.dtype, own_dtype(config), device)
        check_memory(path, dtype, device)
        say(0.05, "tokenizer")
        tokenizer = AutoTokenizer.from_pretrained(path, **offline)
        with quiet(lambda fraction: say(0.1 + 0.7 * fraction, f"weights {fraction:.0%}")):
            model = AutoModel.from_pretrained(path, dtype=dtype, use_safetensors=True, **offline)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:500]
        raise ModelError(f"{settings.source} could not be loaded: {reason}") from error
    return model, tokenizer


def chosen_pooling(settings: EmbeddingSettings, path: Path | None, model: Any, name: str) -> str:
    """The pooling asked for, or the one that the directory names, or the mean."""
    config = model.config
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"{name} is an encoder with a decoder; give the directory of an encoder alone, such as BERT"
        )
    if settings.pooling != "auto":
        return settings.pooling
    named = pooling_of(path) if path is not None else None
    made_for = " ".join(getattr(config, "architectures", None) or [type(model).__name__])
    if named is None and "CausalLM" in made_for:
        raise ModelError(
            f"{name} is a language model, and nothing in it says that it makes embeddings; if it does, say "
            "pooling='last'"
        )
    return named or "mean"


def longest_text(loaded: LoadedModel, path: Path | None) -> int:
    """The most tokens that a text may have: the least of what model, tokenizer and directory say."""
    config = loaded.config
    positions = int(getattr(config, "max_position_embeddings", 0) or HUGE)
    embeddings = getattr(getattr(loaded.model, "embeddings", None), "position_embeddings", None)
    if (reserved := getattr(embeddings, "padding_idx", None)) is not None:
        positions -= reserved + 1  # RoBERTa and its kin count positions from behind the padding
    told = [int(loaded.tokenizer.model_max_length), (path and length_of(path)) or HUGE]
    return min(positions, *told)
