"""The store of segments beside what else could carry messages: a bare append, sqlite, a lock for each message."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter, sleep
from typing import Any

from filelock import FileLock

from millrace.streaming.files import FileStore, SegmentReader

PAYLOAD = json.dumps(
    {"kind": "text_delta", "seq": 1, "path": ["answer"], "time": 1.5, "text": "x" * 50}
).encode()
PAYLOAD += b" " * (120 - len(PAYLOAD))
ROUNDS = 7
MESSAGES = 50_000
WAKES = 400

Round = Callable[[Path], float]


def rows() -> list[dict[str, Any]]:
    """The store's figures, and the alternatives' in the same unit."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        put, floor, sqlite, locked, queue = rounds(root, segment, bare, wal, lock_per_message, in_memory)
        through = median(end_to_end(root / f"through-{i}") for i in range(3))
        synced, disk = rounds(root, segment_synced, bare_synced, count=3)
        waits = {notify: woken(root / notify, notify) for notify in ("auto", "poll")}
    return [
        row("file queue, append of 120 bytes", put, floor, "< 4 us", put < 4),
        row("file queue, two processes, end to end", through, floor, "< 6 us", through < 6),
        row("  sqlite in WAL mode, insert and commit", sqlite, floor),
        row("  one file lock for each message", locked, floor),
        row("  asyncio.Queue, put and get in memory", queue, floor),
        row("file queue, append with sync=always", synced, disk),
        *(entry for notify, each in waits.items() for entry in waking(notify, each)),
    ]


def row(
    name: str,
    value: float,
    floor: float | None,
    goal: str | None = None,
    ok: bool | None = None,
    unit: str = "us",
) -> dict[str, Any]:
    ratio = None if floor is None else value / floor
    return {
        "name": name,
        "value": value,
        "unit": unit,
        "floor": floor,
        "ratio": ratio,
        "goal": goal,
        "ok": ok,
    }


def rounds(root: Path, *cases: Round, count: int = ROUNDS) -> list[float]:
    """Medians over interleaved rounds, each in a directory of its own; microseconds for each message."""
    seen: list[list[float]] = [[] for _ in cases]
    for number in range(count):
        for case, values in zip(cases, seen, strict=True):
            place = root / f"{case.__name__}-{number}"
            place.mkdir(mode=0o700)
            values.append(case(place))
    return [median(values) for values in seen]


def repeated(call: Callable[[bytes], object], times: int = MESSAGES) -> float:
    started = perf_counter()
    for _ in range(times):
        call(PAYLOAD)
    return (perf_counter() - started) / times * 1e6


# ------------------------------------------------------------ putting


def segment(place: Path) -> float:
    writer = FileStore.at(place).create("run", {})
    took = repeated(writer.append)
    writer.end(b"")
    return took


def bare(place: Path) -> float:
    descriptor = os.open(place / "file", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    try:
        return repeated(lambda payload: os.write(descriptor, payload))
    finally:
        os.close(descriptor)


def segment_synced(place: Path) -> float:
    writer = FileStore.at(place, sync="always").create("run", {})
    took = repeated(writer.append, 100)
    writer.end(b"")
    return took


def bare_synced(place: Path) -> float:
    descriptor = os.open(place / "file", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)

    def put(payload: bytes) -> None:
        os.write(descriptor, payload)
        getattr(os, "fdatasync", os.fsync)(descriptor)

    try:
        return repeated(put, 100)
    finally:
        os.close(descriptor)


def wal(place: Path) -> float:
    base = sqlite3.connect(place / "base", isolation_level=None)
    base.execute("PRAGMA journal_mode=WAL")
    base.execute("PRAGMA synchronous=NORMAL")
    base.execute("CREATE TABLE messages (seq INTEGER PRIMARY KEY, payload BLOB)")
    try:
        return repeated(
            lambda payload: base.execute("INSERT INTO messages (payload) VALUES (?)", (payload,)), 5000
        )
    finally:
        base.close()


def lock_per_message(place: Path) -> float:
    lock = FileLock(place / "lock", fallback_to_soft=False)

    def put(payload: bytes) -> None:
        with lock, open(place / "file", "ab", buffering=0) as file:
            file.write(payload)

    return repeated(put, 500)


def in_memory(place: Path) -> float:
    async def main() -> float:
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(64)

        async def produce() -> None:
            for _ in range(MESSAGES):
                await queue.put(PAYLOAD)
            await queue.put(None)

        started = perf_counter()
        task = asyncio.create_task(produce())
        while await queue.get() is not None:
            pass
        await task
        return (perf_counter() - started) / MESSAGES * 1e6

    return asyncio.run(main())


# ------------------------------------------------------------ between two processes


def end_to_end(place: Path) -> float:
    """Microseconds for each message, from the first append to the moment when the other process has the last one."""
    store = FileStore.at(place)
    writer = store.create("run", {})
    reading = reader(place, "auto")
    started = perf_counter()
    for _ in range(2 * MESSAGES):
        writer.append(PAYLOAD)
    writer.end(b"")
    said = answer(reading)
    assert said["frames"] == 2 * MESSAGES + 1
    return float(said["ended"] - started) / (2 * MESSAGES) * 1e6


def woken(place: Path, notify: str) -> list[float]:
    """Milliseconds from single appends to their being read by a waiting process."""
    writer = FileStore.at(place).create("run", {})
    reading = reader(place, notify)
    for _ in range(WAKES):
        sleep(0.004)  # so that the reader waits again
        writer.append(repr(perf_counter()).encode())
    writer.end(b"")
    return [late * 1e3 for late in answer(reading)["late"]]


def waking(notify: str, late: list[float]) -> list[dict[str, Any]]:
    half, most = median(late), quantiles(late, n=100)[98]
    polls = notify == "poll"
    name = "a waiting reader is woken" + (", by polling" if polls else "")
    return [
        row(f"{name}, p50", half, None, None if polls else "< 1 ms", None if polls else half < 1, "ms"),
        row(f"{name}, p99", most, None, "< 5 ms", most < 5, "ms"),
    ]


def reader(place: Path, notify: str) -> subprocess.Popen[str]:
    """Another process that reads the run, and waits for it already."""
    command = [sys.executable, "-m", "benchmarks.segments", str(place), notify]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "waits\n"
    return child


def answer(child: subprocess.Popen[str]) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(child.communicate()[0])
    return said


def read(reader: SegmentReader) -> dict[str, Any]:
    """Takes all frames as they come; payloads that are numbers are the moments of their writing."""
    there, late, frames = threading.Event(), [], 0
    reader.watch(there.set)
    print("waits", flush=True)
    while not (reader.ended or reader.lost):
        taken = reader.take()
        now = perf_counter()
        frames += len(taken)
        if taken and len(taken) < 5:
            late += [now - float(payload) for payload in taken if payload[:1].isdigit()]
        elif not taken:
            there.wait()
            there.clear()
    return {"frames": frames, "late": late, "ended": perf_counter()}


if __name__ == "__main__":
    store = FileStore.at(sys.argv[1], notify="poll" if sys.argv[2] == "poll" else "auto")
    print(json.dumps(read(store.read("run"))))
