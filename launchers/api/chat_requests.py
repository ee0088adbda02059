"""What a request to /v1/chat/completions may say, checked before anything is done about it; and what requests for an
answer in text have in common.

Every parameter is used, harmless to leave unused, or refused by name: nothing that would change the answer is
silently ignored. What a flow can do decides as well: one that ends in no model is given no tools.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from ...streaming.messages import Message
from ..abilities import Abilities
from .chat_messages import conversation_of
from .chat_tools import Tool, schema_of, tool_choice_of, tools_of
from .parameters import Known, Number, check_text, flag, invalid, unsupported

__all__ = [
    "CUTS",
    "HARMLESS",
    "LISTS",
    "NEUTRAL",
    "NUMBERS",
    "OWN",
    "SHARED",
    "SHORTEST_DEADLINE",
    "ChatRequest",
    "TextRequest",
    "check_stream_options",
    "check_unbound",
    "model_of",
]

NUMBERS: Mapping[str, Number] = {
    "temperature": Number(0, 2),
    "top_p": Number(1e-9, 1),
    "top_k": Number(0, 2**31 - 1, whole=True),
    "min_p": Number(0, 1),
    "presence_penalty": Number(-2, 2),
    "frequency_penalty": Number(-2, 2),
    "repetition_penalty": Number(0.01, 10),
    "seed": Number(-(2**63), 2**64 - 1, whole=True),
    "max_tokens": Number(1, 2**31 - 1, whole=True),
    "max_completion_tokens": Number(1, 2**31 - 1, whole=True),
}
"""Parameters that go to the model as they are."""

HARMLESS = frozenset(
    [
        "user",
        "metadata",
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
    ]
)
"""Accepted and unused: they change nothing about the answer."""

NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "store": (False,),
    "parallel_tool_calls": (True,),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "reasoning_effort": ("none",),
    "verbosity": (),
    "moderation": (),
    "web_search_options": (),
}
"""Parameters of OpenAI's that are not supported, with the values that ask for nothing. Null is always one."""

SHARED = frozenset(["model", "stream", "stream_options", "stop", "logit_bias", "timeout"])
"""What all requests for an answer in text may say, besides numbers."""

FORM = frozenset(["tools", "tool_choice", "response_format", "logprobs", "top_logprobs"])
"""What says that the answer is to be more than text."""

OWN = SHARED | FORM | {"messages", "n"}
"""Parameters that need more than a look at their own value."""

LISTS = ("stop", "stop_token_ids")
CUTS = ("stop", "max_tokens", "max_completion_tokens", "max_output_tokens")
"""What has an answer end early."""

KNOWN = Known(OWN, HARMLESS, NEUTRAL, NUMBERS)

CHOICES = Number(1, 16, whole=True)
"""How many answers one request may ask for."""
TOP_LOGPROBS = Number(0, 20, whole=True)

MOST_STOPS = 16
SHORTEST_DEADLINE = 0.001


@dataclass(slots=True)
class TextRequest:
    """A request for an answer in text that has been checked. `messages` is everything, the last one is the user's or a
    tool's; `sampling` is for the run (`Options`).
    """

    model: str | None
    messages: list[Message]
    sampling: dict[str, Any] = field(default_factory=dict)
    timeout: float | None = None
    stream: bool = False

    @property
    def question(self) -> str | Message:
        """What goes into a flow that takes no list of messages: the user's text, or a tool's message."""
        last = self.messages[-1]
        return last.content if last.role == "user" else last

    def _take_shared(self, body: Mapping[str, Any], longest: float, able: Abilities) -> None:
        """The parameters that need more than a look at their own value."""
        get, sampling = body.get, self.sampling
        if not able.settings:
            check_unbound(body, CUTS, able)
        if (stream := get("stream")) is not None:
            self.stream = flag(stream, "stream")
        if (timeout := get("timeout")) is not None:
            self.timeout = Number(SHORTEST_DEADLINE, longest).check(timeout, "timeout")
        if (stop := get("stop")) is not None:
            sampling["stop"] = _stop(stop)
        if (bias := get("logit_bias")) is not None:
            sampling["logit_bias"] = _logit_bias(bias)


