"""What is asked of an engine, and what it gives: Request, Delta, Completion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ...streaming.events import ToolCall, ToolCallDelta
from ...streaming.messages import Message
from ...streaming.usage import TokenUsage
from .sampling import Sampling

__all__ = ["Completion", "Delta", "FinishReason", "Request", "TokenLogprobs", "ToolChoice"]

FinishReason = Literal["stop", "length", "stop_condition", "timeout", "cancelled", "error", "tool_calls"]
ToolChoice = str | Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Request:
    """One question to an engine. Exactly one of `messages`, `prompt` and `token_ids` is given.

    Args:
        messages: a conversation, put into the model's chat template.
        prompt: raw text, tokenised as it is (with the tokenizer's own start token, where it has one).
        token_ids: raw tokens, taken as they are.
        sampling: how tokens are chosen, and when to stop.
        deadline: the `time.monotonic()` at which the request ends as `timeout`, wherever it stands then.
        salt: requests with different salts never share cached prefixes.
        session: whose request it is; where requests wait, sessions take turns.
        drop_oldest: how many messages after the system message may be dropped, oldest turns first and each in
            whole, so that the prompt fits the context; `Generation.dropped` says how many were.
        chat_template: Jinja source for the messages; the engine's by default.
        tools: what the model may call, as JSON schemas of functions in OpenAI's form; for messages only, and where
            the chat template knows tools. Calls come as `Delta.tool_calls`; those of a function that is `strict` fit
            its schema.
        tool_choice: None or `"auto"`: the model calls tools or not; `"required"`: it calls at least one; OpenAI's
            form of a name, `{"type": "function", "function": {"name": ...}}`: it calls that one.
        is_stopped: asked by the engine before and after each forward; true ends the request as `cancelled`. For
            callers whose word to stop is there before they can call `Generation.cancel`.

    Raises:
        ValueError: none or several of the three are given, or the one given is empty; a tool_choice that is none.
    """

    messages: Sequence[Message] | None = None
    prompt: str | None = None
    token_ids: Sequence[int] | None = None
    sampling: Sampling = field(default_factory=Sampling)
    deadline: float | None = None
    salt: str = ""
    session: str = ""
    drop_oldest: int = 0
    chat_template: str | None = None
    tools: Sequence[Mapping[str, Any]] = ()
    tool_choice: ToolChoice | None = None
    is_stopped: Callable[[], bool] | None = None

    def __post_init__(self) -> None:
        given = {"messages": self.messages, "prompt": self.prompt, "token_ids": self.token_ids}
        names = [name for name, value in given.items() if value is not None]
        if len(names) != 1:
            raise ValueError(
                f"a Request takes exactly one of messages, prompt and token_ids; given: {', '.join(names) or 'none'}"
            )
        if self.messages is not None and not self.messages:
            raise ValueError("Request(messages=[]): give at least one message, such as Message.user('Hi')")
        if self.prompt == "":
            raise ValueError("Request(prompt=''): give a prompt of at least one character")
        if self.token_ids is not None and not len(self.token_ids):
            raise ValueError("Request(token_ids=[]): give at least one token id")
        if self.tools and self.messages is None:
            raise ValueError(
                "Request(tools=...): tools go with messages, whose chat template tells them the model"
            )
        if self.tool_choice not in (None, "auto") and not self.demanded:
            raise ValueError(
                f"Request(tool_choice={self.tool_choice!r}): give auto, required, or "
                '{"type": "function", "function": {"name": ...}} with the name of one of the tools'
            )
        if self.drop_oldest < 0:
            raise ValueError(f"Request(drop_oldest={self.drop_oldest}): give a number of messages from 0")

    @property
    def demanded(self) -> tuple[Mapping[str, Any], ...]:
        """The tools of which one has to be called; none where the model may as well answer."""
        if self.tool_choice == "required":
            return tuple(self.tools)
        function = self.tool_choice.get("function") if isinstance(self.tool_choice, Mapping) else None
        name = function.get("name") if isinstance(function, Mapping) else None
        return tuple(tool for tool in self.tools if tool["function"]["name"] == name)


LEAST = -9999.0
"""The smallest log-probability that is told: OpenAI's for what is next to impossible. JSON has no infinity."""


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """The log-probability of a produced token under the model's own distribution, and the likeliest tokens there.

    `token_id` is None where only a server knows it. `data` are the token's bytes in the text; a special token, such
    as the one that ends an answer, has none.
    """

    token_id: int | None
    logprob: float
    top: tuple[TokenLogprobs, ...] = ()
    """Likeliest first."""
    text: str = ""
    data: bytes | None = None

    def as_dict(self) -> dict[str, Any]:
        """As OpenAI's wire format has it."""
        rivals = [rival.as_dict() for rival in self.top]
        for rival in rivals:
            del rival["top_logprobs"]
        return {
            "token": self.text,
            "bytes": None if self.data is None else list(self.data),
            "logprob": min(self.logprob, 0.0) if self.logprob >= LEAST else LEAST,
            "top_logprobs": rivals,
        }


@dataclass(frozen=True, slots=True)
class Delta:
    """What one step of the engine adds to an answer.

    The last one of a request has `finish_reason` and `usage`, and `error` where it failed. `text` may be empty:
    characters wait until they are whole, and text that may begin a stop string until it is known not to.
    `tool_calls` has pieces of calls as they come, and each call in whole once it is complete.
    """

    text: str = ""
    token_ids: tuple[int, ...] = ()
    finish_reason: FinishReason | None = None
    usage: TokenUsage | None = None
    error: BaseException | None = None
    logprobs: tuple[TokenLogprobs, ...] = ()
    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta | ToolCall, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer in whole: the text that was delivered, how it ended, what it cost."""

    text: str
    finish_reason: FinishReason
    usage: TokenUsage
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprobs, ...] = ()
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
