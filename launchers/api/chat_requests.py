"""What a request to /v1/chat/completions may say, checked before anything is done about it; and what requests for an
answer in text have in common.

Every parameter is used, harmless to leave unused, or refused by name: nothing that would change the answer is
silently ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn

from ...streaming.messages import Message
from .refusals import Refusal

__all__ = ["ChatRequest", "TextRequest"]


class Number(NamedTuple):
    """The range of a numeric parameter; `whole` for integers."""

    low: float
    high: float
    whole: bool = False

    def check(self, value: Any, name: str) -> Any:
        kinds = (int,) if self.whole else (int, float)
        if type(value) not in kinds or not self.low <= value <= self.high:
            kind = "a whole number" if self.whole else "a number"
            raise invalid(f"{name} must be {kind} from {self.low:g} to {self.high:g}", name)
        return value

    def schema(self) -> dict[str, Any]:
        return {
            "type": "integer" if self.whole else "number",
            "minimum": self.low,
            "maximum": self.high,
        }


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
        "prompt_cache_retention",
        "parallel_tool_calls",
    ]
)
"""Accepted and unused: they change nothing about the answer."""

NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "store": (False,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "reasoning_effort": ("none",),
    "web_search_options": (),
}
"""Parameters of OpenAI's that are not supported, with the values that ask for nothing. Null is always one."""

SHARED = frozenset(["model", "stream", "stream_options", "stop", "logit_bias", "timeout"])
"""What all requests for an answer in text may say, besides numbers."""

OWN = SHARED | {"messages"}

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}

NO_CURES: Mapping[str, str] = {}

MOST_STOPS = 16
SHORTEST_DEADLINE = 0.001


@dataclass(slots=True)
class TextRequest:
    """A request for an answer in text that has been checked. `messages` is everything, the last one is the user's."""

    model: str | None
    messages: list[Message]
    sampling: dict[str, Any] = field(default_factory=dict)
    timeout: float | None = None
    stream: bool = False

    def _take_shared(self, body: Mapping[str, Any], longest: float) -> None:
        """The parameters that need more than a look at their own value."""
        get, sampling = body.get, self.sampling
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
    """A request to /v1/chat/completions that has been checked."""

    include_usage: bool = False

    @classmethod
    def parse(cls, body: Mapping[str, Any], longest: float) -> ChatRequest:
        """Checks the body of a request; `longest` is the deadline, in seconds, that it may ask for at most.

        Raises:
            Refusal: 400, naming the parameter.
        """
        request = cls(model_of(body), _messages(body.get("messages")))
        for name, value in body.items():
            if value is None or name in HARMLESS:
                continue
            number = NUMBERS.get(name)
            if number is not None:
                request.sampling[name] = number.check(value, name)
            elif name not in OWN:
                refuse_unsupported(name, value, NEUTRAL)
        request._take_shared(body, longest)
        request._take_own(body)
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


def invalid(message: str, param: str | None, code: str = "invalid_value") -> Refusal:
    return Refusal(400, message, code, param)


def refuse_unsupported(
    name: str, value: Any, neutral: Mapping[str, tuple[Any, ...]], cures: Mapping[str, str] = NO_CURES
) -> None:
    """Refuses a parameter that is not supported, unless it asks for nothing: has one of its `neutral` values.

    Raises:
        Refusal: 400, with the parameter's cure, by default to leave it out.
    """
    cure = cures.get(name, "leave it out")
    if name not in neutral:
        raise invalid(f"unknown parameter {name[:60]!r}; {cure}", name[:60], "unknown_parameter")
    if not any(type(value) is type(nothing) and value == nothing for nothing in neutral[name]):
        raise invalid(f"{name} is not supported here; {cure}", name, "unsupported_parameter")


def model_of(body: Mapping[str, Any]) -> str | None:
    """The model's name, where the client has given one."""
    model = body.get("model")
    if model is not None and not isinstance(model, str):
        raise invalid("model must be a name; GET /v1/models lists them", "model")
    return model


def flag(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise invalid(f"{name} must be true or false", name)
    return value


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


# ---------------------------------------------------------------- messages


def _messages(given: Any) -> list[Message]:
    if given is None:
        raise invalid('messages is missing; send [{"role": "user", "content": "..."}]', "messages")
    messages = messages_of(given, "messages")
    check_turn(messages, "messages", f"messages[{len(messages) - 1}]")
    return messages


def check_turn(messages: list[Message], name: str, last: str) -> None:
    """Whether it is the model's turn to speak; `last` is where the last message stands.

    Raises:
        Refusal: 400, naming the part.
    """
    if not messages:
        raise invalid(f"{name} is empty; it needs at least one message, of role user", name)
    if messages[-1].role != "user":
        raise invalid(f"the last message must be of role user, not {messages[-1].role}", f"{last}.role")


def messages_of(given: Any, name: str) -> list[Message]:
    """Messages as a client sends them, in the field `name`.

    Raises:
        Refusal: 400, naming the part.
    """
    if not isinstance(given, list):
        raise invalid(f"{name} must be a list of objects with role and content", name)
    return [message_of(item, f"{name}[{i}]") for i, item in enumerate(given)]


def message_of(item: Any, where: str, parts: tuple[str, ...] = ("text",)) -> Message:
    """One of them, at `where` in the request; `parts` are the kinds of parts that its content may have.

    Raises:
        Refusal: 400, naming the part.
    """
    if not isinstance(item, dict):
        raise invalid(f"{where} must be an object with role and content", where)
    role = item.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise invalid(f"{where}.role must be one of {', '.join(ROLES)}", f"{where}.role")
    for name in ("tool_calls", "function_call", "audio"):
        if item.get(name):
            raise invalid(
                f"{where}.{name} is not supported here; leave such messages out",
                f"{where}.{name}",
                "unsupported_parameter",
            )
    return Message(ROLES[role], _content(item.get("content"), f"{where}.content", parts))  # type: ignore[arg-type]


def _content(content: Any, where: str, parts: tuple[str, ...]) -> str:
    if isinstance(content, list):
        return "".join(_part(part, f"{where}[{i}]", parts) for i, part in enumerate(content))
    return check_text(content, where)


def _part(part: Any, where: str, parts: tuple[str, ...]) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind not in parts:
        shown = kind[:60] if isinstance(kind, str) else "something else"
        raise invalid(
            f"{where} is {shown}, and only parts of type {' or '.join(parts)} are supported here",
            where,
            "unsupported_content",
        )
    return check_text(part.get("text"), f"{where}.text")


def check_text(text: Any, where: str) -> str:
    """Text that can be encoded: half of a surrogate pair cannot."""
    if not isinstance(text, str):
        raise invalid(f"{where} must be text", where)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise invalid(f"{where} has half a surrogate pair at character {error.start}", where) from None
    return text


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
