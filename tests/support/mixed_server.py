"""A service in a process of its own whose flow does what the question says, for crowds of clients.

    with mixed_server(keys=["sk-one"]) as server:
        connection = server.connect()
        server.status()["runs"]          # over HTTP, as anybody sees them
        server.counters()["produced"]    # from inside: pieces made, generators that are open, runs that go on
        server.memory()                  # from outside, of the process
    server.tidy()                    # the same, once it has given back what it does not need
        server.lines()                   # what it has written down of runs that are over

The question is a word and, where it makes pieces, how many: `words 30`, `slowly 30` (a pause after each), `threads
30` (by a generator in a thread), `flood 100` (4 KiB each), `plain`, `wait`, `fail`, `late` (never ends by itself).
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from millrace import Limits
from millrace.launchers.api.patience import Timings
from tests.support.leaks import eventually
from tests.support.servers import Connection, end

__all__ = ["EXPECTED", "PIECE", "MixedServer", "mixed_server"]

PIECE = 4096
"""Characters in a piece of a flood."""

EXPECTED = "as it was told to"
"""What the flow fails with."""

KEPT, KEPT_BYTES = 100, 4 * 2**20
"""Runs that are over and kept in memory: fewer than usual, so that there are soon as many as there ever will be."""


class MixedServer:
    """The test's side."""

    def __init__(self, process: subprocess.Popen[str], log: Path, key: str | None) -> None:
        self.process = process
        self.log = log
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._looked_at = psutil.Process(process.pid)
        self.port = int(self._read()["url"].rpartition(":")[2])
        eventually(lambda: self._get("/health/ready") is not None, timeout=30)

    def _read(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the server has ended: {self.log.read_text()}"
        return json.loads(line)

    def counters(self) -> dict[str, int]:
        """`produced` pieces, `opened` and `closed` generators, `runs` that go on, and `abandoned` functions."""
        return self._ask("counters")

    def _ask(self, command: str) -> dict[str, int]:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()
        found: dict[str, int] = self._read()
        return found

    def tidy(self) -> int:
        """Has it collect its garbage and give back what is free; then bytes that the process has in memory.

        Otherwise the allocator keeps what a crowd has needed at its worst moment.
        """
        self._ask("tidy")
        return self.memory()

    def connect(self, timeout: float = 20.0) -> Connection:
        return Connection(self.port, timeout)

    def status(self) -> dict[str, Any]:
        """The figures of the service."""
        found: dict[str, Any] = self._get("/status")
        return found

    def _get(self, path: str) -> Any:
        with self.connect() as connection:
            connection.send("GET", path, headers=self._headers)
            return connection.json() if connection.reply().status == 200 else None

    def idle(self) -> bool:
        """Whether nothing runs, waits or follows."""
        places = self.status()["admission"]
        return not any(places[name] for name in ("running", "waiting", "followers"))

    def memory(self) -> int:
        """Bytes that the process has in memory."""
        held: int = self._looked_at.memory_info().rss
        return held

    def holds_more(self, than: tuple[int, int]) -> bool:
        """Whether it has more threads or descriptors."""
        return any(now > before for now, before in zip(self.holds(), than, strict=True))

    def holds(self) -> tuple[int, int]:
        """How many threads and descriptors the process has."""
        return self._looked_at.num_threads(), self._looked_at.num_fds()

    def lines(self) -> list[dict[str, Any]]:
        """What was written down of runs that are over."""
        told = self.log.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in told if line.startswith("{") and line.endswith("\n")]

    def complaints(self) -> list[str]:
        """What was logged as a warning or worse, or printed by others, each with its traceback."""
        found: list[str] = []
        for line in self.log.read_text().splitlines():
            if line.startswith(("WARNING", "ERROR", "CRITICAL")) or not found:
                found.append(line)
            elif not line.startswith("{"):
                found[-1] += f"\n{line}"
        return [complaint for complaint in found if not complaint.startswith("{")]

    def stop(self) -> float:
        """SIGTERM; seconds until the process had ended."""
        began = time.monotonic()
        self.process.terminate()
        self.process.wait(30)
        return time.monotonic() - began


