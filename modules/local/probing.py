"""The load probe: is what the engine computes what the model computes by itself?"""

from __future__ import annotations

from typing import Any

import torch

from .architectures import unsupported
from .attention import NAME, LayerShape, LayerShapes
from .blocks import BlockManager
from .pools import KVPool
from .runner import ModelRunner
from .sampling import Sampling
from .sequences import Sequence

__all__ = ["layer_shapes", "probe", "probe_tokens", "reference_logits"]

LENGTHS = (29, 12, 23, 12)
"""Tokens of the probe's prompts; in chunks of 11 they mix first and later chunks with decode rows."""
CHUNK = 11
TOLERANCES = {torch.float64: 1e-6, torch.float32: 2e-3, torch.float16: 3e-2, torch.bfloat16: 8e-2}
"""How far logits may differ, as a share of their spread, for the rounding of each dtype (in float64 for that of
the float32 softmax that some models have)."""
COARSEST = 0.1
"""The same for any other."""


def probe_tokens(vocab_size: int, context_length: int) -> list[list[int]]:
    """The probe's prompts: the same tokens each time."""
    generator = torch.Generator().manual_seed(7)
    return [
        torch.randint(0, vocab_size, (min(length, context_length - 1),), generator=generator).tolist()
        for length in LENGTHS
    ]


@torch.inference_mode()
def reference_logits(model: Any, prompts: list[list[int]], softcap: bool) -> list[torch.Tensor]:
    """The model's own logits after each prompt, with attention of transformers.

    That is SDPA where it can do what the model asks for, otherwise the written-out one; some versions leave a
    softcap out of SDPA without a word.
    """
    try:
        model.set_attn_implementation("eager" if softcap else "sdpa")
    except ValueError:
        model.set_attn_implementation("eager")
    device = model.get_input_embeddings().weight.device
    return [
        model(input_ids=torch.tensor([prompt], device=device), use_cache=False).logits[0, -1]
        for prompt in prompts
    ]


@torch.inference_mode()
def layer_shapes(model: Any, prompt: list[int]) -> list[LayerShape]:
    """Sets the engine's attention and returns what the layers hand over to it, in their order.

    Raises:
        ModelError: the model does not take another attention, or not in every layer.
    """
    model.set_attn_implementation(NAME)
    shapes = LayerShapes()
    device = model.get_input_embeddings().weight.device
    tokens = torch.tensor([prompt], device=device)
    positions = torch.arange(tokens.shape[1], device=device)[None]
    try:
        model(input_ids=tokens, position_ids=positions, use_cache=False, logits_to_keep=1, paged=shapes)
    except TypeError as error:
        raise unsupported(
            type(model).__name__, f"its forward does not take the engine's arguments ({error})"
        ) from error
    config = model.config.get_text_config()
    found = [shapes.layers.get(layer) for layer in range(config.num_hidden_layers)]
    missing = [layer for layer, shape in enumerate(found) if shape is None]
    if missing or len(shapes.layers) != len(found):
        raise unsupported(
            type(model).__name__, f"its layers {missing[:5]} do not use attention that can be exchanged"
        )
    for layer, kind in enumerate(getattr(config, "layer_types", None) or ()):
        if kind == "sliding_attention" and shapes.layers[layer].window is None:
            raise unsupported(
                type(model).__name__, f"layer {layer} has a sliding window, but does not say which"
            )
    return [shape for shape in found if shape is not None]


def probe(model: Any, pool: KVPool, prompts: list[list[int]], expected: list[torch.Tensor]) -> None:
    """Runs the prompts packed, in chunks, in blocks out of order, and compares; `pool` is a small one of its own.

    Raises:
        ModelError: the logits differ by more than rounding; names the figures.
    """
    model.set_attn_implementation(NAME)
    tolerance = TOLERANCES.get(model.dtype, COARSEST)
    for found, reference in zip(packed_logits(model, pool, prompts), expected, strict=True):
        found, reference = found.double(), reference.double()
        difference = float((found - reference).abs().max())
        spread = float(reference.max() - reference.min()) or 1.0
        if not difference <= tolerance * spread:
            raise unsupported(
                type(model).__name__,
                f"computed in chunks its logits differ by {difference:.3g} (their spread is {spread:.3g}, allowed "
                f"is {tolerance * spread:.3g} in {model.dtype})",
            )


def packed_logits(model: Any, pool: KVPool, prompts: list[list[int]]) -> list[torch.Tensor]:
    """The logits after each prompt, computed as the engine computes them."""
    runner, blocks = ModelRunner(model, pool), BlockManager(pool.blocks, pool.block_size)
    unfinished = [Sequence(list(prompt), len(prompt), 1, Sampling()) for prompt in prompts]
    order = {sequence: place for place, sequence in enumerate(unfinished)}
    found: dict[int, torch.Tensor] = {}
    while unfinished:
        for sequence in unfinished:
            sequence.scheduled = min(CHUNK, sequence.remaining)
            blocks.grow(sequence, sequence.computed + sequence.scheduled)
        complete, logits = runner.run(unfinished)
        found.update((order[sequence], row) for sequence, row in zip(complete, logits, strict=False))
        for sequence in unfinished:
            sequence.computed += sequence.scheduled
        unfinished = [sequence for sequence in unfinished if sequence.remaining]
    return [found[place] for place in range(len(prompts))]
