"""Other processes that write and read runs in a queue on disk: `python -m tests.streaming.children WHAT ...`.

Each says what it does in lines of JSON on its standard output, and waits for lines on its standard input.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from millrace import Pipeline
from millrace.streaming import FileQueue, RunFinished, TextDelta, attach, current_run

__all__ = ["Child", "child"]

ROOT = Path(__file__).resolve().parents[2]


class Child:
    """The test's side of such a process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def told(self) -> Any:
        """The next thing that it says."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the process has ended"
        return json.loads(line)

    def tell(self, what: Any = "go on") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()


@contextmanager
def child(what: str, *args: object) -> Iterator[Child]:
    """Such a process for the block; at its end it is killed, by its pid, unless it has ended."""
    command = [sys.executable, "-m", "tests.streaming.children", what, *map(str, args)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, bufsize=1
    )
    try:
        yield Child(process)
    finally:
        process.kill()
        process.wait(10)
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()


# ---------------------------------------------------------------- over there


def say(what: Any) -> None:
    print(json.dumps(what), flush=True)


def wait() -> Any:
    return json.loads(sys.stdin.readline())


def write(queue: str, pieces: str) -> None:
    """One run, a piece for each line that it is told; says its id, and at the end how it ended."""

    async def told(n: int) -> AsyncIterator[str]:
        for i in range(n):
            await asyncio.to_thread(wait)
            yield f"{i} "

    run = Pipeline(told, name="told").start(int(pieces), queue=queue, session="alice")
    say(run.id)
    run.wait_sync()
    say([run.status, run.reason])


def write_many(queue: str, runs: str, pieces: str, name: str) -> None:
    """Several runs at once on one loop, each of numbered pieces with its own name; says their ids."""

    async def numbered(i: int) -> AsyncIterator[str]:
        run = current_run()
        assert run is not None
        for n in range(int(pieces)):
            yield f"{name}/{run.session}/{n}\n"
            await asyncio.sleep(0)

    flow = Pipeline(numbered)
    started = [flow.start(i, queue=queue, session=f"{name}-{i}") for i in range(int(runs))]
    say([[run.id, run.session] for run in started])
    for run in started:
        run.result()


def read_many(queue: str) -> None:
    """Reads the runs that it is told, all at once; says what was wrong with them."""

    async def check(run_id: str, session: str, name: str) -> list[str]:
        wrong, seq, pieces = [], 0, 0
        async for event in attach(run_id, queue):
            seq += 1
            if event.seq != seq:
                wrong.append(f"{run_id}: event {event.seq} stands at {seq}")
            if isinstance(event, TextDelta):
                if event.text != f"{name}/{session}/{pieces}\n":
                    wrong.append(f"{run_id}: {event.text!r} is not its piece {pieces}")
                pieces += 1
            if isinstance(event, RunFinished) and event.status != "done":
                wrong.append(f"{run_id}: {event.status}")
        return [*wrong, *([] if pieces == each else [f"{run_id}: {pieces} pieces"])]

    async def all_of(runs: list[list[str]], name: str) -> list[str]:
        found = await asyncio.gather(*(check(run_id, session, name) for run_id, session in runs))
        return [wrong for one in found for wrong in one]

    name, each, runs = wait()
    say(asyncio.run(all_of(runs, name)))


def follow(queue: str, run_id: str, after: str) -> None:
    """Says every event of a run behind one; then what it raised, if it did."""
    try:
        for event in attach(run_id, queue, int(after)):
            say(event.as_dict())
    except Exception as error:
        say([type(error).__name__, str(error)])


def torrent(queue: str) -> None:
    """Writes without end; says its id."""

    async def endless(x: int) -> AsyncIterator[str]:
        while True:
            yield "x" * 100
            await asyncio.sleep(0)

    run = Pipeline(endless).start(0, queue=queue)
    say(run.id)
    run.wait_sync()


def many_files(directory: str, runs: str) -> None:
    """So many runs at once, each with a piece for each of three rounds, under the limits that it was given."""
    queue = FileQueue(directory)
    gates = [asyncio.Event() for _ in range(3)]

    async def three(i: int) -> AsyncIterator[str]:
        for n, gate in enumerate(gates):
            await gate.wait()
            yield f"{i}:{n} "

    async def all_of() -> list[str]:
        flow, wrong = Pipeline(three), []
        started = [flow.start(i, queue=queue) for i in range(int(runs))]
        for gate in gates:
            started[0].loop.call_soon_threadsafe(gate.set)  # type: ignore[union-attr]
            await asyncio.sleep(0.05)
        for run in started:
            await run.wait()
        for i, run in enumerate(started):
            text = "".join(attach(run.id, queue).text())
            if text != f"{i}:0 {i}:1 {i}:2 " or text != run.value:
                wrong.append(f"run {i}: {text!r}, {run!r}")
        return wrong

    say(asyncio.run(all_of()))


if __name__ == "__main__":
    what, *args = sys.argv[1:]
    {
        "write": write,
        "write_many": write_many,
        "read_many": read_many,
        "follow": follow,
        "torrent": torrent,
        "many_files": many_files,
    }[what](*args)