@contextmanager
def mixed_server(
    limits: Limits | None = None, keys: Sequence[str] = (), **timings: float
) -> Iterator[MixedServer]:
    """Starts the process, waits until it serves, and ends it with the block; `timings` as Timings takes them."""
    options = {
        "limits": asdict(limits or Limits(running=4, waiting=8)),
        "timings": timings,
        "keys": list(keys),
    }
    with tempfile.TemporaryDirectory(prefix="millrace-mixed-") as directory:
        log = Path(directory) / "log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.mixed_server", json.dumps(options)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
            )
        try:
            yield MixedServer(process, log, keys[0] if keys else None)
        finally:
            end(process)


# ---------------------------------------------------------------- the other side

COUNTERS = {"produced": 0, "opened": 0, "closed": 0}


@contextmanager
def opened() -> Iterator[None]:
    """Around the life of a generator."""
    COUNTERS["opened"] += 1
    try:
        yield
    finally:
        COUNTERS["closed"] += 1


async def words(text: str) -> AsyncIterator[str]:
    with opened():
        for number in range(amount(text)):
            COUNTERS["produced"] += 1
            yield f"{number} "
            await asyncio.sleep(0)


async def slowly(text: str) -> AsyncIterator[str]:
    with opened():
        for number in range(amount(text)):
            COUNTERS["produced"] += 1
            yield f"{number} "
            await asyncio.sleep(0.005)


def threads(text: str) -> Iterator[str]:
    for number in range(amount(text)):
        yield f"{number} "


async def flood(text: str) -> AsyncIterator[str]:
    with opened():
        for _ in range(amount(text)):
            COUNTERS["produced"] += 1
            yield "x" * PIECE
            await asyncio.sleep(0)


def plain(text: str) -> str:
    return text.upper()


async def wait(text: str) -> str:
    await asyncio.sleep(0.01)
    return text


async def fail(text: str) -> AsyncIterator[str]:
    with opened():
        for number in range(amount(text)):
            yield f"{number} "
            await asyncio.sleep(0)
        raise ValueError(EXPECTED)


async def late(text: str) -> AsyncIterator[str]:
    with opened():
        yield "soon "
        await asyncio.Event().wait()


def amount(text: str) -> int:
    """The number behind the word."""
    return int(text.partition(" ")[2] or 0)


def first_word(text: str) -> str:
    return text.partition(" ")[0]


def main(told: str) -> None:
    import logging
    import threading

    from millrace import Switch, serve
    from millrace.launchers.run_lines import LogFormat, print_runs
    from millrace.streaming.registries import MEMORY

    options = json.loads(told)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")
    print_runs(LogFormat.JSON)
    MEMORY._most, MEMORY._max_bytes = KEPT, KEPT_BYTES
    steps: list[Any] = [words, slowly, threads, flood, plain, wait, fail, late]
    flow: Any = Switch({step.__name__: step for step in steps}, key=first_word)

    def announce(url: str) -> None:
        print(json.dumps({"url": url}), flush=True)
        threading.Thread(target=answer, daemon=True).start()

    serve(
        flow,
        port=0,
        announce=announce,
        api_keys=options["keys"] or None,
        limits=Limits(**options["limits"]),
        timings=Timings(**options["timings"]),
    )


def answer() -> None:
    """Does what the test asks, line by line, and tells the counters."""
    from millrace.streaming import status

    for command in sys.stdin:
        if command == "tidy\n":
            gc.collect()
            trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc alone
            if trim is not None:
                trim(0)
        now = status()
        print(json.dumps({**COUNTERS, "runs": now.runs, "abandoned": now.abandoned}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
