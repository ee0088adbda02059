"""What /v1/chat/completions answers: the frames of a stream, or one completion."""

from __future__ import annotations

import time
from typing import Any

from ...streaming.events import (
    Event,
    Logprobs,
    Path,
    ReasoningDelta,
    RunFinished,
    TextDelta,
    ToolCall,
    ToolCallDelta,
)
from .chat_requests import ChatRequest
from .refusals import Refusal
from .values import as_text
from .wire import DONE, Frames, choice, completion, encode, finish_reason, frame

__all__ = ["ChatStream", "ChatWhole"]

BESIDE = (ReasoningDelta, Logprobs, ToolCallDelta, ToolCall)
"""What an answer is made of beside text."""


class ChatStream:
    """A StreamDialect: OpenAI's chunks. Each carries the `seq` of its event as the id of the server-sent event, from
    which /v1/runs/{id}/events goes on.
    """

    def __init__(self, request: ChatRequest, run_id: str, model: str) -> None:
        created, include_usage = int(time.time()), request.include_usage
        self._choices = [
            ChoiceStream(Frames(run_id, model, created, include_usage, i)) for i in range(request.n)
        ]
        self._include_usage = include_usage
        self._one = self._choices[0] if request.n == 1 else None
        frames = self._choices[0].frames
        self._before, self._after = frames.before, frames.after

    def begin(self) -> str:
        return "".join(one.frames.role() for one in self._choices)

    def piece(self, event: Event) -> str:
        one = self._one
        if type(event) is TextDelta:
            if not event.output or not event.text:
                return ""
            if one is None or one.logprobs:
                return self._numbered(event, self._choice_at(event.path).text(event.text))
            one.silent = False
            return f"id: {event.seq}\n{self._before}{encode(event.text)}{self._after}"
        if isinstance(event, BESIDE) and event.output:
            return self._numbered(event, self._choice_at(event.path).beside(event))
        return ""

    def _choice_at(self, path: Path) -> ChoiceStream:
        return self._choices[place_of(path)] if self._one is None else self._one

    def _numbered(self, event: Event, text: str) -> str:
        return f"id: {event.seq}\n{text}" if text else ""

    def end(self, finished: RunFinished) -> str:
        results = results_of(finished, len(self._choices))
        parts = [one.end(*result) for one, result in zip(self._choices, results, strict=True)]
        if self._include_usage:
            parts.append(self._choices[0].frames.usage(finished.usage))
        return "".join([*parts, DONE])

    def failure(self, finished: RunFinished, refusal: Refusal) -> str:
        return frame(refusal.as_json())

    lost = failure


class ChoiceStream:
    """One choice of a streamed answer."""

    def __init__(self, frames: Frames) -> None:
        self.frames = frames
        self.silent = True
        self.logprobs: list[Any] = []
        self._calls: list[str] = []

    def text(self, text: str) -> str:
        self.silent = False
        likely, self.logprobs = self.logprobs, []
        return self.frames.content(text, likely)

    def beside(self, event: Event) -> str:
        match event:
            case Logprobs():
                self.logprobs += event.tokens
                return ""
            case ReasoningDelta():
                return self.frames.delta({"reasoning_content": event.text})
            case ToolCallDelta():
                return self._call_piece(event)
            case ToolCall() if event.id not in self._calls:  # it did not come in pieces
                self._calls.append(event.id)
                return self.frames.delta({"tool_calls": [_call(event, len(self._calls) - 1)]})
        return ""

    def _call_piece(self, event: ToolCallDelta) -> str:
        self.silent = False
        call: dict[str, Any] = {"index": event.index, "function": {"arguments": event.arguments}}
        if event.id is not None:
            self._calls.append(event.id)
            call |= {"id": event.id, "type": "function"}
        if event.name is not None:
            call["function"]["name"] = event.name
        return self.frames.delta({"tool_calls": [call]})

    def end(self, result: Any, reason: str | None) -> str:
        rest = ""
        if self.silent and not self._calls:  # nothing was streamed: the result is the answer
            rest = as_text(result)
        parts = [self.text(rest)] if rest or self.logprobs else []
        return "".join([*parts, self.frames.finish(finish_reason(reason))])


class ChatWhole:
    """A WholeDialect: one completion."""

    def __init__(self, request: ChatRequest, run_id: str, model: str) -> None:
        self._run_id, self._model, self._created = run_id, model, int(time.time())
        self._choices = [ChoiceWhole()] if request.n == 1 else [ChoiceWhole() for _ in range(request.n)]

    def hear(self, event: Event) -> bool:
        kind = type(event)
        if (kind is not TextDelta and kind not in BESIDE) or not getattr(event, "output", False):
            return False
        several = len(self._choices) > 1
        return self._choices[place_of(event.path) if several else 0].hear(event)

    def body(self, finished: RunFinished) -> bytes:
        if len(self._choices) == 1:  # as results_of has it; most are
            choices = [self._choices[0].written(0, finished.result, finished.reason)]
        else:
            results = results_of(finished, len(self._choices))
            choices = [
                one.written(i, *result)
                for i, (one, result) in enumerate(zip(self._choices, results, strict=True))
            ]
        return completion(self._run_id, self._model, self._created, choices, finished.usage)


class ChoiceWhole:
    """One choice of a whole answer."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._beside: list[Event] = []

    def hear(self, event: Event) -> bool:
        if type(event) is TextDelta:
            self._texts.append(event.text)
            return True
        self._beside.append(event)
        return False

    def written(self, index: int, result: Any, reason: str | None) -> str:
        text = "".join(self._texts) if self._texts else as_text(result)
        if not self._beside:
            return choice(index, text, finish_reason(reason))
        reasoning = [event.text for event in self._beside if isinstance(event, ReasoningDelta)]
        calls = [_call(event) for event in self._beside if isinstance(event, ToolCall)]
        likely = [one for event in self._beside if isinstance(event, Logprobs) for one in event.tokens]
        more: dict[str, Any] = {}
        if reasoning:
            more["reasoning_content"] = "".join(reasoning)
        if calls:
            more["tool_calls"] = calls
        said = "".join(self._texts) or None if calls else text
        return choice(index, said, finish_reason(reason), more, likely)


def results_of(finished: RunFinished, n: int) -> list[tuple[Any, str | None]]:
    """What each choice has come to, and why it ended."""
    if n == 1:
        return [(finished.result, finished.reason)]
    return [(each["text"], each["finish_reason"]) for each in finished.result]


def place_of(path: Path) -> int:
    """The number of the choice that an event belongs to, which stands first in its path."""
    first = path[0]
    assert isinstance(first, int)
    return first


def _call(call: ToolCall, index: int | None = None) -> dict[str, Any]:
    """A whole call; with its number where it stands in a stream."""
    number = {} if index is None else {"index": index}
    function = {"name": call.name, "arguments": call.arguments}
    return {**number, "id": call.id, "type": "function", "function": function}
