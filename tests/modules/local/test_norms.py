"""RMS norms in one call: only where the results are the same to the bit."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch

from millrace.modules.local.norms import fuse_norms

from .families import model_of

TOKENS = torch.arange(3, 40)[None]


def uneven(family: str, dtype: torch.dtype) -> Any:
    """A random model whose norms have random weights: those of 1 hide when they are rounded."""
    model = model_of(family, dtype)
    for name, weight in model.named_parameters():
        if "norm" in name or "ln_" in name:
            torch.nn.init.normal_(weight, 1.0, 0.3)
    return model


@pytest.mark.parametrize(
    ("family", "count"), [("llama", 7), ("qwen3", 13), ("phi3", 7), ("mixtral", 7), ("olmo2", 13)]
)
def test_a_model_says_the_same_to_the_bit(family: str, count: int) -> None:
    model = uneven(family, torch.float32)
    with torch.inference_mode():
        before = model(TOKENS).logits
        state = set(model.state_dict())
        assert fuse_norms(model) == count
        assert torch.equal(model(TOKENS).logits, before)
    assert set(model.state_dict()) == state
    assert fuse_norms(model) == 0
    assert torch.equal(deepcopy(model)(TOKENS).logits, before)


@pytest.mark.parametrize(
    ("family", "dtype"),
    [("gemma2", torch.float32), ("gpt2", torch.float32), ("llama", torch.bfloat16), ("llama", torch.float64)],
)
def test_norms_that_round_otherwise_stay_as_they_are(family: str, dtype: torch.dtype) -> None:
    model = uneven(family, dtype)
    norms = [type(module) for module in model.modules()]
    assert fuse_norms(model) == 0
    assert [type(module) for module in model.modules()] == norms


def test_a_norm_that_somebody_has_hooked_stays_as_it_is() -> None:
    model = model_of("llama", torch.float32)
    model.model.norm.register_forward_hook(lambda *given: None)
    assert fuse_norms(model) == 6
    assert not isinstance(model.model.norm, torch.nn.RMSNorm)
