"""From a loaded model to an engine core that can produce a token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ...streaming.errors import ModelError
from .attention import LayerShape, LayerShapes, register
from .core import EngineCore
from .loading import LoadedModel, find_dtype, load
from .memory import PoolSize
from .places import shown_name
from .pools import KVPool
from .probing import LENGTHS, layer_shapes, probe, probe_tokens, reference_logits
from .prompts import PromptBuilder
from .ropes import pin_frequencies
from .runner import ModelRunner
from .sampling import Sampling
from .scheduler import TOKENS_PER_STEP, Pace
from .sequences import Sequence
from .sizing import available_memory, pool_size
from .sources import EngineSettings
from .vocabularies import Vocabulary

__all__ = ["Assembled", "assemble"]


@dataclass(slots=True)
class Assembled:
    """An engine core that is ready, and what prepares requests for it."""

    core: EngineCore
    prompts: PromptBuilder
    name: str


def assemble(settings: EngineSettings, say: Callable[[float, str], None]) -> Assembled:
    """Loads, checks, reserves and warms up; `say(fraction, stage)` hears how far it is.

    Raises:
        ModelError: anything that keeps the model from producing a token; names the cure.
    """
    register()
    loaded = load(settings, say)
    keep_to_one_thread(loaded)
    say(0.8, "checking")
    context_length = pin_frequencies(loaded.model, loaded.context_length)
    shapes = check(loaded, settings, context_length)
    say(0.9, "reserving memory")
    size, pool = reserve(loaded, settings, shapes, context_length)
    core = EngineCore(
        ModelRunner(loaded.model, pool),
        size,
        loaded.decode,
        loaded.end_tokens,
        settings.limits.running,
        spell=Vocabulary(loaded.tokenizer, loaded.decode, loaded.tags).spelled,
    )
    prompts = PromptBuilder(
        loaded.tokenizer,
        shown_name(loaded.name),
        context_length,
        size.tokens,
        loaded.vocab_size,
        settings.chat_template,
        loaded.end_tokens,
    )
    say(0.95, "warming up")
    warm_up(core, loaded)
    return Assembled(core, prompts, loaded.name)


SMALL = 20_000_000
"""Parameters up to which several threads cost more than they bring: on a busy machine ten times the time."""


def keep_to_one_thread(loaded: LoadedModel) -> None:
    """Small models on a CPU run on one thread: forwards of a millisecond cannot wait for a team to come together."""
    if loaded.device.type == "cpu" and sum(p.numel() for p in loaded.model.parameters()) <= SMALL:
        torch.set_num_threads(1)


def check(loaded: LoadedModel, settings: EngineSettings, context_length: int) -> list[LayerShape]:
    """Refuses models that the engine would compute wrongly; the shapes of keys and values of the others."""
    prompts = probe_tokens(loaded.vocab_size, context_length)
    shapes = layer_shapes(loaded.model, prompts[0])
    expected = reference_logits(loaded.model, prompts, any(shape.softcap for shape in shapes))
    size = settings.kv.block_size
    pool = KVPool(shapes, sum(-(-length // size) for length in LENGTHS), size, loaded.dtype, loaded.device)
    probe(loaded.model, pool, prompts, expected)
    return shapes


def reserve(
    loaded: LoadedModel, settings: EngineSettings, shapes: list[LayerShape], context_length: int
) -> tuple[PoolSize, KVPool]:
    """The pool of keys and values, as large as the settings and the memory allow."""
    dtype = find_dtype(settings.kv.dtype, loaded.dtype, loaded.device)
    free = available_memory(loaded.device) - step_memory(loaded)
    longest = settings.limits.running * context_length
    size = pool_size(settings.kv, shapes, dtype, loaded.device, free, longest)
    return size, KVPool(shapes, size.blocks, size.block_size, dtype, loaded.device)


@torch.inference_mode()
def step_memory(loaded: LoadedModel) -> int:
    """What the largest step takes of a CUDA device for a while, measured; elsewhere memory is not that scarce."""
    if loaded.device.type != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats(loaded.device)
    before = torch.cuda.memory_allocated(loaded.device)
    tokens = torch.zeros(1, TOKENS_PER_STEP, dtype=torch.int64, device=loaded.device)
    loaded.model(input_ids=tokens, use_cache=False, logits_to_keep=1, paged=LayerShapes())
    taken = torch.cuda.max_memory_allocated(loaded.device) - before
    torch.cuda.empty_cache()
    return taken


def warm_up(core: EngineCore, loaded: LoadedModel) -> None:
    """Produces a token or two; afterwards the engine's counters begin at zero."""
    prompt = [0] * max(1, min(2 * Pace.LEAST, core.blocks.tokens - 2))
    sequence = Sequence(list(prompt), len(prompt), 2, Sampling(temperature=0.0))
    core.add(sequence)
    while not core.idle:
        for _, delta in core.step():
            if delta.error is not None:
                raise ModelError(f"{loaded.name} cannot produce a token: {delta.error}") from delta.error
    core.blocks.forget()
    core.steps = core.tokens_read = core.tokens_produced = 0
    if loaded.device.type == "cuda":
        torch.cuda.synchronize(loaded.device)
