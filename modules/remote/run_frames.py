"""Frames of runs: what a service streams of a run, as events, each of them once."""

from __future__ import annotations

import json
from typing import Any

from ...streaming.errors import RemoteError
from ...streaming.events import Event, RunFinished
from ...streaming.records import event_of
from ...streaming.usage import TokenUsage
from .addresses import Address
from .failures import Failure
from .frames import FrameReader
from .run_failures import error_of_end

__all__ = ["RunFrames"]

LONGEST = 256 * 1024 * 1024
"""Bytes that one event may have: a run's result is one."""


class RunFrames:
    """Reads the events of one run, over however many connections they come.

    `seq` is the number of the last event that has come: where the next connection goes on. What has come before is
    left out when it comes again.
    """

    def __init__(self, address: Address) -> None:
        self.seq = 0
        self.finished: RunFinished | None = None
        """The run's last event."""
        self._address = address
        self._frames = FrameReader(LONGEST)

    def reconnected(self) -> None:
        """What comes next comes over a new connection: half a frame that the old one has left is forgotten."""
        self._frames = FrameReader(LONGEST)

    def feed(self, received: bytes) -> list[Event]:
        """The events that these bytes complete, with the `path` that they have there and without other stamps.

        Raises:
            Failure: something has come that is no event.
        """
        try:
            told = [self._parsed(frame) for frame in self._frames.feed(received)]
        except RemoteError as error:
            raise Failure(error) from None
        return [event for each in told if (event := self._taken(each)) is not None]

    def _parsed(self, frame: str) -> dict[str, Any]:
        try:
            told = json.loads(frame)
            if isinstance(told["kind"], str) and isinstance(told.get("path", []), list):
                return dict(told)
        except (ValueError, TypeError, KeyError):
            pass
        raise self._nonsense(frame)

    def _taken(self, told: dict[str, Any]) -> Event | None:
        seq, path, kind = told.pop("seq", None), told.pop("path", []), told.pop("kind")
        told.pop("time", None)
        if self.finished is not None or (isinstance(seq, int) and seq <= self.seq):
            return None
        event = self._end(told) if kind == RunFinished.kind else event_of(kind, self._revived(told))
        if isinstance(seq, int):
            self.seq = seq
        event.path = tuple(path)
        return event

    def _revived(self, told: dict[str, Any]) -> dict[str, Any]:
        """An error is told by its type's name alone."""
        if isinstance(error := told.get("error"), str):
            told["error"] = RemoteError(f"{self._address}: a step failed with {error}", kind=error)
        return told

    def _end(self, told: dict[str, Any]) -> RunFinished:
        status, reason = str(told.get("status")), told.get("reason")
        failure = None if status == "done" else error_of_end(self._address, status, reason, told.get("error"))
        usage = usage_of(told.get("usage"))
        self.finished = RunFinished(status, reason, told.get("result"), failure, usage)
        return self.finished

    def _nonsense(self, frame: str) -> Failure:
        shown = self._address.hide(" ".join(frame.split()))
        shown = shown if len(shown) <= 200 else f"{shown[:200]}..."
        return Failure(RemoteError(f"{self._address} sent what is no event of a run: {shown}"))


def usage_of(told: Any) -> TokenUsage:
    """Tokens as a service tells them; none where it tells something else."""
    if not isinstance(told, dict):
        return TokenUsage()
    read, made = told.get("prompt_tokens"), told.get("completion_tokens")
    return TokenUsage(read if isinstance(read, int) else 0, made if isinstance(made, int) else 0)
