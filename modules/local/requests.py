"""What is asked of an engine, and what it gives: Request, Delta, Completion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ...streaming.events import ToolCall, ToolCallDelta
from ...streaming.messages import Message
from ...streaming.usage import TokenUsage
from .sampling import Sampling

__all__ = ["Completion", "Delta", "FinishReason", "Request", "TokenLogprobs"]

FinishReason = Literal["stop", "length", "stop_condition", "timeout", "cancelled", "error", "tool_calls"]


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
            the chat template knows tools. Calls come as `Delta.tool_calls`.
        is_stopped: asked by the engine before and after each forward; true ends the request as `cancelled`. For
            callers whose word to stop is there before they can call `Generation.cancel`.

    Raises:
        ValueError: none or several of the three are given, or the one given is empty.
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
        if self.drop_oldest < 0:
            raise ValueError(f"Request(drop_oldest={self.drop_oldest}): give a number of messages from 0")


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """The log-probability of a produced token under the model's own distribution, and its likeliest rivals."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()
    """(token id, log-probability), likeliest first."""


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
