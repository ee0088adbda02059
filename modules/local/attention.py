"""The seam to transformers: one attention function, called by every layer of a model.

The function is registered as "millrace"; a model whose attention implementation is set to it hands over query, key
and value of each layer, and whatever was given to the model as `paged=`: an object with `attend`, which decides
where keys and values are kept and what each token sees. No mask or cache code of transformers runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.nn.functional import scaled_dot_product_attention

from ...streaming.errors import ModelError

__all__ = ["NAME", "Attention", "LayerShape", "LayerShapes", "causal", "register", "segment_mask"]

NAME = "millrace"
HARMLESS = frozenset({"position_ids", "cache_position"})
"""Arguments that say nothing which the block tables do not."""


@dataclass(frozen=True, slots=True)
class Attention:
    """What a layer asks for, besides query, key and value."""

    layer: int
    scaling: float
    window: int | None = None
    """A token sees itself and this many tokens less one before it; None: all before it."""
    softcap: float | None = None


class Paged(Protocol):
    """What is given to a model's forward as `paged=`."""

    def attend(
        self, asked: Attention, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        """Query (1, heads, tokens, dim), key and value (1, kv_heads, tokens, dim) to (1, tokens, heads, dim)."""
        ...


def register() -> None:
    """Makes the function known to transformers; registering again changes nothing."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, _attend)


def _attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    is_causal: bool | None = None,
    paged: Paged | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    if paged is None:
        raise ModelError(
            "this model belongs to a millrace engine; call model.set_attn_implementation('sdpa') to use it directly"
        )
    if attention_mask is not None or dropout or is_causal is False:
        raise unknown_argument(attention_mask=attention_mask, dropout=dropout or None, is_causal=is_causal)
    for name, value_given in others.items():
        if value_given is not None and value_given is not False and name not in HARMLESS:
            raise unknown_argument(**{name: value_given})
    asked = Attention(
        module.layer_idx, scaling or query.shape[-1] ** -0.5, sliding_window or None, softcap or None
    )
    return paged.attend(asked, query, key, value), None


def unknown_argument(**arguments: Any) -> ModelError:
    """The error for an argument that would change the result and that the engine cannot honour."""
    name, value = next(item for item in arguments.items() if item[1] is not None)
    shown = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else repr(value)
    return ModelError(
        f"the model's attention takes {name}={shown}, which the local engine does not know; use another model, or "
        "a server for it through RemoteModel"
    )


def segment_mask(
    start: int, length: int, window: int | None, dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    """What the tokens at positions start..length-1 see of those at 0..length-1: 0, or -inf; (tokens, length)."""
    rows = torch.arange(start, length, device=device)[:, None]
    columns = torch.arange(length, device=device)[None]
    hidden = columns > rows
    if window is not None:
        hidden |= columns <= rows - window
    return torch.zeros(hidden.shape, dtype=dtype, device=device).masked_fill_(hidden, float("-inf"))


def softcapped(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    asked: Attention,
) -> torch.Tensor:
    """Attention whose scores are squashed by `softcap * tanh(score / softcap)` (Gemma 2)."""
    assert asked.softcap is not None
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scores = (query @ key.transpose(2, 3)) * asked.scaling
    scores = torch.tanh(scores / asked.softcap) * asked.softcap
    if mask is not None:
        scores = scores + mask
    return scores.softmax(-1) @ value


def masked(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    asked: Attention,
) -> torch.Tensor:
    """Attention over (batch, heads, tokens, dim), with fewer heads in key and value where they are shared."""
    if asked.softcap is not None:
        return softcapped(query, key, value, mask, asked)
    return scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        scale=asked.scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )


def causal(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, asked: Attention) -> torch.Tensor:
    """A whole sequence attends to itself, each token to those before it."""
    length = query.shape[2]
    if asked.softcap is not None or (asked.window is not None and asked.window < length):
        return masked(
            query, key, value, segment_mask(0, length, asked.window, query.dtype, query.device), asked
        )
    return scaled_dot_product_attention(
        query,
        key,
        value,
        is_causal=length > 1,
        scale=asked.scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )


@dataclass(frozen=True, slots=True)
class LayerShape:
    """Keys and values of one layer, as the model hands them over."""

    kv_heads: int
    key_dim: int
    value_dim: int
    window: int | None = None
    softcap: float | None = None


class LayerShapes:
    """Runs one sequence and notes what each layer hands over: the pool is built to these shapes."""

    def __init__(self) -> None:
        self.layers: dict[int, LayerShape] = {}

    def attend(
        self, asked: Attention, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        if asked.layer in self.layers:
            raise ModelError(
                f"layer {asked.layer} attends twice in one forward, which the local engine does not know"
            )
        self.layers[asked.layer] = LayerShape(
            key.shape[1], key.shape[3], value.shape[3], asked.window, asked.softcap
        )
        return causal(query, key, value, asked).transpose(1, 2)
