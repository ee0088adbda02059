"""Runs over a queue on disk, event by event: put, streamed, read in another process, woken up for."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from benchmarks.segments import row
from millrace import Pipeline
from millrace.streaming import FileQueue, RunFinished, TextDelta, TokenUsage, attach
from millrace.streaming.runs import Run

EVENTS = 50_000
CHUNKS = 20_000
WAKES = 400
FINISHED = ("done", None, None, None, TokenUsage())


def rows() -> list[dict[str, Any]]:
    """The figures of one event; floors are the same in memory."""
    with tempfile.TemporaryDirectory() as place:
        queue = FileQueue(Path(place) / "runs")
        put = median(putting(queue) for _ in range(5))
        through = median(end_to_end(queue) for _ in range(3))
        recorded, plain = streamed(queue)
        late = sorted(woken(queue))
    p50, p99 = median(late), quantiles(late, n=100)[98]
    return [
        row("an event into a queue on disk", put, None, "< 4 us", put < 4),
        row("an event, two processes, end to end", through, None, "< 6 us", through < 6),
        row("a streamed chunk that is recorded, beside memory", recorded, plain),
        row("a waiting reader of another process hears of an event, p50", p50, None, "< 1 ms", p50 < 1, "ms"),
        row("a waiting reader of another process hears of an event, p99", p99, None, "< 5 ms", p99 < 5, "ms"),
    ]


def putting(queue: FileQueue) -> float:
    """Microseconds for an event, where nobody listens."""
    run = Run()
    log, events = queue.open_log(run, None), [TextDelta(f"token{i}") for i in range(EVENTS)]
    start = time.perf_counter()
    for event in events:
        log.put(event, ("answer",))
    took = time.perf_counter() - start
    log.close(RunFinished(*FINISHED), skip=False)
    return took / EVENTS * 1e6


def end_to_end(queue: FileQueue) -> float:
    """Microseconds for an event, from the first that is put to the last that a reader elsewhere has."""
    run = Run()
    log, events = queue.open_log(run, None), [TextDelta(f"token{i}") for i in range(EVENTS)]
    reader = other("read", queue, run)
    start = time.time()
    for event in events:
        log.put(event, ("answer",))
    log.close(RunFinished(*FINISHED), skip=False)
    ended = float(reader.communicate(timeout=60)[0])
    return (ended - start) / EVENTS * 1e6


def streamed(queue: FileQueue) -> tuple[float, float]:
    """Microseconds for a chunk from a generator to its listener on the same loop: recorded, and not."""

    async def source(x: int) -> AsyncIterator[str]:
        for i in range(CHUNKS):
            yield f"token{i}"

    async def chunk(where: FileQueue | None) -> float:
        start = time.perf_counter()
        async for _ in Pipeline(source).stream(0, queue=where).text():
            pass
        return (time.perf_counter() - start) / CHUNKS * 1e6

    async def both() -> tuple[float, float]:
        pairs = [(await chunk(queue), await chunk(None)) for _ in range(5)]
        return median(pair[0] for pair in pairs), median(pair[1] for pair in pairs)

    return asyncio.run(both())


def woken(queue: FileQueue) -> list[float]:
    """Milliseconds from an event's time to a reader of another process that waits for it."""
    run, rnd = Run(), random.Random(1)
    log = queue.open_log(run, None)
    reader = other("late", queue, run)
    for i in range(WAKES):
        log.put(TextDelta(str(i)), ("answer",))
        time.sleep(rnd.uniform(0.002, 0.006))
    log.close(RunFinished(*FINISHED), skip=False)
    return [float(word) for word in reader.communicate(timeout=60)[0].split()]


def other(what: str, queue: FileQueue, run: Run) -> subprocess.Popen[str]:
    """A process that reads the run; it has begun."""
    command = [sys.executable, "-m", "benchmarks.recordings", what, queue.url, run.id]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def read(url: str, run_id: str, lateness: bool) -> None:
    """What such a process does."""
    reader = attach(run_id, url)
    print("begun", flush=True)
    late = [(time.time() - event.time) * 1e3 for event in reader]
    print(*(late[:-1] if lateness else [time.time()]))


if __name__ == "__main__":
    what, url, run_id = sys.argv[1:]
    read(url, run_id, what == "late")
