"""Tiny random models of many families, and an engine core around one, for tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers

from millrace.modules.local.assembling import check
from millrace.modules.local.attention import register
from millrace.modules.local.core import EngineCore
from millrace.modules.local.loading import LoadedModel, quiet
from millrace.modules.local.memory import KV, PoolSize
from millrace.modules.local.pools import KVPool
from millrace.modules.local.ropes import pin_frequencies
from millrace.modules.local.runner import ModelRunner
from millrace.modules.local.sources import EngineSettings
from millrace.streaming.limits import Limits

VOCABULARY = 512
CONTEXT = 256
COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.1,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
}
HEADS = {"head_dim": 16}
WINDOW = {"sliding_window": 16}
UNTIED = {"tie_word_embeddings": False}
"""A random model with tied embeddings says the same few tokens again and again."""
GPT2 = {
    "vocab_size": VOCABULARY,
    "n_embd": 64,
    "n_layer": 3,
    "n_head": 4,
    "n_positions": CONTEXT,
    "initializer_range": 0.1,
    "bos_token_id": None,
    "eos_token_id": None,
}


def rope(kind: str, **settings: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 1e4, **settings}}


LONGROPE = rope(
    "longrope",
    short_factor=[1.0] * 8,
    long_factor=[2.0] * 8,
    factor=4.0,
    original_max_position_embeddings=48,
)
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "llama3 rope": (
        "Llama",
        rope(
            "llama3",
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=64,
        ),
    ),
    "yarn": ("Llama", rope("yarn", factor=4.0, original_max_position_embeddings=64)),
    "dynamic rope": ("Llama", rope("dynamic", factor=4.0)),
    "qwen2": ("Qwen2", {}),
    "qwen3": ("Qwen3", HEADS),
    "qwen3 window": (
        "Qwen3",
        {**HEADS, **WINDOW, "use_sliding_window": True, "max_window_layers": 1},
    ),
    "mistral window": ("Mistral", WINDOW),
    "gemma": ("Gemma", {**HEADS, **UNTIED}),
    "gemma2": (
        "Gemma2",
        {**HEADS, **WINDOW, **UNTIED, "query_pre_attn_scalar": 16, "attn_logit_softcapping": 5.0},
    ),
    "gemma3": ("Gemma3", {**HEADS, **WINDOW, **UNTIED, "query_pre_attn_scalar": 16}),
    "phi": ("Phi", {}),
    "phi3": ("Phi3", WINDOW),
    "phi3 longrope": ("Phi3", {"original_max_position_embeddings": 48, **LONGROPE}),
    "olmo2": ("Olmo2", {}),
    "smollm3": ("SmolLM3", {}),
    "gpt2": ("GPT2", GPT2),
    "mixtral": ("Mixtral", {"num_local_experts": 4}),
    "gpt-oss": ("GptOss", {**HEADS, **WINDOW, "num_local_experts": 4}),
}


def model_of(family: str, dtype: torch.dtype = torch.float64, **changes: Any) -> Any:
    """A random model of this family."""
    name, settings = FAMILIES[family]
    options = settings if name == "GPT2" else {**COMMON, **settings}
    config_name = "Gemma3TextConfig" if name == "Gemma3" else f"{name}Config"
    class_name = f"{name}LMHeadModel" if name == "GPT2" else f"{name}ForCausalLM"
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = getattr(transformers, config_name)(**{**options, **changes})
        return getattr(transformers, class_name)(config).eval().to(dtype)


def generated(model: Any, prompts: list[list[int]], new: int) -> list[list[int]]:
    """What transformers' own greedy `generate` answers to each prompt alone."""
    model.set_attn_implementation("eager" if model.config.model_type == "gemma2" else "sdpa")
    found = []
    with torch.inference_mode(), quiet():
        for prompt in prompts:
            tokens = torch.tensor([prompt])
            out = model.generate(
                tokens,
                attention_mask=torch.ones_like(tokens),
                max_new_tokens=new,
                do_sample=False,
                eos_token_id=None,
                pad_token_id=0,
            )
            found.append(out[0, len(prompt) :].tolist())
    return found


def core_of(
    model: Any,
    *,
    blocks: int = 64,
    block_size: int = 8,
    running: int = 16,
    tokens_per_step: int = 64,
    decode: Callable[[Any], str] | None = None,
    end_tokens: frozenset[int] = frozenset(),
) -> EngineCore:
    """An engine core around a model, checked as at every load. Without `decode`, token n reads as " n"."""
    register()
    loaded = LoadedModel(model.requires_grad_(False), None, type(model).__name__, torch.device("cpu"))
    context = pin_frequencies(model, loaded.context_length)
    kv = KV(block_size=block_size)
    settings = EngineSettings("test", "cpu", "auto", None, kv, Limits(), None)
    shapes = check(loaded, settings, context)
    pool = KVPool(shapes, blocks, block_size, loaded.dtype, loaded.device)
    return EngineCore(
        ModelRunner(model, pool),
        PoolSize(blocks, block_size, 0),
        decode or (lambda ids: "".join(f" {token}" for token in ids)),
        end_tokens,
        running,
        tokens_per_step,
    )
