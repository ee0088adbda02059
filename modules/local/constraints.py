"""Constraints: what may come next, so that an answer is JSON of a schema, or matches a regular expression.

Behind the interface stands llguidance (https://github.com/guidance-ai/llguidance): one wheel of 3 MB without
dependencies, masks in some ten microseconds without compiling an automaton first, and an error for what of a schema
it does not know. xgrammar needs a compiler runtime and Triton to install; outlines-core compiles each schema to an
automaton of the vocabulary before the first token, which takes seconds for large schemas.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ...streaming.errors import RequestRefused, require
from .grammars import Offered, grammar_of_calls
from .sampling import Sampling

__all__ = ["Constraint", "ConstraintMaker"]


COMPACT = {"whitespace_flexible": False}
"""White space as `json.dumps` writes it: a model that may put any might never stop."""


class Constraint(Protocol):
    """What one answer may say; it goes along token by token."""

    @property
    def ended(self) -> bool:
        """Nothing may come any more: the answer is whole."""
        ...

    def mask(self) -> Any:
        """Which tokens may come next: bits of a tensor of int32, (vocabulary / 32), the lowest bit first.

        Raises:
            ValueError: there is none, and the answer is not whole.
        """
        ...

    def accept(self, token: int) -> None:
        """This token has come."""
        ...


class Grammar:
    """A Constraint of llguidance's."""

    def __init__(self, matcher: Any, vocab_size: int) -> None:
        import torch

        self._matcher = matcher
        self._words = torch.zeros((vocab_size + 31) // 32, dtype=torch.int32)

    @property
    def ended(self) -> bool:
        return bool(self._matcher.is_stopped())

    def mask(self) -> Any:
        words = self._words
        self._matcher.unsafe_compute_mask_ptr(words.data_ptr(), words.numel() * words.element_size())
        if self._matcher.is_error():  # the mask lets the answer end then, whole or not
            raise ValueError(f"nothing can come next in its grammar: {self._error()}")
        return words

    def accept(self, token: int) -> None:
        if not self._matcher.consume_token(token):
            raise ValueError(f"the answer has left its grammar: {self._error() or token}")

    def _error(self) -> str:
        return _main_line(self._matcher.get_error())


class ConstraintMaker:
    """Makes the constraints for one model; from any thread.

    Args:
        tokenizer: of transformers, a fast one.
        vocab_size: of the model.
        end_tokens: the model's own; they may come where the answer is whole.
    """

    def __init__(self, tokenizer: Any, vocab_size: int, end_tokens: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._end_tokens = sorted(end_tokens)
        self._made: Any = None
        self._lock = threading.Lock()

    def make(self, sampling: Sampling, offered: Offered | None = None) -> Constraint | None:
        """The constraint that these settings and the tools ask for; None: there is none.

        A call that is demanded is all that there is then; otherwise a model that is held to a schema may call instead.

        Raises:
            RequestRefused: the schema or the expression cannot be held to; says what of it.
            MissingExtra: llguidance is not installed.
        """
        schema, regex = sampling.json_schema, sampling.regex
        if offered is not None and (offered.demanded or self._calls_matter(offered, sampling)):
            if schema is not None and not offered.demanded:
                self._make("json_schema", _of_schema(schema))  # whose faults are not those of the tools
            return self._make(
                "tools",
                lambda matcher: matcher.grammar_from_lark(grammar_of_calls(offered, self._terminal, schema)),
            )
        if regex is not None:
            return self._make("regex", lambda matcher: matcher.grammar_from_regex(regex))
        return None if schema is None else self._make("json_schema", _of_schema(schema))

    @staticmethod
    def _calls_matter(offered: Offered, sampling: Sampling) -> bool:
        """Whether something is to be held to besides which a model may call."""
        return sampling.regex is None and (offered.strict or sampling.json_schema is not None)

    def _make(self, setting: str, write: Callable[[Any], str]) -> Constraint:
        """What a setting of the request asks for."""
        matcher = require("llguidance", "local").LLMatcher
        what = "these tools" if setting == "tools" else f"this {setting}"
        try:
            made = matcher(self._library_tokenizer(), write(matcher), log_level=0)
        except (TypeError, ValueError, RecursionError) as error:
            raise RequestRefused(f"{what} cannot be held to: {_main_line(error)}", setting) from error
        if made.is_error():
            raise RequestRefused(f"{what} cannot be held to: {_main_line(made.get_error())}", setting)
        grammar = Grammar(made, self._vocab_size)
        try:
            grammar.mask()
        except ValueError as error:
            raise RequestRefused(f"{what} cannot be held to: {error}", setting) from error
        return grammar

    def _terminal(self, tag: str) -> str:
        """A tag as llguidance sees it: as its token, where that is no text there."""
        token = self._tokenizer.get_vocab().get(tag)
        if token is not None and self._library_tokenizer().is_special_token(token):
            return f"<[{token}]>"
        return json.dumps(tag)

    def _library_tokenizer(self) -> Any:
        """The tokenizer as llguidance sees it; made at the first use, since that takes a second."""
        with self._lock:
            if self._made is None:
                from_tokenizer = require("llguidance.hf", "local").from_tokenizer
                ends = self._end_tokens or None
                self._made = from_tokenizer(self._tokenizer, n_vocab=self._vocab_size, eos_token=ends)
            return self._made


def _of_schema(schema: Mapping[str, Any]) -> Callable[[Any], str]:
    def grammar(matcher: Any) -> str:
        made: str = matcher.grammar_from_json_schema(json.dumps(schema), overrides=COMPACT)
        return made

    return grammar


def _main_line(error: object) -> str:
    """What is wrong: for a regular expression it stands in a line behind a picture, otherwise in the first."""
    lines = str(error).strip().split("\n")
    told = (line.removeprefix("error: ") for line in lines if line.startswith("error: "))
    return next(told, lines[0])[:300]
