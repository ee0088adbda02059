"""The same work with its events going to a queue on disk: a stop is the same, and the record says so."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from typing import Any

from millrace import Pipeline
from millrace.streaming import FileQueue, RunFinished, attach
from tests.leaving.models import Decoding
from tests.leaving.subjects import (
    AsyncGenerator,
    Intermediate,
    Nested,
    PlainFunction,
    Subject,
    SyncGenerator,
)
from tests.support.leaks import eventually

__all__ = ["RECORDED"]

ENDED = {"cancelled", "timeout", "done"}
"""Done: where a condition on the text has ended it."""


class RecordedFlow:
    """A flow that is called and streamed with a queue."""

    def __init__(self, flow: Pipeline[Any, Any], queue: FileQueue) -> None:
        self.flow = flow
        self.queue = queue

    def __call__(self, x: Any, **options: Any) -> Any:
        return self.flow(x, queue=self.queue, **options)

    async def acall(self, x: Any, **options: Any) -> Any:
        return await self.flow.acall(x, queue=self.queue, **options)

    def stream(self, x: Any, **options: Any) -> Any:
        return self.flow.stream(x, queue=self.queue, **options)


def recorded(kind: type[Subject]) -> Callable[[], Subject]:
    """The kind of subject, recorded."""

    class Recorded(kind):  # type: ignore[misc,valid-type]
        def __init__(self) -> None:
            self.queue = FileQueue(tempfile.mkdtemp(prefix="millrace-leaving-"))
            super().__init__()

        @property
        def flow(self) -> Any:
            return RecordedFlow(super().flow, self.queue)

        def stopped(self) -> None:
            super().stopped()
            (info,) = eventually(lambda: [info for info in self.queue.runs() if info.over])
            assert info.status in ENDED
            *_, last = attach(info.id, self.queue)
            assert isinstance(last, RunFinished)
            assert (last.seq, last.status) == (info.events, info.status)

        def close(self) -> None:
            super().close()
            shutil.rmtree(self.queue.path)

    return Recorded


RECORDED: dict[str, Callable[[], Subject]] = {
    f"recorded {name}": recorded(kind)
    for name, kind in {
        "async generator": AsyncGenerator,
        "intermediate": Intermediate,
        "sync generator": SyncGenerator,
        "nested flow": Nested,
        "plain function": PlainFunction,
        "model decoding": Decoding,
    }.items()
}
