"""Events as a run would have said them, at times that the test chooses."""

from __future__ import annotations

from typing import Any

from millrace.streaming import Event, RunFinished, RunStarted, StepFinished, StepStarted, TextDelta
from millrace.streaming.usage import TokenUsage

__all__ = ["START", "Told", "rag"]

START = 1_700_000_000.0


class Told:
    """Events in order; `at` is seconds after the start."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.say(0, RunStarted())

    def say(self, at: float, event: Event, *path: str | int) -> Told:
        event.seq, event.time, event.path = len(self.events) + 1, START + at, path
        self.events.append(event)
        return self

    def step(
        self, start: float, end: float | None, *path: str | int, error: BaseException | None = None
    ) -> Told:
        self.say(start, StepStarted(), *path)
        return self if end is None else self.say(end, StepFinished(error), *path)

    def pieces(self, start: float, end: float, count: int, *path: str | int, output: bool = True) -> Told:
        for i in range(count):
            self.say(start + (end - start) * i / max(1, count - 1), TextDelta(f"{i} ", output), *path)
        return self

    def end(self, at: float, status: str = "done", reason: str | None = None, **more: Any) -> Told:
        known = {"result": None, "error": None, "usage": TokenUsage(), **more}
        return self.say(at, RunFinished(status, reason, **known))


def rag() -> Told:
    """A run of a typical flow, of 4 s."""
    told = Told().step(0, 0.1, "clean").say(0.1, StepStarted(), "notes")
    told.step(0.1, 0.6, "notes", "bm25").step(0.1, 0.9, "notes", "dense").say(0.9, StepFinished(), "notes")
    told.say(1, StepStarted(), "sharper")
    for turn in range(3):
        told.step(1 + turn / 5, 1.2 + turn / 5, "sharper", turn)
    told.say(1.6, StepFinished(), "sharper")
    told.say(1.6, StepStarted(), "llm").pieces(2.4, 3.9, 60, "llm").say(4, StepFinished(), "llm")
    return told.end(4, reason="stop", usage=TokenUsage(35, 60))
