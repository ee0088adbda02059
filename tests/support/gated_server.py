"""A service on the gated tiny model in a process of its own, steered and counted from the test.

    with gated_server(limits=Limits(running=2, waiting=4)) as server:
        connection = server.ask("the mill", stream=True)
        server.wait_reached()                 # a forward stands at the gate, over there
        server.open(3)
        server.engine()["tokens_produced"]    # counters of the other process
        server.process.kill()                 # what only a process of its own can be asked to survive

Commands go over its standard input and answers over its standard output, one JSON line each. The process ends with
the block, by its pid.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from millrace import Limits
from tests.support.leaks import eventually
from tests.support.servers import Connection, end

__all__ = ["GatedServer", "gated_server"]

PATH = "/v1/chat/completions"


class GatedServer:
    """The test's side."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.port: int = self._read()["port"]

    def _read(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the gated server has ended"
        return json.loads(line)

    def _ask(self, command: str, **more: Any) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"command": command, **more}) + "\n")
        self.process.stdin.flush()
        return self._read()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def open(self, n: int = 1) -> None:
        """Lets `n` more forwards through."""
        self._ask("open", n=n)

    def open_all(self) -> None:
        """Lets every forward through from now on."""
        self._ask("open_all")

    def close(self) -> None:
        """From now on every forward waits."""
        self._ask("close")

    def counters(self) -> dict[str, Any]:
        """`entered` and `left` forwards, `reached`, live `runs` and those `stopping`, `threads`, `descriptors`,
        admission's `running` and `waiting`, and the engine's status under `engine`."""
        found: dict[str, Any] = self._ask("counters")
        return found

    def engine(self) -> dict[str, Any]:
        """The engine's status."""
        found: dict[str, Any] = self.counters()["engine"]
        return found

    def wait_reached(self) -> None:
        """Waits until a forward stands at the gate."""
        eventually(lambda: self.counters()["reached"], timeout=30)

    def ask(self, text: str, stream: bool, **more: Any) -> Connection:
        """A connection on which a request has been sent, and nothing read."""
        connection = Connection(self.port, 30.0)
        body = {"messages": [{"role": "user", "content": text}], "stream": stream, "temperature": 0, **more}
        connection.send("POST", PATH, body)
        return connection

    def idle(self) -> bool:
        """Nothing runs, waits or is held, over there."""
        now = self.counters()
        engine = now["engine"]
        held = [engine["running"], engine["waiting"], engine["blocks_used"]]
        return not any([*held, now["runs"], now["running"], now["waiting"]])


@contextmanager
def gated_server(limits: Limits | None = None) -> Iterator[GatedServer]:
    """Starts the process, waits until its model is loaded and its gate closed, and ends it with the block."""
    options = json.dumps(asdict(limits or Limits(running=4, waiting=16)))
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.gated_server", options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield GatedServer(process)
    finally:
        end(process)


# ---------------------------------------------------------------- the other side


def main(options: str) -> None:
    import asyncio
    import signal
    import threading

    from millrace import LocalModel, Sampling, Service
    from tests.support.gated import Gate, gated_engine

    gate, limits = Gate(), Limits(**json.loads(options))
    engine = gated_engine(gate, limits=limits)
    engine.wait_ready(60)
    model = LocalModel(engine, sampling=Sampling(temperature=0.0, max_tokens=200))

    async def serve() -> None:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, ended.set)
        async with Service(model, port=0, limits=limits) as service:
            await model.ready()
            print(json.dumps({"port": int(service.url.rpartition(":")[2])}), flush=True)
            threading.Thread(target=answer, args=(gate, engine, service), daemon=True).start()
            await ended.wait()
            gate.open_all()

    asyncio.run(serve())
    engine.close()


def answer(gate: Any, engine: Any, service: Any) -> None:
    """Does what the test asks, line by line."""
    import threading

    import psutil

    from millrace.streaming import status
    from millrace.streaming.runs import LIVE

    here = psutil.Process()
    for line in sys.stdin:
        asked = json.loads(line)
        found: dict[str, Any] = {}
        if asked["command"] == "open":
            gate.open(asked["n"])
        elif asked["command"] == "open_all":
            gate.open_all()
        elif asked["command"] == "close":
            gate.close()
        else:
            found = {
                "entered": gate.forwards.entered,
                "left": gate.forwards.left,
                "reached": gate.is_reached(),
                "runs": status().runs,
                "stopping": sum(run.is_cut() for run in list(LIVE)),
                "threads": threading.active_count(),
                "descriptors": here.num_fds(),
                "running": service.admission.running,
                "waiting": service.admission.waiting,
                "engine": asdict(engine.status()),
            }
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
