"""Sequence: one request inside the engine, its tokens and how far it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from random import SystemRandom
from typing import Protocol

from ...streaming.usage import TokenUsage
from .answer_parts import AnswerSplitter
from .constraints import Constraint
from .requests import FinishReason
from .sampling import Sampling

__all__ = ["Listener", "Sequence"]

_numbers = count()
_random = SystemRandom()


class Listener(Protocol):
    """Whoever waits for a sequence."""

    def begin(self) -> bool:
        """Asked right before the sequence runs, again too; False when the request is over already."""
        ...

    def pause(self) -> None:
        """The sequence lost its blocks to an older one and waits again."""
        ...


@dataclass(eq=False)
class Sequence:
    """A prompt and what was produced after it.

    Its first `computed` tokens have their keys and values in `blocks`; the rest is still to be run through the
    model. While decoding exactly one is: the token that was sampled last.
    """

    tokens: list[int]
    prompt_length: int
    max_tokens: int
    sampling: Sampling
    deadline: float | None = None
    continues_text: bool = False
    """The answer goes on where a raw prompt ended, so a leading space counts."""
    splitter: AnswerSplitter | None = None
    """Tells the parts of an answer to messages apart."""
    constraint: Constraint | None = None
    """What the answer is held to."""
    listener: Listener | None = None
    is_stopped: Callable[[], bool] | None = None
    salt: str = ""
    """Only sequences with the same salt share blocks."""
    session: str = ""
    """Whose it is; sessions take turns."""
    blocks: list[int] = field(default_factory=list)
    shared: int = 0
    """How many of its blocks, from the first, others may have as well."""
    prefix: int | str = ""
    """Which chain of tokens those are; at the beginning the salt."""
    computed: int = 0
    scheduled: int = 0
    """How many tokens the step at hand runs through the model."""
    running: bool = False
    """It has its place among the running ones and, but for a preemption, keeps it to its end."""
    preempted: bool = False
    """It lost its blocks to an older one, and is the next to get some."""
    verified: bool = False
    """The newest logits were finite, so keys and values are fit for use."""
    failures: int = 0
    """How often a step ran out of memory with this sequence as the youngest."""
    finish_reason: FinishReason | None = None
    number: int = field(default_factory=lambda: next(_numbers))
    seed: int = 0

    def __post_init__(self) -> None:
        self.prefix = self.salt
        seed = self.sampling.seed
        self.seed = _random.getrandbits(64) if seed is None else seed & (2**64 - 1)

    @property
    def held_to(self) -> Constraint | None:
        """What the next token is held to: nothing while the model reasons."""
        if self.constraint is None or (self.splitter is not None and self.splitter.reasons):
            return None
        return self.constraint

    @property
    def remaining(self) -> int:
        """How many tokens are still to be run through the model."""
        return len(self.tokens) - self.computed

    @property
    def produced(self) -> int:
        return len(self.tokens) - self.prompt_length

    @property
    def usage(self) -> TokenUsage:
        return TokenUsage(self.prompt_length, self.produced)
