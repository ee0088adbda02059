"""PromptBuilder: a request's messages or text as tokens, checked against what fits."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any

from ...streaming.errors import ContextLengthExceeded, ModelError, RequestRefused
from ...streaming.messages import FunctionCall, Message
from .answer_parts import AnswerSplitter, CallParser, parse_calls, tags_of
from .constraints import Constraint, ConstraintMaker
from .grammars import Offered
from .requests import Request

__all__ = ["Prompt", "PromptBuilder"]

OPENING = 8
"""Tokens at the end of a prompt among which the opening tag of reasoning may be."""
ROOM = 256
"""Tokens left for an answer, at most a quarter of the context, when a history is shortened without max_tokens."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request as the engine runs it."""

    token_ids: list[int]
    max_tokens: int
    dropped: int = 0
    """Messages left out so that the prompt fits."""
    splitter: AnswerSplitter | None = None
    """Tells reasoning and calls apart from the answer, where the chat template knows of them."""
    constraint: Constraint | None = None
    """What the answer is held to."""


class PromptBuilder:
    """Builds prompts for one model.

    Args:
        tokenizer: of transformers.
        model: its name, for messages.
        context_length: the most tokens that prompt and answer may have together.
        pool_tokens: tokens that the KV pool holds.
        vocab_size: token ids are below it.
        chat_template: Jinja source; None takes the tokenizer's own.
        end_tokens: the model's own end tokens.
    """

    def __init__(
        self,
        tokenizer: Any,
        model: str,
        context_length: int,
        pool_tokens: int,
        vocab_size: int,
        chat_template: str | None = None,
        end_tokens: frozenset[int] = frozenset(),
    ) -> None:
        self._tokenizer = tokenizer
        self._constraints = ConstraintMaker(tokenizer, vocab_size, end_tokens)
        self._model = model
        self._context_length = context_length
        self._pool_tokens = pool_tokens
        self._vocab_size = vocab_size
        self._chat_template = chat_template

    @property
    def limit(self) -> int:
        """The most tokens that a prompt and its answer may have together."""
        return min(self._context_length, self._pool_tokens)

    def build(self, request: Request) -> Prompt:
        """Tokens of a request.

        Raises:
            ContextLengthExceeded: prompt and `max_tokens` do not fit; names both numbers.
            ModelError: there is no chat template.
            RequestRefused: a token id that the model does not have, a prompt without any token, messages or tools that
                the chat template does not take, or a schema, an expression or a call that cannot be held to.
        """
        self._check_ids("logit_bias", request.sampling.logit_bias)
        dropped = 0
        if request.messages is not None:
            token_ids, dropped = self._shortened(request, list(request.messages))
        elif request.prompt is not None:
            token_ids = list(self._tokenizer(request.prompt)["input_ids"])
        else:
            assert request.token_ids is not None
            token_ids = [int(token) for token in request.token_ids]
            self._check_ids("token_ids", token_ids)
        if not token_ids:
            raise RequestRefused(
                "the prompt has no tokens; give some text, or a chat template that makes some",
                "prompt" if request.messages is None else "messages",
            )
        max_tokens = self._max_tokens(len(token_ids), request.sampling.max_tokens)
        constraint = self._constraints.make(request.sampling, self._offered(request))
        return Prompt(token_ids, max_tokens, dropped, self._splitter(request, token_ids), constraint)

    def _offered(self, request: Request) -> Offered | None:
        """The tools of a request, where calls can be told apart from text."""
        if not request.tools:
            return None
        _, tags = tags_of(self._template(request))
        demanded = request.demanded
        if tags is not None:
            return Offered(demanded or tuple(request.tools), tags, bool(demanded))
        if demanded:
            raise RequestRefused(
                f"the chat template of {self._model} has none of the tags of tool calls that are known here, so "
                "that no call can be demanded; leave tool_choice out",
                "tool_choice",
            )
        return None

    def _splitter(self, request: Request, token_ids: Sequence[int]) -> AnswerSplitter | None:
        if request.messages is None:
            return None
        reasoning, calls = tags_of(self._template(request))
        if reasoning is None and not (calls and request.tools):
            return None
        opened = reasoning is not None and self._tokenizer.decode(token_ids[-OPENING:]).rstrip().endswith(
            reasoning.opening
        )
        parser = None if request.demanded else self._parser()  # which may know no other form than its own
        return AnswerSplitter(reasoning, opened, calls if request.tools else None, parser)

    def _parser(self) -> CallParser | None:
        """How calls are read: as the tokenizer's own response template says, where it has one."""
        if getattr(self._tokenizer, "response_template", None) is None:
            return None
        return partial(parse_as_tokenizer, self._tokenizer)

    def _check_ids(self, name: str, ids: Any) -> None:
        wrong = next((token for token in ids if not 0 <= token < self._vocab_size), None)
        if wrong is not None:
            raise RequestRefused(
                f"{name} has the token id {wrong}; {self._model} has those from 0 to {self._vocab_size - 1}",
                name,
            )

    def _max_tokens(self, prompt: int, wanted: int | None) -> int:
        needed = prompt + (1 if wanted is None else wanted)
        if needed <= self.limit:
            return self.limit - prompt if wanted is None else wanted
        asked = "at least 1 token of answer" if wanted is None else f"max_tokens={wanted}"
        if self._context_length <= self._pool_tokens:
            place, cure = (
                f"the context of {self._context_length} tokens",
                "shorten the prompt or lower max_tokens",
            )
        else:
            place = f"the KV pool of {self._pool_tokens} tokens"
            cure = "shorten the prompt, lower max_tokens, or reserve more with KV(fraction=...)"
        raise ContextLengthExceeded(
            f"a prompt of {prompt} tokens and {asked} make {needed}, more than {place} of {self._model}; {cure}"
        ).for_clients()

    # ------------------------------------------------------------ messages

    def _shortened(self, request: Request, messages: list[Message]) -> tuple[list[int], int]:
        """The tokens of as many messages as fit, and how many were dropped."""
        token_ids = self._encode(request, messages)
        room = request.sampling.max_tokens or min(ROOM, self.limit // 4)
        if not request.drop_oldest or len(token_ids) + room <= self.limit:
            return token_ids, 0
        first = 1 if messages[0].role == "system" else 0
        cuts = turn_starts(messages, first, request.drop_oldest)

        def excess(cut: int) -> bool:
            return len(self._encode(request, messages[:first] + messages[cut:])) + room <= self.limit

        cut = cuts[min(bisect_left(cuts, True, key=excess), len(cuts) - 1)]
        return self._encode(request, messages[:first] + messages[cut:]), cut - first

    def _template(self, request: Request) -> str:
        template = request.chat_template or self._chat_template or self._tokenizer.chat_template
        if isinstance(template, dict):  # several by name: one of them may be for tools
            template = template.get("tool_use" if request.tools else "default") or template.get("default")
        if not template:
            raise ModelError(
                f"{self._model} has no chat template, so it cannot take messages; give one with chat_template=... "
                "(Jinja source)"
            )
        if request.tools and "tools" not in template:
            raise RequestRefused(
                f"the chat template of {self._model} knows no tools; give one that does, or no tools", "tools"
            )
        return str(template)

    def _encode(self, request: Request, messages: Sequence[Message]) -> list[int]:
        template = self._template(request)
        turns = list(turns_of(messages, template))
        try:
            encoded = self._tokenizer.apply_chat_template(
                turns,
                tools=[dict(tool) for tool in request.tools] or None,
                chat_template=template,
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
            )
        except Exception as error:
            raise RequestRefused(
                f"the chat template of {self._model} refused the messages: {error}", "messages"
            ) from error
        return list(encoded["input_ids"])


NINE = "length != 9"
"""Templates of Mistral's take no other ids of calls than those of nine letters and digits."""


def turns_of(messages: Sequence[Message], template: str) -> Iterator[dict[str, Any]]:
    """Messages as chat templates of Hugging Face take them: arguments as an object, and each result with a name."""
    names: dict[str, str] = {}
    key = short if NINE in template else str
    for message in messages:
        turn: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.tool_calls:
            names.update((call.id, call.name) for call in message.tool_calls)
            turn["tool_calls"] = [
                {
                    "id": key(call.id),
                    "type": "function",
                    "function": {"name": call.name, "arguments": arguments_of(call)},
                }
                for call in message.tool_calls
            ]
        if message.tool_call_id is not None:
            turn["tool_call_id"] = key(message.tool_call_id)
            if message.tool_call_id in names:
                turn["name"] = names[message.tool_call_id]
        yield turn


def arguments_of(call: FunctionCall) -> Any:
    """The arguments of a call as an object; as the text that they are, where they are none."""
    try:
        made = json.loads(call.arguments or "{}")
    except (ValueError, RecursionError):
        return call.arguments
    return made if isinstance(made, dict) else call.arguments


def short(key: str) -> str:
    """An id of nine letters and digits: the same one for the same id."""
    if len(key) == 9 and key.isascii() and key.isalnum():
        return key
    return sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:9]


def parse_as_tokenizer(tokenizer: Any, inside: str) -> list[tuple[str, str]]:
    """The calls in a part of an answer, as the tokenizer's own response template reads them.

    Raises:
        ValueError: there are none.
    """
    try:
        found = tokenizer.parse_response(inside).get("tool_calls") or []
        calls = [call.get("function", call) for call in found]
        return [
            (call["name"], json.dumps(call["arguments"], ensure_ascii=False)) for call in calls
        ] or parse_calls(inside)
    except (AttributeError, KeyError, TypeError):
        return parse_calls(inside)


def turn_starts(messages: Sequence[Message], first: int, most: int) -> list[int]:
    """Where a shortened conversation may begin, at most `most` messages after `first`.

    Turns are dropped in whole: what is left begins with a user's message, where there is one.
    """
    last = min(first + most, len(messages) - 1)
    users = [at for at in range(first + 1, last + 1) if messages[at].role == "user"]
    return users or [last]
