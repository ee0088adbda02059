"""What a request to /v1/responses may say, checked before anything is done about it.

As in chat completions, every parameter is used, harmless to leave unused, or refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...streaming.messages import Message
from ..abilities import Abilities
from . import chat_requests
from .chat_messages import check_turn, message_of
from .chat_requests import SHARED, TextRequest, check_stream_options, model_of
from .parameters import Known, Number, check_json, check_text, flag, invalid, unsupported

__all__ = ["CURES", "HARMLESS", "NEUTRAL", "NUMBERS", "OWN", "ResponseRequest"]

NUMBERS: Mapping[str, Number] = {
    "max_output_tokens": chat_requests.NUMBERS["max_tokens"],
    **{
        name: number
        for name, number in chat_requests.NUMBERS.items()
        if name not in ("max_tokens", "max_completion_tokens")
    },
}
"""Parameters that go to the model as they are; max_output_tokens under the model's name for it."""

HARMLESS = frozenset(
    [
        "user",
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "max_tool_calls",
    ]
)
"""Accepted and unused: they change nothing about the answer, as long as no tool is called."""

NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "access_programs": (),
    "background": (False,),
    "context_management": ([],),
    "conversation": (),
    "image": (),
    "include": ([],),
    "moderation": (),
    "previous_response_id": (),
    "prompt": (),
    "reasoning": ({},),
    "store": (False,),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
    "truncation": ("disabled",),
}
"""Parameters of OpenAI's that are not supported, with the values that ask for nothing. Null is always one."""

CURES: Mapping[str, str] = {
    "background": "start it with POST /v1/runs and background: true",
    "conversation": "send the earlier messages in input",
    "max_completion_tokens": "it is max_output_tokens here",
    "max_tokens": "it is max_output_tokens here",
    "messages": "it is input here",
    "previous_response_id": "send the earlier messages in input",
    "prompt": "send its text in instructions and input",
    "truncation": "leave it out: what does not fit is refused, and nothing is cut off",
}

ECHOED = (
    "instructions",
    "max_output_tokens",
    "metadata",
    "parallel_tool_calls",
    "temperature",
    "tool_choice",
    "top_p",
)
"""What the response repeats of its request."""

OWN = SHARED | {"input", "instructions", "metadata", "parallel_tool_calls", "prompt_cache_options", "text"}

KNOWN = Known(OWN, HARMLESS, NEUTRAL, NUMBERS, CURES)

PARTS = ("input_text", "output_text")


@dataclass(slots=True)
class ResponseRequest(TextRequest):
    """A request that has been checked. `echo` is what the response repeats of it."""

    echo: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, body: Mapping[str, Any], longest: float, able: Abilities | None = None) -> ResponseRequest:
        """Checks the body of a request; the arguments are those of ChatRequest.parse.

        Raises:
            Refusal: 400, naming the parameter.
        """
        request = cls(model_of(body), _messages(body.get("input")))
        request.sampling.update(KNOWN.check(body))
        request._take_shared(body, longest, able or Abilities())
        request._take_own(body)
        return request

    def _take_own(self, body: Mapping[str, Any]) -> None:
        get = body.get
        if (instructions := get("instructions")) is not None:
            self.messages.insert(0, Message.system(check_text(instructions, "instructions")))
        if (most := self.sampling.pop("max_output_tokens", None)) is not None:
            self.sampling["max_tokens"] = most
        if (options := get("stream_options")) is not None:
            check_stream_options(options, self.stream)
        if (several := get("parallel_tool_calls")) is not None:
            flag(several, "parallel_tool_calls")
        _check_metadata(get("metadata"))
        _check_format(get("text"))
        _check_cache(get("prompt_cache_options"))
        self.echo = {name: body[name] for name in ECHOED if get(name) is not None}


# ---------------------------------------------------------------- input


def _messages(given: Any) -> list[Message]:
    if given is None:
        raise invalid('input is missing; send {"input": "..."}', "input")
    if isinstance(given, str):
        return [Message.user(check_text(given, "input"))]
    if not isinstance(given, list):
        raise invalid("input must be text, or a list of messages", "input")
    found = [(f"input[{i}]", item) for i, item in enumerate(given) if not _is_reasoning(item)]
    messages = [_message(item, where) for where, item in found]
    check_turn(messages, "input", found[-1][0] if found else "input", "user")
    return messages


def _is_reasoning(item: Any) -> bool:
    """Whether it is an earlier answer's reasoning, which clients send back along with that answer."""
    return isinstance(item, dict) and item.get("type") == "reasoning"


def _message(item: Any, where: str) -> Message:
    kind = item.get("type") if isinstance(item, dict) else None
    if kind not in (None, "message"):  # here is the place for calls of tools, and for what came of them
        shown = kind[:60] if isinstance(kind, str) else "something else"
        message = f"{where} is {shown}, and only messages are supported here"
        raise invalid(message, where, "unsupported_content")
    for name, nothing in (("tool_calls", []), ("tool_call_id", None)):
        if isinstance(item, dict) and item.get(name) not in (None, nothing):
            raise unsupported(f"{where}.{name}")
    return message_of(item, where, PARTS)


# ---------------------------------------------------------------- what needs more than a look


def _check_metadata(given: Any) -> None:
    if given is None:
        return
    if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
        raise invalid('metadata must be an object of texts, such as {"user": "7"}', "metadata")
    for name, value in given.items():
        check_text(name, "metadata")
        check_text(value, f"metadata.{name[:60]}")


def _check_format(given: Any) -> None:
    if given is None:
        return
    if not isinstance(given, dict):
        raise invalid('text must be an object, such as {"format": {"type": "text"}}', "text")
    for name, value in given.items():
        if value is not None and (name, value) not in (("format", {"type": "text"}), ("verbosity", "medium")):
            raise unsupported(f"text.{name[:60]}", "is not supported here, text comes as the flow gives it")


def _check_cache(given: Any) -> None:
    """How a prompt is cached changes nothing about the answer; whether there is one does."""
    if isinstance(given, dict) and given.get("prewarm"):
        raise unsupported(
            "prompt_cache_options.prewarm", "is not supported here, where every request is answered"
        )
    check_json(given, "prompt_cache_options")
