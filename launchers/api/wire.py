"""OpenAI's wire format for chat completions: the frames of a stream, and the whole answer.

A frame's JSON is written by hand around the one part that varies, its text: at a few microseconds a token,
encoding whole objects would be most of the service's work.
"""

from __future__ import annotations

from json.encoder import encode_basestring_ascii as encode
from typing import Any

from ...streaming.usage import TokenUsage

__all__ = ["DONE", "Frames", "completion", "encode", "finish_reason", "frame"]

DONE = "data: [DONE]\n\n"

KNOWN_REASONS = frozenset(("length", "tool_calls", "content_filter"))


def finish_reason(reason: str | None) -> str:
    """OpenAI's word for why a finished answer ended; `stop` for everything that it has no word for."""
    return reason if reason in KNOWN_REASONS else "stop"


def frame(json_text: str) -> str:
    """One server-sent event."""
    return f"data: {json_text}\n\n"


class Frames:
    """The frames of one streamed answer.

    A content frame is `before + encode(text) + after`.
    """

    __slots__ = ("_end", "_head", "after", "before")

    def __init__(self, run_id: str, model: str, created: int, include_usage: bool) -> None:
        self._head = (
            f'data: {{"id":"chatcmpl-{run_id}","object":"chat.completion.chunk","created":{created},'
            f'"model":{encode(model)},"choices":['
        )
        self._end = ',"usage":null}\n\n' if include_usage else "}\n\n"
        self.before = f'{self._head}{{"index":0,"delta":{{"content":'
        self.after = f'}},"logprobs":null,"finish_reason":null}}]{self._end}'

    def role(self) -> str:
        """The first frame."""
        return (
            f'{self._head}{{"index":0,"delta":{{"role":"assistant","content":"","refusal":null}},'
            f'"logprobs":null,"finish_reason":null}}]{self._end}'
        )

    def content(self, text: str) -> str:
        return f"{self.before}{encode(text)}{self.after}"

    def finish(self, reason: str) -> str:
        """The frame after the last text."""
        return (
            f'{self._head}{{"index":0,"delta":{{}},"logprobs":null,"finish_reason":"{reason}"}}]{self._end}'
        )

    def usage(self, usage: TokenUsage) -> str:
        """The frame without choices that `stream_options.include_usage` asks for."""
        return f'{self._head}],"usage":{_usage(usage)}}}\n\n'


def completion(run_id: str, model: str, created: int, text: str, reason: str, usage: TokenUsage) -> bytes:
    """The whole answer of a request that does not stream."""
    return (
        f'{{"id":"chatcmpl-{run_id}","object":"chat.completion","created":{created},"model":{encode(model)},'
        f'"choices":[{{"index":0,"message":{{"role":"assistant","content":{encode(text)},"refusal":null}},'
        f'"logprobs":null,"finish_reason":"{reason}"}}],"usage":{_usage(usage)}}}'
    ).encode("ascii")


def model_card(name: str, created: int) -> dict[str, Any]:
    """One entry of `/v1/models`."""
    return {"id": name, "object": "model", "created": created, "owned_by": "millrace"}


def _usage(usage: TokenUsage) -> str:
    return (
        f'{{"prompt_tokens":{usage.prompt_tokens},"completion_tokens":{usage.completion_tokens},'
        f'"total_tokens":{usage.total_tokens}}}'
    )
