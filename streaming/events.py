"""Events: everything that a run says, as a closed union of small classes.

A payload comes first, by position; `seq`, `path` and `time` are stamped when the event is queued.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

from .errors import RemoteError
from .usage import TokenUsage

__all__ = [
    "Data",
    "Event",
    "Logprobs",
    "Path",
    "Progress",
    "ReasoningDelta",
    "RunFinished",
    "RunStarted",
    "StatusChanged",
    "StepFinished",
    "StepStarted",
    "TextDelta",
    "ToolCall",
    "ToolCallDelta",
    "ToolResult",
    "Usage",
]

Path = tuple[str | int, ...]
"""Names of steps and indices of loop turns and items, outermost first; `()` is the run itself."""


class Event:
    """What all events share.

    `seq` counts from 1 within a run, without gaps; `path` is the step that speaks; `time` is seconds since the
    epoch.
    """

    __slots__ = ("path", "seq", "time")
    seq: int
    path: Path
    time: float
    kind: ClassVar[str] = "event"

    def payload(self) -> dict[str, Any]:
        """The event's own fields, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]

    def as_dict(self) -> dict[str, Any]:
        """All fields and the kind, for JSON; an error becomes its type's name.

        What was made up for a run whose writer has died has no `seq`.
        """
        payload = self.payload()
        for name, value in payload.items():
            if isinstance(value, BaseException):
                known = value.kind if isinstance(value, RemoteError) else None
                payload[name] = known or type(value).__name__
            elif isinstance(value, TokenUsage):
                payload[name] = value.as_dict()
        stamp = {"seq": self.seq} if hasattr(self, "seq") else {}
        return {"kind": self.kind, **stamp, "path": list(self.path), "time": self.time, **payload}

    def __repr__(self) -> str:
        payload = ", ".join(repr(value) for value in self.payload().values())
        stamp = (
            f" #{self.seq} at {'/'.join(map(str, self.path)) or 'the run'}" if hasattr(self, "seq") else ""
        )
        return f"<{type(self).__name__}({payload}){stamp}>"


@dataclass(slots=True, repr=False)
class RunStarted(Event):
    """The first event of every run."""

    kind: ClassVar[str] = "run_started"


@dataclass(slots=True, repr=False)
class StepStarted(Event):
    """The step at `path` begins."""

    kind: ClassVar[str] = "step_started"


@dataclass(slots=True, repr=False)
class TextDelta(Event):
    """A piece of text. `output`: it belongs to the run's answer, not to a step on the way."""

    text: str
    output: bool = True
    kind: ClassVar[str] = "text_delta"


@dataclass(slots=True, repr=False)
class ReasoningDelta(Event):
    """A piece of a model's reasoning. `output`: of the model that gives the run's answer."""

    text: str
    output: bool = True
    kind: ClassVar[str] = "reasoning_delta"


@dataclass(slots=True, repr=False)
class Data(Event):
    """An item that a step yielded and that is no text."""

    value: Any
    output: bool = True
    kind: ClassVar[str] = "data"


@dataclass(slots=True, repr=False)
class Logprobs(Event):
    """How likely the next tokens were, right before the piece of text that they make; only where it was asked for.

    Each of `tokens` is in OpenAI's form: `{"token": text, "bytes": [...], "logprob": ..., "top_logprobs": [...]}`.
    Text may be held back for a while, so that the tokens of one piece come in several of these. `output`: they belong
    to the run's answer.
    """

    tokens: list[dict[str, Any]]
    output: bool = True
    kind: ClassVar[str] = "logprobs"


@dataclass(slots=True, repr=False)
class ToolCallDelta(Event):
    """A piece of a tool call's arguments; parallel calls differ by `index`. `output`: it is of the run's answer."""

    index: int
    id: str | None
    name: str | None
    arguments: str
    output: bool = True
    kind: ClassVar[str] = "tool_call_delta"


@dataclass(slots=True, repr=False)
class ToolCall(Event):
    """A whole tool call; `arguments` is JSON text. `output`: it belongs to the run's answer."""

    id: str
    name: str
    arguments: str
    output: bool = True
    kind: ClassVar[str] = "tool_call"


@dataclass(slots=True, repr=False)
class ToolResult(Event):
    """What the tool call `id` gave."""

    id: str
    result: Any
    error: BaseException | None = None
    kind: ClassVar[str] = "tool_result"


@dataclass(slots=True, repr=False)
class Progress(Event):
    """How far something slow has come: `fraction` from 0 to 1 and a word about it."""

    fraction: float
    message: str = ""
    kind: ClassVar[str] = "progress"


@dataclass(slots=True, repr=False)
class Usage(Event):
    """Tokens that a step has cost."""

    prompt_tokens: int
    completion_tokens: int
    kind: ClassVar[str] = "usage"


@dataclass(slots=True, repr=False)
class StatusChanged(Event):
    """The run waits, for a person or for something else outside (`status` waiting), or goes on (running)."""

    status: str
    kind: ClassVar[str] = "status_changed"


@dataclass(slots=True, repr=False)
class StepFinished(Event):
    """The step at `path` is over; with the error that it failed with, if it did."""

    error: BaseException | None = None
    kind: ClassVar[str] = "step_finished"


@dataclass(slots=True, repr=False)
class RunFinished(Event):
    """The last event of every run; a stream that ends without it has failed.

    `status` is done, cancelled, timeout or error; `reason` says more (`finish_reason` of the last model, or what
    `cancel()` was given). Readers of a queue make one up, of status lost, where the run's writer has died.
    """

    status: str
    reason: str | None
    result: Any
    error: BaseException | None
    usage: TokenUsage
    kind: ClassVar[str] = "run_finished"
