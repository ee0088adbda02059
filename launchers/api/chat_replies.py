"""What /v1/chat/completions answers: the frames of a stream, or one completion."""

from __future__ import annotations

import time

from ...streaming.events import Event, RunFinished, TextDelta
from .chat_requests import ChatRequest
from .refusals import Refusal
from .values import as_text
from .wire import DONE, Frames, completion, encode, finish_reason, frame

__all__ = ["ChatStream", "ChatWhole"]


class ChatStream:
    """A StreamDialect: OpenAI's chunks. Each carries the `seq` of its event as the id of the server-sent event, from
    which /v1/runs/{id}/events goes on.
    """

    def __init__(self, request: ChatRequest, run_id: str, model: str) -> None:
        self._frames = frames = Frames(run_id, model, int(time.time()), request.include_usage)
        self._before, self._after = frames.before, frames.after
        self._include_usage = request.include_usage
        self._silent = True

    def begin(self) -> str:
        return self._frames.role()

    def piece(self, event: Event) -> str:
        if type(event) is TextDelta and event.output and event.text:
            self._silent = False
            return f"id: {event.seq}\n{self._before}{encode(event.text)}{self._after}"
        return ""

    def end(self, finished: RunFinished) -> str:
        frames, parts = self._frames, []
        if self._silent:  # nothing was streamed: the result is the answer
            text = as_text(finished.result)
            parts += [frames.content(text)] if text else []
        parts.append(frames.finish(finish_reason(finished.reason)))
        if self._include_usage:
            parts.append(frames.usage(finished.usage))
        return "".join([*parts, DONE])

    def failure(self, finished: RunFinished, refusal: Refusal) -> str:
        return frame(refusal.as_json())


class ChatWhole:
    """A WholeDialect: one completion."""

    def __init__(self, run_id: str, model: str) -> None:
        self._run_id, self._model, self._created = run_id, model, int(time.time())
        self._texts: list[str] = []

    def hear(self, event: Event) -> bool:
        if type(event) is TextDelta and event.output:
            self._texts.append(event.text)
            return True
        return False

    def body(self, finished: RunFinished) -> bytes:
        text = "".join(self._texts) if self._texts else as_text(finished.result)
        reason = finish_reason(finished.reason)
        return completion(self._run_id, self._model, self._created, text, reason, finished.usage)
