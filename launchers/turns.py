"""One turn of a chat: a question, and all that its run said, ready to be shown.

Nothing here knows a web page. A page asks a turn for its `parts`, its `text`, its `state` and its `note`, and the
next turn asks for its messages.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from ..streaming.errors import ContextLengthExceeded, Overloaded, RunCancelled, RunTimeout
from ..streaming.events import (
    Data,
    Event,
    Path,
    Progress,
    ReasoningDelta,
    RunFinished,
    StepFinished,
    TextDelta,
)
from ..streaming.messages import Message
from ..streaming.usage import TokenUsage
from .markup import code_block

__all__ = ["Failure", "Part", "Turn", "failure_of"]

State = Literal["waiting", "running", "stopping", "done", "stopped", "failed"]


@dataclass(slots=True)
class Part:
    """Something said on the way to the answer: a model's reasoning, or what one step streamed.

    `seconds` is how long it took; None while it goes on.
    """

    title: str
    path: Path
    reasoning: bool = False
    text: str = ""
    began: float = field(default_factory=time.perf_counter)
    seconds: float | None = None

    def close(self) -> None:
        if self.seconds is None:
            self.seconds = time.perf_counter() - self.began


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a turn gave no whole answer, and what its user can do."""

    what: str
    advice: str = ""


class Turn:
    """A question on its way to an answer."""

    def __init__(self, question: str) -> None:
        self.question = question
        self.text = ""
        self.parts: list[Part] = []
        self.state: State = "waiting"
        self.status = ""
        self.failure: Failure | None = None
        self.usage = TokenUsage()
        self.began = time.perf_counter()
        self.first: float | None = None
        self.seconds: float | None = None

    @property
    def over(self) -> bool:
        return self.state in ("done", "stopped", "failed")

    # ------------------------------------------------------------ what happens to it

    def begin(self) -> None:
        """Its run has started; until then it waits for a place."""
        if self.state == "waiting":
            self.state, self.status = "running", ""

    def stopping(self) -> None:
        """Somebody has stopped it; what still comes is not shown."""
        if not self.over:
            self.state, self.status = "stopping", "stopping"

    def take(self, event: Event) -> None:
        """Takes what the run said. A failed run also raises its error, which comes by `end`."""
        if isinstance(event, RunFinished):
            self._finish(event)
        elif self.state != "running":
            return
        elif isinstance(event, TextDelta):
            if event.output:
                self._first()
                self.text += event.text
            else:
                self._part(event.path, False).text += event.text
        elif isinstance(event, ReasoningDelta):
            self._first()
            self._part(event.path, True).text += event.text
        elif isinstance(event, Data):
            self._data(event)
        elif isinstance(event, Progress):
            self.status = _progress(event)
        elif isinstance(event, StepFinished):
            self._close_parts(event.path)

    def end(self, failure: Failure | None = None) -> None:
        """It is over; without a failure it was stopped."""
        if self.over:
            return
        self.failure = failure
        self.state = "stopped" if failure is None else "failed"
        self._close()

    def _finish(self, event: RunFinished) -> None:
        self.usage = event.usage
        if event.status == "done":
            if not self.text and event.result is not None:
                self._first()
                self.text = event.result if isinstance(event.result, str) else _as_text(event.result)
            self.state = "done"
            self._close()
        elif event.status == "cancelled":
            self.end()

    def _close(self) -> None:
        self.status = ""
        self.seconds = time.perf_counter() - self.began
        self._close_parts(())

    # ------------------------------------------------------------ parts

    def _first(self) -> None:
        self.status = ""
        if self.first is None:
            self.first = time.perf_counter() - self.began

    def _part(self, path: Path, reasoning: bool) -> Part:
        """The part that goes on, or a new one: parts stand in the order in which they began to speak."""
        self.status = ""
        last = self.parts[-1] if self.parts else None
        if last is not None and last.path == path and last.reasoning == reasoning and last.seconds is None:
            return last
        if last is not None and last.reasoning:
            last.close()
        part = Part("Reasoning" if reasoning else _title(path), path, reasoning)
        self.parts.append(part)
        return part

    def _data(self, event: Data) -> None:
        if not event.output:
            part = self._part(event.path, False)
            part.text += ("\n" if part.text else "") + _as_text(event.value)

    def _close_parts(self, path: Path) -> None:
        for part in self.parts:
            if part.path[: len(path)] == path:
                part.close()

    # ------------------------------------------------------------ what others see of it

    def messages(self) -> Iterator[Message]:
        """The turn in the history of the next one; partial text is kept, and marked as such."""
        if self.text:
            yield Message.user(self.question)
            yield Message.assistant(self.text, **({} if self.state == "done" else {"status": self.state}))

    @property
    def note(self) -> str:
        """The quiet line under the answer: how it ended, tokens, the time to the first word."""
        words = ["stopped"] if self.state == "stopped" else []
        tokens = self.usage.completion_tokens
        if self.over and tokens:
            words.append(f"{tokens} token{'s' if tokens > 1 else ''}")
        if self.over and self.text and self.first is not None:
            words.append(f"first after {_seconds(self.first)}")
        return " · ".join(words)


def failure_of(error: BaseException, debug: bool = False) -> Failure:
    """What a chat says about an error. What a step raised may hold anything: it is named by its type alone, and
    its text stays in the log unless `debug`.
    """
    match error:
        case Overloaded():
            seconds = max(1, math.ceil(error.retry_after))
            return Failure("Busy right now", f"Try again in {seconds} second{'s' if seconds > 1 else ''}.")
        case ContextLengthExceeded():
            return Failure(
                "This is too long for the model", "Ask for less, or clear the chat and begin anew."
            )
        case RunTimeout():
            return Failure("The answer took too long and was stopped", "Ask for less.")
        case RunCancelled():
            return Failure("The answer was stopped", "Ask again.")
    if debug:
        return Failure(f"{type(error).__name__}: {error}")
    return Failure(f"The flow failed with {type(error).__name__}", "The server's log says more.")


def _title(path: Path) -> str:
    return " › ".join(str(step) for step in path) or "Step"


def _progress(event: Progress) -> str:
    words = event.message or "working"
    return f"{words} {event.fraction:.0%}" if 0 < event.fraction < 1 else words


def _seconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _as_text(value: Any) -> str:
    """A value that is no text, as Markdown."""
    if isinstance(value, str):
        return value
    if isinstance(value, (dict, list, tuple)):
        try:
            return code_block(json.dumps(value, indent=2, ensure_ascii=False), "json")
        except (TypeError, ValueError):
            pass
    return code_block(str(value))
