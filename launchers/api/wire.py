"""OpenAI's wire format for chat completions: the frames of a stream, and the whole answer.

A frame's JSON is written by hand around the one part that varies, its text: at a few microseconds a token,
encoding whole objects would be most of the service's work.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from json.encoder import encode_basestring_ascii as encode
from typing import Any

from ...streaming.usage import TokenUsage

__all__ = [
    "DONE",
    "Frames",
    "as_json",
    "choice",
    "completion",
    "encode",
    "finish_reason",
    "frame",
    "model_card",
]

DONE = "data: [DONE]\n\n"

KNOWN_REASONS = frozenset(("length", "tool_calls", "content_filter"))


def finish_reason(reason: str | None) -> str:
    """OpenAI's word for why a finished answer ended; `stop` for everything that it has no word for."""
    return reason if reason in KNOWN_REASONS else "stop"


def as_json(value: Any) -> str:
    """One line of JSON, in ASCII."""
    return json.dumps(value, separators=(",", ":"))


def frame(json_text: str) -> str:
    """One server-sent event."""
    return f"data: {json_text}\n\n"


class Frames:
    """The frames of one choice of a streamed answer.

    A content frame is `before + encode(text) + after`.
    """

    __slots__ = ("_choice", "_end", "_head", "after", "before")

    def __init__(self, run_id: str, model: str, created: int, include_usage: bool, index: int = 0) -> None:
        self._head = (
            f'data: {{"id":"chatcmpl-{run_id}","object":"chat.completion.chunk","created":{created},'
            f'"model":{encode(model)},"choices":['
        )
        self._end = ',"usage":null}\n\n' if include_usage else "}\n\n"
        self._choice = f'{self._head}{{"index":{index},"delta":'
        self.before = f'{self._choice}{{"content":'
        self.after = f'}},"logprobs":null,"finish_reason":null}}]{self._end}'

    def role(self) -> str:
        """The first frame."""
        return f'{self._choice}{{"role":"assistant","content":"","refusal":null{self.after}'

    def content(self, text: str, logprobs: Sequence[Any] = ()) -> str:
        """A piece of text, with how likely its tokens were."""
        if not logprobs:
            return f"{self.before}{encode(text)}{self.after}"
        likely = as_json({"content": list(logprobs), "refusal": None})
        return f'{self.before}{encode(text)}}},"logprobs":{likely},"finish_reason":null}}]{self._end}'

    def delta(self, fields: Mapping[str, Any]) -> str:
        """A piece of something else than text."""
        return f"{self._choice}{as_json(fields)[:-1]}{self.after}"

    def finish(self, reason: str) -> str:
        """The frame after the choice's last piece."""
        return f'{self._choice}{{}},"logprobs":null,"finish_reason":"{reason}"}}]{self._end}'

    def usage(self, usage: TokenUsage) -> str:
        """The frame without choices that `stream_options.include_usage` asks for."""
        return f'{self._head}],"usage":{_usage(usage)}}}\n\n'


def completion(run_id: str, model: str, created: int, choices: Sequence[str], usage: TokenUsage) -> bytes:
    """The whole answer of a request that does not stream; `choices` as `choice` writes them."""
    return (
        f'{{"id":"chatcmpl-{run_id}","object":"chat.completion","created":{created},"model":{encode(model)},'
        f'"choices":[{",".join(choices)}],"usage":{_usage(usage)}}}'
    ).encode("ascii")


def choice(
    index: int,
    text: str | None,
    reason: str,
    more: Mapping[str, Any] | None = None,
    logprobs: Sequence[Any] = (),
) -> str:
    """One choice of a whole answer; `more` are further fields of its message."""
    said = "null" if text is None else encode(text)
    further = "," + as_json(more)[1:-1] if more else ""
    likely = as_json({"content": list(logprobs), "refusal": None}) if logprobs else "null"
    return (
        f'{{"index":{index},"message":{{"role":"assistant","content":{said},"refusal":null{further}}},'
        f'"logprobs":{likely},"finish_reason":"{reason}"}}'
    )


def model_card(name: str, created: int) -> dict[str, Any]:
    """One entry of `/v1/models`."""
    return {"id": name, "object": "model", "created": created, "owned_by": "millrace"}


def _usage(usage: TokenUsage) -> str:
    return (
        f'{{"prompt_tokens":{usage.prompt_tokens},"completion_tokens":{usage.completion_tokens},'
        f'"total_tokens":{usage.total_tokens}}}'
    )
