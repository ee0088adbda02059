"""Mixed load on a service: a crowd that asks, leaves, stops, comes back, errs and dies at random.

Afterwards the accounting adds up, in the figures and in the lines that were written, and everything is as before.
"""

from __future__ import annotations

import os
import statistics
import time
from collections import Counter

import pytest

from millrace import Limits
from millrace.launchers.run_records import OUTCOMES
from tests.leaving.crowds import WAYS, Crowd
from tests.support.leaks import eventually
from tests.support.mixed_server import EXPECTED, MixedServer, mixed_server

SOAK = float(os.environ.get("SOAK_SECONDS", "60"))
CLIENTS = 16
RUNNING = 4
KEYS = [f"sk-{name}-of-three-for-this-load" for name in ("one", "two", "six")]
WARM = 0.25
"""Part of the time after which all is there that stays: threads of pools, as many runs as are kept."""
GROWTH = 16 << 20
"""Bytes that the server may need more at the end than when it was warm: a quarter of a kB for each request of the long
version. What is left in the allocator's pieces after a peak of 300 MB scatters from -5 to +10 MB from run to run.
"""
PEAK = 400 << 20
"""Bytes that it may take at its worst moment."""


def load(seconds: float) -> None:
    seed = int(os.environ.get("SOAK_SEED", time.time_ns() % 10**6))
    print(f"SOAK_SEED={seed}")
    with mixed_server(Limits(running=RUNNING, waiting=8), KEYS) as server:
        crowd = Crowd(server.port, KEYS, CLIENTS, seed)
        crowd.run(WARM * seconds)
        warm, (threads, descriptors) = at_rest(server), server.holds()
        samples: list[int] = []
        crowd.run((1 - WARM) * seconds, lambda: samples.append(server.memory()))
        grown = at_rest(server) - warm
        runs = server.status()["runs"]
        print(dict(sorted(crowd.seen.items())), runs, sep="\n")
        print(f"{runs['started'] / seconds:.0f}/s; {warm >> 20} MB when warm, then {grown >> 10} kB more")
        print(f"in memory by thirds, MB: {thirds(samples)}; peak {max(samples) >> 20}")

        adds_up(server, crowd)
        most = threads + RUNNING, descriptors  # a pool keeps as many as have been needed at once
        eventually(lambda: not server.holds_more(most), timeout=20, message=lambda: (server.holds(), most))
        assert grown < GROWTH
        assert max(samples) < PEAK
        took = server.stop()
        print(f"ended in {took:.2f} s")
        assert took < 2


def thirds(samples: list[int]) -> list[int]:
    """The medians of the first, the second and the last third, in MB."""
    size = len(samples) // 3
    return [int(statistics.median(samples[part * size : (part + 1) * size])) >> 20 for part in range(3)]


def at_rest(server: MixedServer) -> int:
    """Waits until nothing goes on, inside as well; the bytes that are needed then."""
    eventually(server.idle, timeout=20, message=server.status)
    eventually(lambda: not any(going_on(server.counters())), message=server.counters)
    return server.tidy()


def going_on(counters: dict[str, int]) -> tuple[int, ...]:
    """Runs, functions that nobody waits for any more, and generators that are not closed."""
    return counters["runs"], counters["abandoned"], counters["opened"] - counters["closed"]


def adds_up(server: MixedServer, crowd: Crowd) -> None:
    """The figures, the lines, the complaints and what the clients have seen say the same."""
    runs, lines, seen = server.status()["runs"], server.lines(), crowd.seen
    assert runs.pop("started") == sum(runs.values()) <= seen["asked"]
    assert Counter(line["outcome"] for line in lines) == runs
    assert set(crowd.done) == {way.__name__ for way in WAYS}
    assert all(runs[outcome] for outcome in OUTCOMES)
    told = {"done": "completed", "failed": "failed", "timed out": "timed_out", "rejected": "rejected"}
    assert all(seen[word] <= runs[outcome] for word, outcome in told.items())
    assert seen["expired"] <= seen["followed"] / 20
    complaints = server.complaints()
    assert [complaint for complaint in complaints if complaint.count(EXPECTED) != 1] == []
    assert len(complaints) == runs["failed"]
    assert not any(key in server.log.read_text() for key in KEYS)


@pytest.mark.slow
def test_for_a_while() -> None:
    load(60)


@pytest.mark.soak
@pytest.mark.timeout(SOAK * 2 + 120)
def test_for_long() -> None:
    load(SOAK)
