"""A real tiny model whose forward waits at the test's gate, so that every token is the test's step.

    gate = Gate()
    engine = gated_engine(gate, limits=Limits(running=2))
    engine.wait_ready(30)                        # loads, checks and warms up with the gate open
    generation = engine.submit(Request(prompt="Hello"))
    gate.wait_reached()                          # a forward stands at the gate, with the prompt
    gate.open(1)                                 # it goes through: one token
    await gate.areached()                        # the next one stands there
    gate.forwards                                # Forwards(entered=2, left=1)
    gate.tokens                                  # [5, 1]: tokens in each forward that came to the gate
    gate.open_all()                              # from now on nobody waits
    gate.close()                                 # from now on everybody does

The model is a random Llama and the tokenizer is trained on the spot, so nothing is read from disk. Its words are
English, so texts can be told apart and read. The gate closes when the engine is ready; `engine.close()` opens it,
also at the end of the interpreter, so a forgotten engine hangs nothing.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from millrace.modules.local import KV, Engine
from millrace.streaming.limits import Limits

__all__ = ["CHAT_TEMPLATE", "Forwards", "Gate", "gated_engine", "tiny_engine", "tiny_model", "tiny_tokenizer"]

TIMEOUT = 30.0
CONTEXT = 512
SPECIALS = ["<pad>", "<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>"]
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CORPUS = (
    "the water of a river turns the wheel of a mill and the mill grinds corn for bread while clouds bring rain to "
    "fields where people sow grain in spring and harvest it in late summer before cold winds blow over empty hills "
    "and snow covers every road between small towns whose bells ring on quiet mornings when children walk to school"
)


@dataclass(frozen=True)
class Forwards:
    """How many forwards came to the gate, and how many went through."""

    entered: int
    left: int


class Gate:
    """Lets a model's forwards through one by one; open until the engine is ready."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        """Tokens in each forward, in the order in which they came to the gate."""
        self._changed = threading.Condition()
        self._permits: float = float("inf")
        self._entered = self._left = 0
        self._armed = False
        self._failure: BaseException | None = None

    @property
    def forwards(self) -> Forwards:
        with self._changed:
            return Forwards(self._entered, self._left)

    def open(self, n: int = 1) -> None:
        """Lets `n` more forwards through."""
        self._add(n)

    def open_all(self) -> None:
        """Lets every forward through from now on."""
        self._add(float("inf"))

    def close(self) -> None:
        """Takes all permits back: from now on every forward waits."""
        with self._changed:
            self._permits = 0

    def fail_next(self, error: BaseException) -> None:
        """The forward that next goes through raises this instead."""
        with self._changed:
            self._failure = error

    def wait_reached(self, timeout: float = TIMEOUT) -> None:
        """Waits until a forward stands at the gate.

        Raises:
            AssertionError: none came in `timeout` seconds.
        """
        with self._changed:
            reached = self._changed.wait_for(self.is_reached, timeout)
        assert reached, f"no forward came to the gate within {timeout:g} s; {self.forwards}"

    async def areached(self, timeout: float = TIMEOUT) -> None:
        """`wait_reached` for coroutines: the loop goes on while it waits."""
        deadline = time.monotonic() + timeout
        while not self.is_reached():
            assert time.monotonic() < deadline, (
                f"no forward came to the gate within {timeout:g} s; {self.forwards}"
            )
            await asyncio.sleep(0.001)

    def arm(self) -> None:
        """Closes the gate and begins to count; called when the engine is ready."""
        with self._changed:
            self._armed = True
            self._permits = 0

    def enter(self, tokens: int) -> None:
        """Waits for a permit; called by the model in the engine's thread."""
        with self._changed:
            if not self._armed:
                return
            self._entered += 1
            self.tokens.append(tokens)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._permits > 0)
            self._permits -= 1
            self._left += 1
            failure, self._failure = self._failure, None
            self._changed.notify_all()
        if failure is not None:
            raise failure

    def _add(self, permits: float) -> None:
        with self._changed:
            self._permits += permits
            self._changed.notify_all()

    def is_reached(self) -> bool:
        """A forward stands at the gate, and no permit is left for it."""
        return self._entered > self._left and self._permits <= 0


class GatedEngine(Engine):
    """An engine whose end opens its gate."""

    gate: Gate

    def close(self) -> None:
        self.gate.open_all()
        super().close()


def gated_engine(
    gate: Gate,
    *,
    limits: Limits | None = None,
    kv: KV | None = None,
    context: int = CONTEXT,
    **options: Any,
) -> Engine:
    """An engine with the tiny model behind the gate; `options` are those of Engine.

    Without `kv` the pool holds as many whole contexts as may run.
    """

    def load() -> tuple[Any, Any]:
        return tiny_model(context=context, on_forward=gate.enter), tiny_tokenizer()

    def arm(fraction: float, stage: str) -> None:
        if stage == "ready":
            gate.arm()

    engine = GatedEngine(load, limits=limits, kv=kv, progress=arm, **options)
    engine.gate = gate
    return engine


def tiny_engine(*, seed: int = 0, context: int = CONTEXT, **options: Any) -> Engine:
    """An engine with the tiny model and no gate; `options` are those of Engine."""
    return Engine(lambda: (tiny_model(seed=seed, context=context), tiny_tokenizer()), **options)


def tiny_model(
    *, seed: int = 0, context: int = CONTEXT, on_forward: Callable[[int], None] | None = None
) -> Any:
    """A random Llama in float32 that says varied words; the same weights for the same seed.

    `on_forward(tokens)` is called before each forward.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    class TinyLlama(LlamaForCausalLM):  # type: ignore[misc]
        def forward(self, input_ids: Any = None, **options: Any) -> Any:
            if on_forward is not None:
                on_forward(input_ids.numel())
            return super().forward(input_ids=input_ids, **options)

    tokenizer = tiny_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        initializer_range=0.25,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = TinyLlama(config).eval()
    with torch.no_grad():  # logits of 0 are never the largest of many random ones
        model.lm_head.weight[unspoken_tokens()] = 0.0
    return model


def unspoken_tokens() -> list[int]:
    """Tokens that the tiny model does not choose: special ones, and bytes that are no word."""
    tokenizer = tiny_tokenizer()
    words = {token for token in range(len(tokenizer)) if tokenizer.decode([token]).strip().isalpha()}
    return sorted(set(range(len(tokenizer))) - words | set(tokenizer.all_special_ids))


@cache
def tiny_tokenizer() -> Any:
    """A byte-level BPE tokenizer with a chat template, trained here."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([CORPUS, CORPUS], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=SPECIALS[3:],
        chat_template=CHAT_TEMPLATE,
        model_max_length=CONTEXT,
    )
