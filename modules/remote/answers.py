"""Answers: the chunks of a stream, or a whole reply, as deltas."""

from __future__ import annotations

import json
import logging
import uuid
from dataclasses import dataclass
from typing import Any

from ...streaming.errors import RemoteError
from ...streaming.events import ToolCall, ToolCallDelta
from ...streaming.usage import TokenUsage
from ..local import Delta, FinishReason, TokenLogprobs
from ..local.stop_checker import StopChecker
from .addresses import Address
from .failures import Failure, failure_of_frame

__all__ = ["DONE", "AnswerReader"]

log = logging.getLogger("millrace.remote")

DONE = "[DONE]"
REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "tool_use": "tool_calls",
}
FAILED = {
    "content_filter": "the server's content filter cut the answer off",
    "abort": "the server gave the answer up",
    "error": "the server failed while it answered",
    "cancelled": "the server cancelled the answer",
}
"""Reasons with which an answer is not whole."""


@dataclass(slots=True)
class PartialCall:
    """A tool call of which not all has come."""

    id: str
    name: str
    arguments: str = ""

    def is_whole(self) -> bool:
        """Whether the arguments are JSON as they are."""
        try:
            json.loads(self.arguments)
        except (ValueError, RecursionError):
            return False
        return True


class AnswerReader:
    """Reads one answer, chunk by chunk; a reply in whole is one chunk.

    Stop strings are looked for here too, since some servers let them out or do not know `stop`.
    """

    def __init__(self, address: Address, stops: tuple[str, ...] = ()) -> None:
        self.usage = TokenUsage()
        self.counted = 0
        """Pieces that have come; about as many tokens, until the server says how many they were."""
        self._address = address
        self._stopper = StopChecker(stops)
        self._reason: str | None = None
        self._calls: dict[int, PartialCall] = {}

    @property
    def stopped(self) -> bool:
        """A stop string has come: the rest is of no interest."""
        return self._stopper.stopped

    @property
    def complete(self) -> bool:
        """The server has said how the answer ended; what may still come is the usage."""
        return self.stopped or self._reason is not None

    def read(self, data: str) -> Delta | None:
        """What a frame adds to the answer; None where it is nothing.

        Raises:
            Failure: the server says that it has failed, or something that is no chunk.
        """
        try:
            chunk = json.loads(data)
        except ValueError:
            raise self._nonsense(data) from None
        if not isinstance(chunk, dict):
            raise self._nonsense(data)
        if chunk.get("error"):
            raise failure_of_frame(self._address, chunk["error"])
        try:
            self._take_usage(chunk.get("usage"))
            choices = chunk.get("choices")
            return self._take_choice(choices[0]) if choices else None
        except (AttributeError, KeyError, TypeError, ValueError):
            raise self._nonsense(data) from None

    def end(self) -> Delta:
        """The last delta of an answer that is whole.

        Raises:
            Failure: the stream has ended before the answer.
        """
        if self.stopped:
            return self._last("stop")
        if self._reason is None:
            raise Failure(
                RemoteError(f"{self._address} ended the stream before the answer was complete"), again=True
            )
        if self._reason in FAILED:
            raise Failure(
                RemoteError(f"{self._address}: {FAILED[self._reason]} (finish_reason {self._reason!r})")
            )
        reason = REASONS.get(self._reason)
        if reason is None:
            log.warning("%s ended an answer as %r, which is taken for 'stop'", self._address, self._reason)
            reason = "stop"
        return self._last("tool_calls" if self._calls and reason == "stop" else reason)

    def _last(self, reason: FinishReason) -> Delta:
        cut = self.stopped or reason == "length"
        calls = [
            ToolCall(call.id, call.name, call.arguments or "{}")
            for _, call in sorted(self._calls.items())
            if not cut or call.is_whole()
        ]
        return Delta(
            "" if self.stopped else self._stopper.flush(),
            finish_reason=reason,
            usage=self.usage_so_far,
            tool_calls=tuple(calls),
        )

    @property
    def usage_so_far(self) -> TokenUsage:
        """As the server has said it, else as counted here."""
        return self.usage if self.usage.total_tokens else TokenUsage(0, self.counted)

    # ------------------------------------------------------------ pieces

    def _take_choice(self, choice: dict[str, Any]) -> Delta | None:
        if choice.get("index"):
            return None  # a second answer, which nobody has asked for
        if choice.get("finish_reason"):
            self._reason = str(choice["finish_reason"])
        piece = choice.get("delta") or choice.get("message") or {}
        text = piece.get("content") or piece.get("refusal") or choice.get("text") or ""
        reasoning = piece.get("reasoning_content") or piece.get("reasoning") or ""
        if not isinstance(text, str) or not isinstance(reasoning, str):
            raise TypeError
        calls = tuple(self._take_call(call) for call in piece.get("tool_calls") or ())
        reports = tuple(map(_report, (choice.get("logprobs") or {}).get("content") or ()))
        if not text and not reasoning and not calls and not reports:
            return None
        self.counted += 1
        said = self._stopper.push(text) if text else ""
        return Delta(said, reasoning=reasoning, tool_calls=calls, logprobs=reports)

    def _take_call(self, piece: dict[str, Any]) -> ToolCallDelta:
        function = piece.get("function") or {}
        arguments, name, given = function.get("arguments") or "", function.get("name"), piece.get("id")
        if isinstance(arguments, dict):
            arguments = json.dumps(arguments)
        index = self._index_of(piece.get("index"), given, name)
        call = self._calls.get(index)
        if call is None:
            call = self._calls[index] = PartialCall(given or f"call_{uuid.uuid4().hex[:24]}", name or "")
            given = call.id
        elif name and not call.name:
            call.name = name
        call.arguments += arguments
        return ToolCallDelta(index, given or None, name or None, arguments)

    def _index_of(self, index: int | None, given: str | None, name: str | None) -> int:
        """Which call a piece belongs to: some servers leave the index out, or give 0 to all that are parallel."""
        known = next((at for at, call in self._calls.items() if call.id == given), None)
        if known is not None:
            return known
        following = max(self._calls, default=-1) + 1
        if index is None:
            return following if name or not self._calls else following - 1
        return following if given and name and index in self._calls else int(index)

    def _take_usage(self, usage: Any) -> None:
        if usage:
            self.usage = TokenUsage(
                int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
            )

    def _nonsense(self, data: str) -> Failure:
        shown = self._address.hide(" ".join(data.split()))
        shown = shown if len(shown) <= 200 else f"{shown[:200]}..."
        return Failure(RemoteError(f"{self._address} sent what is no chunk of an answer: {shown}"))


def _report(given: dict[str, Any]) -> TokenLogprobs:
    """The log-probabilities of one token, as OpenAI has them; a server knows its tokens by their text."""
    text, data = given["token"], given.get("bytes")
    if not isinstance(text, str) or not isinstance(data, list | None):
        raise TypeError
    top = tuple(map(_report, given.get("top_logprobs") or ()))
    return TokenLogprobs(None, float(given["logprob"]), top, text, None if data is None else bytes(data))
