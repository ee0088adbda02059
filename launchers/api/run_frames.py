"""The wire of /v1/runs: events as server-sent events, and runs as objects."""

from __future__ import annotations

from typing import Any

from ...streaming.errors import ContextLengthExceeded, QueueError, RunUnknown
from ...streaming.events import (
    Data,
    Event,
    Logprobs,
    ReasoningDelta,
    RunFinished,
    RunStarted,
    TextDelta,
    ToolCall,
    ToolCallDelta,
)
from ...streaming.queues import Queue, RunInfo
from ...streaming.registries import info_of
from ..owners import Owner
from .desks import Visible, Work
from .refusals import Refusal, kind_of, refusal_of_end
from .values import as_json, plain

__all__ = ["RunFrames", "RunStream", "RunWhole", "error_of", "finished_of", "object_of", "run_object"]

PROMPT = "input"
"""The part of a request that a prompt comes from."""

ANSWER = (TextDelta, Data, ReasoningDelta, Logprobs, ToolCall, ToolCallDelta)
"""Kinds of events that the answer is made of, where they are the output step's."""


class RunFrames:
    """A run's events as server-sent events: the same bytes whenever, and wherever, they are asked for."""

    def __init__(self, run_id: str, visible: Visible, debug: bool) -> None:
        self._run_id, self._all, self._debug = run_id, visible == "all", debug

    def frame(self, event: Event) -> str:
        """One event; empty where it is not to be seen."""
        if type(event) is RunFinished:
            return self._finished(event)
        if not self._all and not is_answer(event):
            return ""
        told = {name: plain(value) for name, value in event.as_dict().items()}
        return f"id: {event.seq}\nevent: {event.kind}\ndata: {as_json(told)}\n\n"

    def _finished(self, event: RunFinished) -> str:
        told = event.as_dict()
        told["result"] = plain(told["result"])
        told["error"] = error_of(event, self._run_id, self._debug)
        seq = f"id: {event.seq}\n" if hasattr(event, "seq") else ""
        return f"{seq}event: {event.kind}\ndata: {as_json(told)}\n\n"


def is_answer(event: Event) -> bool:
    """Whether an event says something of the answer, and nothing of what went before it."""
    return type(event) is RunStarted or (type(event) in ANSWER and getattr(event, "output", False))


class RunStream(RunFrames):
    """A StreamDialect."""

    def begin(self) -> str:
        return ""

    def piece(self, event: Event) -> str:
        return self.frame(event)

    def end(self, finished: RunFinished) -> str:
        return self.frame(finished)

    def failure(self, finished: RunFinished, refusal: Refusal) -> str:
        return self.frame(finished)

    lost = failure


class RunWhole:
    """A WholeDialect: the run object, with its result."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def hear(self, event: Event) -> bool:
        return type(event) is TextDelta and event.output

    def body(self, finished: RunFinished) -> bytes:
        return as_json(object_of(self._work, finished)).encode()


def object_of(work: Work, finished: RunFinished | None = None) -> dict[str, Any]:
    """The run of a request that is being answered, also where its queue does not keep it any more."""
    try:
        info = work.desk.queue.info(work.run.id)
    except QueueError:
        info = info_of(work.run)
    return run_object(info, work.owner, finished, work.desk.debug)


def error_of(finished: RunFinished, run_id: str, debug: bool) -> dict[str, Any] | None:
    """What a client may know of why a run has not ended as done: OpenAI's fields, the error's class as `kind`, and
    the HTTP `status` that it stands for.
    """
    if finished.status == "done":
        return None
    refusal = refusal_of_end(finished.status, finished.reason, finished.error, run_id, debug)
    stopped = "RunTimeout" if finished.status == "timeout" else "RunCancelled"
    kind = stopped if finished.error is None else kind_of(finished.error)
    if isinstance(finished.error, ContextLengthExceeded):
        refusal.param = PROMPT
    return {**refusal.fields(), "kind": kind, "status": refusal.status}


def run_object(info: RunInfo, owner: Owner, finished: RunFinished | None, debug: bool) -> dict[str, Any]:
    """A run as its owner is told of it; `finished` is its last event, once it is over."""
    told: dict[str, Any] = {
        "id": info.id,
        "object": "run",
        "status": info.status,
        "created": info.created,
        "ended": info.ended,
        "session": owner.shown(info.session),
        "name": info.name,
        "events": info.events,
        "reason": info.reason,
        "error": None,
        "usage": info.usage.as_dict(),
    }
    if finished is not None:
        told |= {
            "status": finished.status,
            "ended": getattr(finished, "time", info.ended),
            "reason": finished.reason,
            "error": error_of(finished, info.id, debug),
            "usage": finished.usage.as_dict(),
        }
        if finished.status == "done":
            told["result"] = plain(finished.result)
    return told


def finished_of(queue: Queue, info: RunInfo) -> RunFinished | None:
    """The last event of a run that is over; None where it goes on.

    Raises:
        QueueError: it is not kept any more.
    """
    if not info.over:
        return None
    source = queue.read(info.id, max(0, info.events - 1))
    try:
        while events := source.take():  # of a lost run the end comes after what it has said
            if isinstance(finished := events[-1], RunFinished):
                return finished
    finally:
        source.close()
    raise RunUnknown(f"the end of the run {info.id} cannot be read")
