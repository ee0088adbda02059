"""What the conformance suite is run against: engines on the same tiny weights, each behind a gate that counts.

- local: the engine in this process.
- service: our own service on a real socket, in a process of its own, asked by a RemoteEngine.
- foreign: `transformers serve`, which is not ours, asked by a RemoteEngine.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.request import urlopen

import psutil

from millrace import Limits, LocalModel, RemoteModel
from millrace.modules.language_models import LanguageModel
from millrace.modules.local import Engine
from millrace.modules.protocols import ModelEngine
from millrace.modules.remote import RemoteEngine
from tests.support.foreign_server import foreign_server
from tests.support.gated import Gate, gated_engine
from tests.support.gated_server import GatedServer, gated_server
from tests.support.leaks import eventually

__all__ = ["RUNNING", "SUBJECTS", "RemoteSubject", "Subject"]

RUNNING = 4
"""Requests that local and service run at once; the foreign one runs one."""
LIMITS = Limits(running=RUNNING, waiting=32)


class Subject:
    """An engine, the gate before its forwards, and what can be seen of it."""

    remote = False
    refuses_long_prompts = True
    tells_logprobs = False

    def engine(self) -> ModelEngine:
        """One to ask; a remote one is new and has no connections yet."""
        raise NotImplementedError

    def model(self, engine: ModelEngine, **options: Any) -> LanguageModel:
        raise NotImplementedError

    def open(self, n: int = 1) -> None:
        """Lets `n` more forwards through."""
        raise NotImplementedError

    def open_all(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """From now on every forward waits."""
        raise NotImplementedError

    def left(self) -> int:
        """Forwards that have gone through."""
        raise NotImplementedError

    def reached(self) -> bool:
        """A forward stands at the gate."""
        raise NotImplementedError

    def idle(self) -> bool:
        """As far as can be seen nothing runs, waits or holds memory."""
        raise NotImplementedError

    def connections(self) -> int:
        """How many the server has open."""
        return 0

    def reset(self) -> None:
        self.open_all()
        eventually(lambda: self.idle() and not self.connections(), timeout=30)
        self.close()


class LocalSubject(Subject):
    tells_logprobs = True

    def __init__(self, engine: Engine, gate: Gate) -> None:
        self._engine, self._gate = engine, gate
        self.open, self.open_all, self.close = gate.open, gate.open_all, gate.close  # type: ignore[method-assign]
        self.reached = gate.is_reached  # type: ignore[method-assign]

    def engine(self) -> Engine:
        return self._engine

    def model(self, engine: ModelEngine, **options: Any) -> LocalModel:
        return LocalModel(engine, **options)  # type: ignore[arg-type]

    def left(self) -> int:
        return self._gate.forwards.left

    def idle(self) -> bool:
        now = self._engine.status()
        return now.running == now.waiting == now.blocks_used == 0


class RemoteSubject(Subject):
    remote = True

    def __init__(self, server: GatedServer, model: str, refuses_long_prompts: bool) -> None:
        self.server = server
        self.name = model
        self.refuses_long_prompts = refuses_long_prompts
        self.open, self.open_all, self.close = server.open, server.open_all, server.close  # type: ignore[method-assign]
        self.idle = server.idle  # type: ignore[method-assign]

    @property
    def url(self) -> str:
        return f"{self.server.url}/v1"

    def engine(self, **options: Any) -> RemoteEngine:
        return RemoteEngine(self.url, self.name, **options)

    def model(self, engine: ModelEngine, **options: Any) -> RemoteModel:
        return RemoteModel(engine, **options)  # type: ignore[arg-type]

    def left(self) -> int:
        return int(self.server.counters()["left"])

    def reached(self) -> bool:
        return bool(self.server.counters()["reached"])

    def connections(self) -> int:
        found = psutil.Process(self.server.process.pid).net_connections("tcp")
        return sum(each.laddr.port == self.server.port and each.status != "LISTEN" for each in found)


@contextmanager
def local() -> Iterator[Subject]:
    gate = Gate()
    engine = gated_engine(gate, limits=LIMITS)
    engine.wait_ready(60)
    yield LocalSubject(engine, gate)
    engine.close()


@contextmanager
def service() -> Iterator[RemoteSubject]:
    with gated_server(limits=LIMITS) as server:
        with urlopen(f"{server.url}/v1/models") as reply:
            name = json.load(reply)["data"][0]["id"]
        yield RemoteSubject(server, name, refuses_long_prompts=True)


@contextmanager
def foreign() -> Iterator[RemoteSubject]:
    with foreign_server() as server:
        yield RemoteSubject(server, server.model, refuses_long_prompts=False)


SUBJECTS = {"local": local, "service": service, "foreign": foreign}