@dataclass(slots=True)
class ChatRequest(TextRequest):
    """A request to /v1/chat/completions that has been checked.

    `tools` and `tool_choice` are for the run (`Options`); `n` is how many answers are wanted.
    """

    include_usage: bool = False
    n: int = 1
    tools: Sequence[Tool] | None = None
    tool_choice: str | Mapping[str, Any] | None = None

    @classmethod
    def parse(cls, body: Mapping[str, Any], longest: float, able: Abilities | None = None) -> ChatRequest:
        """Checks the body of a request.

        Args:
            longest: the deadline, in seconds, that it may ask for at most.
            able: what the flow can do; nothing beyond text by default.

        Raises:
            Refusal: 400, naming the parameter.
        """
        able = able or Abilities()
        request = cls(model_of(body), conversation_of(body.get("messages"), able.results))
        request.sampling.update(KNOWN.check(body))
        request._take_shared(body, longest, able)
        request._take_own(body)
        if not FORM.isdisjoint(body):
            request._take_form(body, able)
        return request

    def _take_own(self, body: Mapping[str, Any]) -> None:
        sampling = self.sampling
        if (options := body.get("stream_options")) is not None:
            check_stream_options(options, self.stream, "include_usage")
            self.include_usage = bool(options.get("include_usage"))
        if (most := sampling.pop("max_completion_tokens", None)) is not None:
            if sampling.get("max_tokens", most) != most:
                raise invalid("max_tokens and max_completion_tokens differ; give one of them", "max_tokens")
            sampling["max_tokens"] = most
        if (n := body.get("n")) is not None:
            self.n = CHOICES.check(n, "n")

    def _take_form(self, body: Mapping[str, Any], able: Abilities) -> None:
        """What the answer is to be beside text."""
        self.tools = tools_of(body.get("tools"), able)
        self.tool_choice = tool_choice_of(body.get("tool_choice"), self.tools, able)
        if (form := body.get("response_format")) is not None and (
            schema := schema_of(form, able)
        ) is not None:
            self.sampling["json_schema"] = schema
        most = body.get("top_logprobs")
        rivals = 0 if most is None else TOP_LOGPROBS.check(most, "top_logprobs")
        if (wanted := body.get("logprobs")) is not None and flag(wanted, "logprobs"):
            if not able.logprobs:
                raise unsupported("logprobs", f"cannot be told: {able.lack}")
            self.sampling["logprobs"] = rivals
        elif rivals:
            raise invalid("top_logprobs needs logprobs: true", "top_logprobs")


def model_of(body: Mapping[str, Any]) -> str | None:
    """The model's name, where the client has given one."""
    model = body.get("model")
    if model is not None and not isinstance(model, str):
        raise invalid("model must be a name; GET /v1/models lists them", "model")
    return model


def check_unbound(given: Mapping[str, Any], names: Sequence[str], able: Abilities, where: str = "") -> None:
    """What an answer would have to keep to is not asked for, where nothing that gives it could; `where` it stands.

    What says how to sample is none of these `names`: where nothing is sampled it changes nothing.

    Raises:
        Refusal: 400, naming the parameter.
    """
    for name in names:
        value = given.get(name)
        if value is not None and not (name in LISTS and value == []):
            raise unsupported(f"{where}{name}", f"cannot be kept to: {able.lack}")


def check_stream_options(options: Any, stream: bool, *names: str) -> None:
    """`names` are the flags that the endpoint has, besides one that changes nothing.

    Raises:
        Refusal: 400, naming the option.
    """
    known = (*names, "include_obfuscation")
    if not isinstance(options, dict):
        raise invalid(f'stream_options must be an object, such as {{"{known[0]}": true}}', "stream_options")
    if not stream:
        raise invalid("stream_options needs stream: true", "stream_options")
    for name, value in options.items():
        if name not in known or not isinstance(value, bool | None):
            raise invalid(
                f"stream_options.{name[:60]} is not supported; use {known[0]}: true or false",
                f"stream_options.{name[:60]}",
            )


# ---------------------------------------------------------------- sampling


def _stop(stop: Any) -> list[str]:
    strings = stop if isinstance(stop, list) else [stop]
    for text in strings:
        if not check_text(text, "stop"):
            raise invalid("stop must be a text or a list of texts that are not empty", "stop")
    if len(strings) > MOST_STOPS:
        raise invalid(f"stop may have {MOST_STOPS} texts at most", "stop")
    return strings


def _logit_bias(bias: Any) -> dict[int, float]:
    if not isinstance(bias, dict):
        _refuse_bias()
    checked: dict[int, float] = {}
    for token, value in bias.items():
        if not token.isascii() or not token.isdigit() or len(token) > 9:
            _refuse_bias()
        checked[int(token)] = Number(-100, 100).check(value, f"logit_bias.{token}")
    return checked


def _refuse_bias() -> NoReturn:
    raise invalid('logit_bias must map token ids to numbers, such as {"42": -100}', "logit_bias")
