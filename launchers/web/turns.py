"""One turn of a chat: a question, and all that its run said, ready to be shown.

Nothing here knows a web page. A page asks a turn for its `parts`, its `text`, its `state` and its `note`, and the
next turn asks for its messages.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from ...streaming.errors import ContextLengthExceeded, Overloaded, RunCancelled, RunTimeout
from ...streaming.events import (
    Data,
    Event,
    Path,
    Progress,
    ReasoningDelta,
    RunFinished,
    StepFinished,
    TextDelta,
)
from ...streaming.messages import Message
from ...streaming.usage import TokenUsage
from ..loading import stage_name
from ..quotas import QuotaExceeded
from .markup import code_block
from .shelves import StoredFile

__all__ = ["Failure", "Part", "Turn", "failure_of"]

State = Literal["waiting", "running", "stopping", "done", "stopped", "failed"]


class Text:
    """Text that grows by pieces."""

    def __init__(self) -> None:
        self._pieces: list[str] = []

    @property
    def text(self) -> str:
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    def add(self, piece: str) -> None:
        self._pieces.append(piece)


class Part(Text):
    """Something said on the way to the answer: a model's reasoning, or what one step streamed.

    `began` is when, in seconds since the epoch, `seconds` how long it took; None while it goes on.
    """

    def __init__(self, path: Path, reasoning: bool, began: float = 0.0) -> None:
        super().__init__()
        self.path = path
        self.reasoning = reasoning
        self.began = began
        self.seconds: float | None = None

    @property
    def title(self) -> str:
        return "Reasoning" if self.reasoning else " › ".join(map(str, self.path)) or "Step"

    def close(self, at: float) -> None:
        if self.seconds is None:
            self.seconds = max(0.0, at - self.began)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a turn gave no whole answer, and what its user can do."""

    what: str
    advice: str = ""


class Turn(Text):
    """A question on its way to an answer, which is its text; `asked` is when, in seconds since the epoch.

    `files` came with the question, `made` came out of the flow.
    """

    def __init__(self, question: str, files: Iterable[StoredFile] = ()) -> None:
        super().__init__()
        self.question = question
        self.files = tuple(files)
        self.made: list[StoredFile] = []
        self.asked = time.time()
        self.parts: list[Part] = []
        self.state: State = "waiting"
        self.status = ""
        self.failure: Failure | None = None
        self.usage = TokenUsage()
        self.first: float | None = None

    @property
    def silent(self) -> bool:
        """Whether its run has been started and has said nothing yet."""
        return self.state == "running" and not self.parts and self.first is None

    @property
    def over(self) -> bool:
        return self.state in ("done", "stopped", "failed")

    # ------------------------------------------------------------ what happens to it

    def queued(self, place: int) -> bool:
        """It waits in line, at this place; true if that is something new."""
        if self.state != "waiting":
            return False
        return self._say(f"waiting for a free place, {_ordinal(place)} in line")

    def begin(self) -> None:
        """Its run has started; until then it waits for a place."""
        if self.state == "waiting":
            self.state, self.status = "running", ""

    def stopping(self) -> None:
        """Somebody has stopped it; what still comes is not shown."""
        if not self.over:
            self.state, self.status = "stopping", "stopping"

    def take(self, event: Event) -> None:
        """Takes what the run said. A failed run also raises its error, which comes by `end`.

        What a turn shows follows from its events alone: from the same ones another one comes to the same.
        """
        if isinstance(event, RunFinished):
            self._finish(event)
        elif self.state != "running":
            return
        elif isinstance(event, TextDelta):
            if event.output:
                self._first(event.time)
                self.add(event.text)
            else:
                self._part(event, False).add(event.text)
        elif isinstance(event, ReasoningDelta):
            self._part(event, True).add(event.text)
        elif isinstance(event, Data):
            self._data(event)
        elif isinstance(event, Progress):
            self.progress(event.message, event.fraction)
        elif isinstance(event, StepFinished):
            self._close_parts(event.path, event.time)

    def show(self, file: StoredFile) -> None:
        """A file that the flow has made."""
        if self.state == "running":
            self._first(time.time())
            self.made.append(file)

    def progress(self, words: str, fraction: float) -> bool:
        """Says how far something slow has come; true if that is something new."""
        return self._say(stage_name(words) + (f" {fraction:.0%}" if 0 < fraction < 1 else ""))

    def _say(self, status: str) -> bool:
        changed, self.status = status != self.status, status
        return changed

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
            if not self.text and not self.made and event.result is not None:
                self._first(event.time)
                self.add(_as_text(event.result))
            self.state = "done"
            self._close()
        elif event.status == "cancelled":
            self.end()

    def _close(self) -> None:
        self.status = ""
        self._close_parts((), time.time())

    # ------------------------------------------------------------ parts

    def _first(self, at: float) -> None:
        """The first of the answer: what came before it is over, the steps aside that still speak."""
        if self.first is None:
            self.status = ""
            self.first = max(0.0, at - self.asked)
            for part in self.parts:
                if part.reasoning:
                    part.close(at)

    def _part(self, event: Event, reasoning: bool) -> Part:
        """The part that goes on, or a new one: parts stand in the order in which they began to speak."""
        self.status = ""
        for part in reversed(self.parts):
            if part.path == event.path and part.seconds is None:
                if part.reasoning == reasoning:
                    return part
                part.close(event.time)
        part = Part(event.path, reasoning, event.time)
        self.parts.append(part)
        return part

    def _data(self, event: Data) -> None:
        if not event.output:
            self._part(event, False).add(f"\n\n{_as_text(event.value)}\n\n")

    def _close_parts(self, path: Path, at: float) -> None:
        for part in self.parts:
            if part.path[: len(path)] == path:
                part.close(at)

    # ------------------------------------------------------------ what others see of it

    def messages(self) -> Iterator[Message]:
        """The turn in the history of the next one; partial text is kept, and marked as such."""
        if self.text or self.made:
            yield Message.user(self.question or _names(self.files))
            yield Message(
                "assistant",
                self.text or _names(self.made),
                {} if self.state == "done" else {"status": self.state},
            )

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
            what = "Your quota is used up" if isinstance(error, QuotaExceeded) else "Busy right now"
            return Failure(what, f"Try again in {seconds} second{'s' if seconds > 1 else ''}.")
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


def _names(files: Iterable[StoredFile]) -> str:
    """What stands in a history for files without words."""
    return f"[{', '.join(file.name for file in files)}]"


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if 10 < number % 100 < 14 else ending}"


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
