"""A model at work when its listener leaves: waiting, reading its prompt, or writing."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from millrace import Limits, LocalModel, Pipeline, Sampling
from millrace.modules.local import Engine, Request
from millrace.streaming import Event, TextDelta, status
from tests.leaving.subjects import Subject
from tests.support.gated import Gate, gated_engine, tiny_engine
from tests.support.leaks import eventually


class ModelSubject(Subject):
    """A real tiny model behind a gate, with a neighbour that must not notice."""

    pieces = False
    running = 2

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate()
        self.engine: Engine = gated_engine(self.gate, limits=Limits(running=self.running, waiting=4))
        self.engine.wait_ready(60)
        self.model = LocalModel(self.engine, sampling=Sampling(temperature=0.0, max_tokens=300))
        self.neighbour = self.engine.submit(NEIGHBOUR)
        self.gate.wait_reached()

    @property
    def flow(self) -> Pipeline[Any, Any]:
        threading.Thread(target=self.pilot, name="pilot", daemon=True).start()
        return Pipeline(str.strip, self.model)

    def pilot(self) -> None:
        """Brings the request to where it shall be stopped."""

    def reached(self) -> bool:
        return self.gate.is_reached()

    def let_join(self) -> None:
        """Lets the neighbour's forwards through until one stands at the gate that ours is in."""

        def joined() -> bool:
            now = self.engine.status()
            if self.reached() and now.running < 2 and now.waiting:
                self.gate.open(1)
            return self.closed or (now.running == 2 and self.reached())

        eventually(joined, timeout=60)

    def may_leave(self, event: Event) -> bool:
        return type(event) is TextDelta if self.pieces else event.path == (self.model.name,)

    def mark(self) -> None:
        super().mark()
        run = self.run
        assert run is not None

        def open_when_cut() -> None:
            eventually(lambda: run.cut is not None or self.closed, timeout=60)
            self.gate.open_all()

        threading.Thread(target=open_when_cut, name="opener", daemon=True).start()

    def stopped(self) -> None:
        eventually(lambda: status() == type(status())(0, 0))
        answer = asyncio.run(self.neighbour.result())
        assert answer == solo()
        now = self.engine.status()
        assert (now.running, now.waiting, now.blocks_used) == (0, 0, 0)
        assert now.tokens_produced - answer.usage.completion_tokens <= self.allowed()
        assert asyncio.run(self.engine.submit(NEIGHBOUR).result()) == solo()

    def allowed(self) -> int:
        """How many tokens of ours the engine may have produced in all."""
        return 0

    def close(self) -> None:
        super().close()
        self.engine.close()


class Queued(ModelSubject):
    """It waits for its place; its prompt is never read."""

    running = 1

    def stands(self) -> bool:
        return self.engine.status().waiting == 1


class Prefill(ModelSubject):
    """Its prompt's forward stands at the gate; that may finish, and its token is dropped."""

    def pilot(self) -> None:
        self.let_join()
        self.made = 1


class Decoding(ModelSubject):
    """Three tokens of it have been produced; the forward of the fourth stands at the gate."""

    pieces = True

    def pilot(self) -> None:
        self.let_join()
        left = self.gate.forwards.left
        self.gate.open(3)
        eventually(
            lambda: self.closed or (self.gate.forwards.left == left + 3 and self.reached()), timeout=60
        )
        self.made = 1

    def allowed(self) -> int:
        return 3


NEIGHBOUR = Request(prompt="snow covers every road", sampling=Sampling(temperature=0.0, max_tokens=40))
_solo: list[Any] = []


def solo() -> Any:
    """What the neighbour says when it is alone."""
    if not _solo:
        engine = tiny_engine()
        _solo.append(asyncio.run(engine.submit(NEIGHBOUR).result()))
        engine.close()
    return _solo[0]
