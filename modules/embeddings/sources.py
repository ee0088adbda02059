"""What an embedding engine is made of: its settings, and what a directory says about pooling."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ...streaming.errors import ModelError
from ...streaming.limits import Limits
from ..local.sources import Source

__all__ = ["EmbeddingSettings", "Pooling", "length_of", "pooling_of"]

Pooling = Literal["auto", "mean", "cls", "max", "last"]
"""How the vectors of a text's tokens become one: their mean, the first, the largest of each number, the last."""

POOLINGS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "last",
}
"""As sentence-transformers writes them."""
PARTS = ("Transformer", "Pooling", "Normalize")


@dataclass(frozen=True, slots=True)
class EmbeddingSettings:
    """The arguments of `EmbeddingEngine`."""

    source: Source
    device: str
    dtype: str
    pooling: Pooling
    normalize: bool
    limits: Limits
    batch_tokens: int

    def __post_init__(self) -> None:
        if self.pooling not in get_args(Pooling):
            raise ValueError(f"pooling={self.pooling!r}: give {', '.join(get_args(Pooling))}")
        if not isinstance(self.batch_tokens, int) or self.batch_tokens < 1:
            raise ValueError(f"batch_tokens={self.batch_tokens!r}: give a number of tokens from 1")


def pooling_of(path: Path) -> str | None:
    """How a directory says that its model is pooled, in the files of sentence-transformers; None if it does not.

    Raises:
        ModelError: in a way that there is not here, or with a further part that would change the vectors.
    """
    for part in _read(path / "modules.json") or []:
        kind = str(part.get("type", "")).rpartition(".")[2]
        if kind not in PARTS:
            raise ModelError(
                f"{path} has a part {kind} after its encoder, which is not supported; its vectors would be others"
            )
    settings = _read(path / "1_Pooling" / "config.json")
    if settings is None:
        return None
    chosen = [name for name, value in settings.items() if name.startswith("pooling_mode") and value is True]
    if isinstance(settings.get("pooling_mode"), str):
        chosen = [f"pooling_mode_{settings['pooling_mode']}"]
    known = {**POOLINGS, **{f"pooling_mode_{name}": name for name in ("mean", "cls", "max", "lasttoken")}}
    known["pooling_mode_lasttoken"] = "last"
    if len(chosen) != 1 or chosen[0] not in known:
        raise ModelError(
            f"{path} is pooled by {', '.join(chosen) or 'nothing'}, which is not supported; say pooling=... "
            "if one of mean, cls, max and last is right"
        )
    return known[chosen[0]]


def length_of(path: Path) -> int | None:
    """How many tokens a directory says that its model was trained for, as sentence-transformers writes it."""
    found = (_read(path / "sentence_bert_config.json") or {}).get("max_seq_length")
    return found if isinstance(found, int) else None


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ModelError(f"{path} is no JSON: {error}") from error
