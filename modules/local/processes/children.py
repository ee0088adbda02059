"""The child: an engine's worker whose callers are in another process."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from ..generations import Generation, Waiter
from ..requests import Delta, Request
from ..sequences import Sequence
from ..sources import EngineSettings
from ..workers import EngineWorker
from .framing import Pipe
from .wires import delta_to, error_to, request_from, settings_from

if TYPE_CHECKING:
    from ..core import Output

__all__ = ["main"]

log = logging.getLogger("millrace.local")

SLACK = 1_000_000
"""The parent refuses what is too much, before it gets here; what it has let in is never refused again."""


class Outbox:
    """What the parent is to hear, sent together."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()
        self._said: list[list[Any]] = []

    def add(self, *said: Any) -> None:
        with self._lock:
            self._said.append(list(said))

    def flush(self, **more: Any) -> None:
        with self._lock:
            said, self._said = self._said, []
        if said or more:
            self._pipe.send({"said": said, **more})


class Forwarded(Generation):
    """A request of the parent's: whatever becomes of it is said there."""

    def __init__(self, number: int, request: Request, worker: ChildWorker) -> None:
        super().__init__(request, worker._on_end)
        self.number = number
        self._outbox = worker.outbox

    def join_line(self, sequence: Any, dropped: int) -> bool:
        joined = super().join_line(sequence, dropped)
        if joined and isinstance(sequence, Sequence):
            self._outbox.add("waits", self.number, sequence.prompt_length, dropped)
        return joined

    def begin(self) -> bool:
        began = super().begin()
        if began:
            self._outbox.add("begins", self.number)
        return began

    def pause(self) -> None:
        super().pause()
        self._outbox.add("pauses", self.number)

    def push(self, delta: Delta) -> list[Waiter]:
        if delta.finish_reason is None and self._cancelled is None:
            self._outbox.add("delta", self.number, delta_to(delta))
        return super().push(delta)

    def _finish(self, last: Delta) -> list[Waiter]:
        waiters = super()._finish(last)
        assert self._last is not None
        self._buffer.clear()
        self._outbox.add("delta", self.number, delta_to(self._last))
        return waiters


class ChildWorker(EngineWorker):
    """Runs the engine and tells the parent, once for each step."""

    def __init__(self, settings: EngineSettings, pipe: Pipe) -> None:
        limits = replace(settings.limits, waiting=settings.limits.waiting + SLACK)
        super().__init__(replace(settings, limits=limits), self._say_progress)
        self.outbox = Outbox(pipe)
        self.requests: dict[int, Forwarded] = {}
        self._counted = 0

    def _say_progress(self, fraction: float, stage: str) -> None:
        self.outbox.flush(progress=[fraction, stage], counters=self.counters())

    def counters(self) -> dict[str, Any]:
        """Numbered: two threads tell of them, and what was counted first may be told last."""
        with self._changed:
            self._counted += 1
            found = asdict(self.status())
            return {"number": self._counted, **{name: found[name] for name in COUNTERS}}

    def take(self, number: int, request: Request) -> None:
        """A request of the parent's."""
        generation = Forwarded(number, request, self)
        self.requests[number] = generation
        try:
            self.accept(generation)
        except Exception as error:
            generation.end_unbegun(Delta(finish_reason="error", usage=generation.usage, error=error))

    def cancel(self, number: int, reason: str) -> None:
        generation = self.requests.get(number)
        if generation is not None:
            generation.cancel(reason)

    def _on_end(self, generation: Generation) -> None:
        super()._on_end(generation)
        self._forget(generation)
        self.outbox.flush(counters=self.counters())

    def _end(self, generation: Generation, last: Delta) -> list[Waiter]:
        waiters = super()._end(generation, last)
        self._forget(generation)
        return waiters

    def _forget(self, generation: Generation) -> None:
        if generation.finish_reason is not None and isinstance(generation, Forwarded):
            self.requests.pop(generation.number, None)

    def _deliver(self, outputs: list[Output]) -> None:
        super()._deliver(outputs)
        self.outbox.flush(counters=self.counters())

    def _end_all(self, failure: Any) -> None:
        super()._end_all(failure)
        self.outbox.flush(counters=self.counters(), failure=None if failure is None else error_to(failure))


COUNTERS = (
    "blocks_used",
    "blocks_total",
    "block_size",
    "context_length",
    "steps",
    "tokens_read",
    "tokens_reused",
    "tokens_produced",
    "preemptions",
)
"""What of the status only the child knows."""


def main(descriptor: int) -> None:
    """Serves the parent at the other end of the socket `descriptor` until it is gone or says to close."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, who then closes us
    pipe = Pipe(socket.socket(fileno=descriptor))
    frames = pipe.frames()
    settings = next(frames, None)
    if settings is None:
        return
    try:
        worker = ChildWorker(settings_from(settings), pipe)
    except Exception as error:
        pipe.send({"said": [], "failure": error_to(error)})
        pipe.flush(5)
        return
    worker.start()
    worker.ready.add_done_callback(lambda ready: _say_ready(worker, ready.exception()))
    for frame in frames:
        for said in frame["said"]:
            if said[0] == "submit":
                worker.take(said[1], request_from(said[2]))
            elif said[0] == "cancel":
                worker.cancel(said[1], said[2])
            elif said[0] == "close":
                worker.close(said[1])
                pipe.flush(5)
                return
    os._exit(0)  # the parent is gone: nobody hears of a clean end, and a long forward is not waited for


def _say_ready(worker: ChildWorker, error: BaseException | None) -> None:
    if error is None:
        worker.outbox.flush(ready=worker.status().model, counters=worker.counters())
    else:
        worker.outbox.flush(failure=error_to(error))


if __name__ == "__main__":
    main(int(sys.argv[1]))
