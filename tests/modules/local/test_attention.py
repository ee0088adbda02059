"""The attention function: what it refuses, and what it sees."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from millrace.modules.local.attention import NAME, Attention, LayerShapes, causal, register, segment_mask
from millrace.modules.local.pools import KVPool
from millrace.modules.local.ropes import pin_frequencies
from millrace.streaming.errors import ModelError

from .families import model_of

HEADS, KV_HEADS, DIM = 4, 2, 8


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def call(**arguments: Any) -> Any:
    """The registered function, as a layer calls it."""
    from transformers import AttentionInterface

    register()
    module = torch.nn.Module()
    module.layer_idx = 0  # type: ignore[assignment]
    query, key, value = random(1, HEADS, 5, DIM), random(1, KV_HEADS, 5, DIM), random(1, KV_HEADS, 5, DIM)
    given = {"attention_mask": None, "paged": LayerShapes(), **arguments}
    return AttentionInterface()[NAME](module, query, key, value, **given)


@pytest.mark.parametrize(
    ("argument", "shown"),
    [
        ({"s_aux": torch.zeros(4)}, r"s_aux=a tensor of shape \(4,\)"),
        ({"position_bias": 1.5}, "position_bias=1.5"),
        ({"attention_mask": torch.zeros(5, 5)}, r"attention_mask=a tensor of shape \(5, 5\)"),
        ({"dropout": 0.1}, "dropout=0.1"),
        ({"is_causal": False}, "is_causal=False"),
    ],
)
def test_what_it_does_not_know_is_refused_by_name(argument: dict[str, Any], shown: str) -> None:
    with pytest.raises(ModelError, match=f"attention takes {shown}, which the local engine does not know"):
        call(**argument)


@pytest.mark.parametrize(
    "argument",
    [
        {"s_aux": None},
        {"use_cache": False},
        {"position_ids": torch.zeros(1, 5)},
        {"dropout": 0.0},
        {"is_causal": True},
    ],
)
def test_what_says_nothing_is_accepted(argument: dict[str, Any]) -> None:
    out, weights = call(**argument)
    assert out.shape == (1, 5, HEADS, DIM)
    assert weights is None


def test_a_model_of_an_engine_says_so_when_it_is_called_directly() -> None:
    with pytest.raises(ModelError, match="belongs to a millrace engine"):
        call(paged=None)


def test_a_layer_that_attends_twice_is_refused() -> None:
    shapes = LayerShapes()
    call(paged=shapes)
    assert (shapes.layers[0].kv_heads, shapes.layers[0].key_dim) == (KV_HEADS, DIM)
    with pytest.raises(ModelError, match="layer 0 attends twice"):
        call(paged=shapes)


@pytest.mark.parametrize("window", [None, 1, 3, 50])
@pytest.mark.parametrize("start", [0, 4])
def test_a_mask_shows_what_came_before_and_is_in_the_window(start: int, window: int | None) -> None:
    mask = segment_mask(start, 7, window, torch.float64, torch.device("cpu"))
    seen = [[at for at in range(7) if row[at] == 0] for row in mask]
    assert seen == [
        [at for at in range(7) if at <= position and position - at < (window or 99)]
        for position in range(start, 7)
    ]


@pytest.mark.parametrize("window", [None, 2])
def test_a_softcap_far_away_changes_nothing(window: int | None) -> None:
    query, key, value = random(1, HEADS, 6, DIM), random(1, KV_HEADS, 6, DIM), random(1, KV_HEADS, 6, DIM)
    capped = causal(query, key, value, Attention(0, 0.3, window, softcap=1e6))
    plain = causal(query, key, value, Attention(0, 0.3, window))
    assert torch.allclose(capped, plain, atol=1e-9)
    if window is None:
        expected = scaled_dot_product_attention(query, key, value, is_causal=True, scale=0.3, enable_gqa=True)
        assert torch.allclose(plain, expected)


def test_a_pool_is_zero_and_can_be_cleared() -> None:
    from millrace.modules.local.attention import LayerShape

    pool = KVPool([LayerShape(2, 8, 4, None)] * 2, 3, 4, torch.float32, torch.device("cpu"))
    assert [tuple(keys.shape) for keys in pool.keys] == [(4, 4, 2, 8)] * 2
    assert [tuple(values.shape) for values in pool.values] == [(4, 4, 2, 4)] * 2
    for tensor in (*pool.keys, *pool.values):
        assert not tensor.any()
        tensor.fill_(float("nan"))
    pool.zero([1, 3])
    for tensor in (*pool.keys, *pool.values):
        assert not tensor[[1, 3]].any()
        assert tensor[[0, 2]].isnan().all()
    pool.zero([])


def test_a_dynamic_rope_keeps_its_original_context() -> None:
    model = model_of("dynamic rope", max_position_embeddings=48)
    assert pin_frequencies(model, 4096) == 48
    assert model.model.rotary_emb.rope_type == "default"
