"""How the next token is chosen: the settings of one request."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

__all__ = ["Sampling"]

SEEDS = 1 << 64
MOST_LOGPROBS = 20


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen, and when to stop.

    Args:
        temperature: 0 takes the likeliest token each time (greedy); 1 is the model's own distribution.
        top_k: only the k likeliest tokens; 0 means all.
        top_p: only the likeliest tokens that together have this much probability (nucleus sampling, Holtzman
            et al. 2019); 1 means all.
        min_p: only tokens at least this fraction as likely as the likeliest (Nguyen et al. 2024); 0 means all.
        repetition_penalty: above 1 makes tokens of the prompt and the answer less likely (CTRL, Keskar et al.
            2019).
        presence_penalty: taken once from the logits of each token that the answer has.
        frequency_penalty: taken from the logits of a token for each time that the answer has it.
        logit_bias: added to the logits of the given token ids.
        max_tokens: at most this many tokens are produced; None means what the context leaves.
        seed: the same seed gives the same choices; None draws a fresh one.
        stop: one text or several at which the answer ends; they are never part of it.
        stop_token_ids: token ids at which the answer ends, besides the model's own.
        json_schema: the answer is JSON that this JSON schema allows; `{"type": "object"}` is any object.
        regex: the answer matches this regular expression, from its beginning to its end (the syntax of Rust's
            regex crate). Only one of both.
        logprobs: report the log-probability of each token and of this many alternatives, 0 to 20.

    Raises:
        ValueError: a value is out of range; names the field, the value and the range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    max_tokens: int | None = None
    seed: int | None = None
    stop: Sequence[str] | str = ()
    stop_token_ids: Sequence[int] = ()
    logprobs: int | None = None
    json_schema: Mapping[str, Any] | None = None
    regex: str | None = None

    def __post_init__(self) -> None:
        self._check_number("temperature", 0.0, math.inf)
        self._check_whole("top_k", 0)
        self._check_number("top_p", 0.0, 1.0, above=True)
        self._check_number("min_p", 0.0, 1.0)
        self._check_number("repetition_penalty", 0.0, math.inf, above=True)
        self._check_number("presence_penalty", -2.0, 2.0)
        self._check_number("frequency_penalty", -2.0, 2.0)
        for token, bias in self.logit_bias.items():
            if not _whole(token) or token < 0 or not _number(bias) or not math.isfinite(bias):
                raise ValueError(
                    f"Sampling(logit_bias={{{token!r}: {bias!r}}}): give token ids from 0 and finite numbers"
                )
        if self.max_tokens is not None:
            self._check_whole("max_tokens", 1)
        if self.seed is not None:
            self._check_whole("seed", -SEEDS, SEEDS)
        if self.logprobs is not None:
            self._check_whole("logprobs", 0, MOST_LOGPROBS)
        if any(not isinstance(text, str) or not text for text in self.stops):
            raise ValueError(f"Sampling(stop={self.stop!r}): give texts of at least one character")
        if any(not _whole(token) or token < 0 for token in self.stop_token_ids):
            raise ValueError(f"Sampling(stop_token_ids={self.stop_token_ids!r}): give token ids from 0")

        if self.json_schema is not None and not isinstance(self.json_schema, Mapping):
            raise ValueError(f"Sampling(json_schema={self.json_schema!r}): give a JSON schema as a dict")
        if self.regex is not None and (not isinstance(self.regex, str) or not self.regex):
            raise ValueError(f"Sampling(regex={self.regex!r}): give a regular expression as text")
        if self.json_schema is not None and self.regex is not None:
            raise ValueError("Sampling(json_schema=..., regex=...): give one of both")

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop texts, always as a tuple."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def greedy(self) -> bool:
        return self.temperature == 0.0

    def replace(self, **changes: Any) -> Self:
        """The same settings but for those given."""
        return replace(self, **changes)

    def _check_number(self, name: str, low: float, high: float, above: bool = False) -> None:
        value = getattr(self, name)
        inside = _number(value) and math.isfinite(value) and low <= value <= high
        if not inside or (above and value == low):
            bounds = f"{'above' if above else 'from'} {low:g}" + ("" if high == math.inf else f" to {high:g}")
            raise ValueError(f"Sampling({name}={value!r}): give a number {bounds}")

    def _check_whole(self, name: str, low: int, high: int | None = None) -> None:
        value = getattr(self, name)
        if not _whole(value) or value < low or (high is not None and value > high):
            bounds = f"from {low}" + ("" if high is None else f" to {high}")
            raise ValueError(f"Sampling({name}={value!r}): give a whole number {bounds}")


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
