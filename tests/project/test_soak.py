"""Many runs, stopped at random in every way a listener can leave: nothing of them may stay."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import psutil
import pytest

from millrace import Pipeline, step
from millrace.streaming.errors import RunCancelled, RunTimeout
from tests.support.leaks import eventually, leaks, live_runs

SECONDS = float(os.environ.get("SOAK_SECONDS", "60"))
PIECES = 200
GROWTH = 16 << 20
"""Bytes that the process may grow by after the first tenth: caches, and what the allocator keeps."""

opened = closed = 0
counting = threading.Lock()


class Resource:
    """What a step holds while it works."""

    def __enter__(self) -> None:
        global opened
        with counting:
            opened += 1

    def __exit__(self, *_: object) -> None:
        global closed
        with counting:
            closed += 1


async def asynchronous(x: int) -> AsyncIterator[str]:
    with Resource():
        for number in range(PIECES):
            yield f"{number} "
            await asyncio.sleep(0)


def synchronous(x: int) -> Iterator[str]:
    with Resource():
        for number in range(PIECES):
            yield f"{number} "


async def awaiting(x: Any) -> Any:
    with Resource():
        await asyncio.sleep(0.001)
    return x


def plain(x: Any) -> Any:
    return x


FLOWS: dict[str, Any] = {
    "async generator": step(asynchronous),
    "sync generator": step(synchronous),
    "after others": Pipeline(plain, awaiting, asynchronous),
    "before others": Pipeline(synchronous, plain, awaiting),
    "nested": Pipeline(plain, Pipeline(awaiting, synchronous)),
}


def read_all(flow: Any, after: int) -> None:
    for _ in flow.stream(1):
        pass


def break_out(flow: Any, after: int) -> None:
    for number, _ in enumerate(flow.stream(1)):
        if number >= after:
            break


def break_out_of_text(flow: Any, after: int) -> None:
    for number, _ in enumerate(flow.stream(1).text()):
        if number >= after:
            break


def leave_the_block(flow: Any, after: int) -> None:
    with flow.stream(1) as stream:
        for number, _ in enumerate(stream):
            if number >= after:
                return


def raise_in_the_loop(flow: Any, after: int) -> None:
    try:
        for number, _ in enumerate(flow.stream(1)):
            if number >= after:
                raise KeyError(number)
    except KeyError:
        pass


def drop(flow: Any, after: int) -> None:
    reader = iter(flow.stream(1))
    for _ in range(min(after, 3)):
        next(reader, None)


def cancel_from_a_thread(flow: Any, after: int) -> None:
    with flow.stream(1) as stream:
        canceller = threading.Timer(after * 1e-4, stream.run.cancel)
        canceller.start()
        try:
            for _ in stream:
                pass
        except RunCancelled:
            pass
        canceller.join()


def deadline(flow: Any, after: int) -> None:
    try:
        for _ in flow.stream(1, timeout=0.0005 + after * 1e-4):
            pass
    except RunTimeout:
        pass


def async_break(flow: Any, after: int) -> None:
    async def main() -> None:
        number = 0
        async for _ in flow.stream(1):
            number += 1
            if number > after:
                break

    asyncio.run(main())


def outer_cancel(flow: Any, after: int) -> None:
    async def main() -> None:
        try:
            async with asyncio.timeout(0.0005 + after * 1e-4):
                async for _ in flow.stream(1):
                    pass
        except TimeoutError:
            pass

    asyncio.run(main())


WAYS: list[Callable[[Any, int], None]] = [
    read_all,
    break_out,
    break_out_of_text,
    leave_the_block,
    raise_in_the_loop,
    drop,
    cancel_from_a_thread,
    deadline,
    async_break,
    outer_cancel,
]


@pytest.mark.soak
@pytest.mark.timeout(SECONDS * 2 + 60)
def test_random_stops_leave_nothing() -> None:
    seed = int(os.environ.get("SOAK_SEED", time.time_ns() % 10**6))
    print(f"SOAK_SEED={seed}")
    chance = random.Random(seed)
    done: Counter[str] = Counter()
    for flow in FLOWS.values():
        read_all(flow, 0)
    with leaks(timeout=30):
        started, begun_with = time.monotonic(), 0
        while (elapsed := time.monotonic() - started) < SECONDS:
            way, name = chance.choice(WAYS), chance.choice(list(FLOWS))
            way(FLOWS[name], int(chance.expovariate(0.05)))
            done[f"{way.__name__}, {name}"] += 1
            if not begun_with and elapsed > SECONDS / 10:
                begun_with = psutil.Process().memory_info().rss
        eventually(lambda: live_runs() == 0, timeout=10)
        eventually(lambda: opened == closed, timeout=10, message=lambda: f"{opened} opened, {closed} closed")
    grown = psutil.Process().memory_info().rss - begun_with
    print(f"{done.total()} runs in {len(done)} combinations; {opened} resources; grew by {grown >> 10} kB")
    assert len(done) == len(WAYS) * len(FLOWS) or SECONDS < 10
    assert grown < GROWTH
