"""What other processes do to a store in these tests: `python -m tests.streaming.files.workers hold ROOT ...`."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import IO

from millrace.streaming.errors import QueueError, RunUnknown
from millrace.streaming.files import FileStore, SegmentReader
from tests.streaming.files.support import read_to_end

CHECKOUT = Path(__file__).resolve().parents[3]


def start(*arguments: object) -> subprocess.Popen[str]:
    """A process that does one of the things below; it has begun when it says `begun`."""
    command = [sys.executable, "-W", "error", "-m", "tests.streaming.files.workers", *map(str, arguments)]
    return subprocess.Popen(
        command,
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def told(worker: subprocess.Popen[str]) -> str:
    """The next line that it says."""
    assert worker.stdout is not None
    line = worker.stdout.readline().strip()
    if not line:
        assert worker.stderr is not None
        raise AssertionError(worker.stderr.read())
    return line


def finish(worker: subprocess.Popen[str], say: str = "") -> str:
    """Lets it go on, waits for its end, and returns what it said."""
    out, err = worker.communicate(say, timeout=100)
    assert (worker.returncode, err) == (0, "")
    return out.strip()


def finish_killed(worker: subprocess.Popen[str]) -> None:
    """Waits for the end of a process that was killed."""
    worker.communicate(timeout=30)
    assert worker.returncode == -9


def payload(run_id: str, number: int, size: int) -> bytes:
    """Frame `number` of a run, which no other frame equals."""
    return f"{run_id}:{number}:".encode() + bytes([number % 251]) * size


def say(what: str) -> None:
    print(what, flush=True)


def write(root: Path, runs: Sequence[str], sizes: Sequence[int]) -> None:
    """Writes frames of random sizes into several runs, a thread each, until it is killed."""
    store = FileStore.at(root)

    def forever(run_id: str) -> None:
        writer, dice, number = store.create(run_id, {}), random.Random(run_id), 0
        while True:
            number += 1
            writer.append(payload(run_id, number, dice.randrange(dice.choice(sizes))))

    threads = [threading.Thread(target=forever, args=(run_id,)) for run_id in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def produce(root: str, prefix: str, runs: str, frames: str) -> None:
    """Writes whole runs, a thread each, when told to."""
    store = FileStore.at(root)

    def run(run_id: str) -> None:
        writer = store.create(run_id, {"prefix": prefix})
        for number in range(1, int(frames) + 1):
            writer.append(payload(run_id, number, number % 300))
        writer.end(f"{run_id} ends".encode())

    threads = [threading.Thread(target=run, args=(f"{prefix}-{i}",)) for i in range(int(runs))]
    say("begun")
    sys.stdin.readline()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def consume(root: str, prefix: str, runs: str, frames: str) -> None:
    """Reads such runs while they are written, a thread each; says which were not what they should be."""
    store, wrong = FileStore.at(root), []

    def run(run_id: str) -> None:
        reader = await_run(store, run_id)
        expected = [payload(run_id, number, number % 300) for number in range(1, int(frames) + 1)]
        if read_to_end(reader, 90) != [*expected, f"{run_id} ends".encode()]:
            wrong.append(run_id)
        reader.close()

    threads = [threading.Thread(target=run, args=(f"{prefix}-{i}",)) for i in range(int(runs))]
    say("begun")
    sys.stdin.readline()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    say(json.dumps(wrong))


def await_run(store: FileStore, run_id: str) -> SegmentReader:
    deadline = monotonic() + 60
    pause = threading.Event()
    while True:
        try:
            return store.read(run_id)
        except RunUnknown:
            assert monotonic() < deadline
            pause.wait(0.001)


def hold(root: str, run_id: str, *frames: str) -> None:
    """Writes some frames of a run and leaves it open until told to end it; says when it is cancelled."""
    writer = FileStore.at(root).create(run_id, {})
    writer.on_cancel = lambda reason: say(f"cancelled: {reason}")
    for each in frames:
        writer.append(each.encode())
    say("begun")
    if (end := sys.stdin.readline().strip()) == "end":
        writer.end(b"the end")
    elif end:
        say(end)


def sweep(root: str, max_bytes: str) -> None:
    """Sweeps again and again until told to stop; says how many runs it has removed."""
    store, removed, stop = FileStore.at(root, max_bytes=int(max_bytes)), 0, threading.Event()
    say("begun")
    threading.Thread(target=wait_for_line, args=(sys.stdin, stop)).start()
    while not stop.is_set():
        removed += store.sweep()
    say(str(removed + store.sweep()))


def wait_for_line(lines: IO[str], stop: threading.Event) -> None:
    lines.readline()
    stop.set()


def refuse(root: str) -> None:
    """Says why the directory cannot be used."""
    try:
        FileStore.at(root)
    except QueueError as error:
        say(str(error))


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
