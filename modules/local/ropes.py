"""Pinning rotary frequencies that would change with the longest position of a forward."""

from __future__ import annotations

from typing import Any

import torch

from ...streaming.errors import ModelError

__all__ = ["pin_frequencies"]

CHANGING = ("longrope", "dynamic")


def pin_frequencies(model: Any, context_length: int) -> int:
    """Fixes the frequencies of `longrope` and `dynamic` for good; returns the context length that is left.

    transformers picks them by the longest position in a forward, so in a packed one a long request would change
    the others. `longrope` gets its long factors where the context is longer than the original one; `dynamic`
    keeps the original frequencies and so the original context.
    """
    for module in model.modules():
        kind = getattr(module, "rope_type", None)
        if isinstance(kind, dict):
            if any(name in CHANGING for name in kind.values()):
                raise ModelError(
                    f"{type(model).__name__} changes rotary frequencies by layer and length ({kind}), which the "
                    "local engine does not know; use another model"
                )
        elif kind in CHANGING:
            if kind == "dynamic":
                context_length = min(context_length, int(module.original_max_seq_len))
            else:
                _pin_longrope(module, context_length)
            module.rope_type = "default"
    return context_length


def _pin_longrope(module: Any, context_length: int) -> None:
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    device = module.inv_freq.device
    with torch.no_grad():
        frequencies, scaling = ROPE_INIT_FUNCTIONS["longrope"](module.config, device, seq_len=context_length)
    module.register_buffer("inv_freq", frequencies, persistent=False)
    module.attention_scaling = scaling
