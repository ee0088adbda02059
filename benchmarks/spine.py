"""The spine: calls, chunks, first chunks, many sessions; each beside its floor in plain Python, in the same run."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from statistics import median
from time import perf_counter, process_time
from typing import Any

from millrace import Parallel, Pipeline, session

TOKENS = [f"token{i}" for i in range(20_000)]
Case = Callable[[], Awaitable[float]]


def same(x: Any) -> Any:
    return x


async def asame(x: Any) -> Any:
    return x


async def source(x: Any) -> AsyncIterator[str]:
    for token in TOKENS:
        yield token


async def dotted(tokens: AsyncIterator[str]) -> AsyncIterator[str]:
    async for token in tokens:
        yield token + "."


async def pausing(x: Any) -> AsyncIterator[str]:
    for i in range(50):
        await asyncio.sleep(0)
        yield f"{x}:{i}"


async def rounds(count: int, *cases: Case) -> list[float]:
    """Medians over interleaved rounds; a case returns microseconds for each unit of its work."""
    seen: list[list[float]] = [[] for _ in cases]
    for _ in range(count):
        for case, values in zip(cases, seen, strict=True):
            gc.collect()
            values.append(await case())
    return [median(values) for values in seen]


def timed(function: Callable[[], Any], times: int) -> Case:
    async def case() -> float:
        start = perf_counter()
        for _ in range(times):
            function()
        return (perf_counter() - start) / times * 1e6

    return case


def timed_async(function: Callable[[], Awaitable[Any]], times: int) -> Case:
    async def case() -> float:
        start = perf_counter()
        for _ in range(times):
            await function()
        return (perf_counter() - start) / times * 1e6

    return case


def row(
    name: str, value: float, floor: float, limit: float, ratio: bool = False, unit: str = "us"
) -> dict[str, Any]:
    """One line of the table; `limit` is the goal, of the ratio or of the value."""
    return {
        "name": name,
        "value": value,
        "unit": unit,
        "floor": floor,
        "ratio": value / floor,
        "goal": f"ratio < {limit}" if ratio else f"< {limit} {unit}",
        "ok": (value / floor if ratio else value) < limit,
    }


async def ten_sync() -> dict[str, Any]:
    functions, flow = [same] * 10, Pipeline(*[same] * 10)

    def plain() -> None:
        x = 1
        for function in functions:
            x = function(x)

    value, floor = await rounds(30, timed(lambda: flow(1), 2000), timed(plain, 2000))
    return row("10 identity steps, sync", value, floor, 2)


async def ten_async() -> dict[str, Any]:
    flow = Pipeline(*[asame] * 10)

    async def plain() -> None:
        x = 1
        for _ in range(10):
            x = await asame(x)

    value, floor = await rounds(30, timed_async(lambda: flow.acall(1), 500), timed_async(plain, 500))
    return row("10 async steps, in a task of their own", value, floor, 12)


async def four_branches() -> dict[str, Any]:
    flow = Parallel(*[asame] * 4)

    async def gathered() -> None:
        await asyncio.gather(*(asame(1) for _ in range(4)))

    value, floor = await rounds(30, timed_async(lambda: flow.acall(1), 300), timed_async(gathered, 300))
    return row("4 async branches, beside asyncio.gather", value, floor, 30)


async def queue_of(make: Callable[[], AsyncIterator[str]]) -> float:
    """The floor: a producer task and an asyncio.Queue(64)."""
    queue: asyncio.Queue[str | None] = asyncio.Queue(64)

    async def produce() -> None:
        async for token in make():
            await queue.put(token)
        await queue.put(None)

    start = perf_counter()
    task = asyncio.create_task(produce())
    while await queue.get() is not None:
        pass
    await task
    return (perf_counter() - start) / len(TOKENS) * 1e6


def drained(flow: Pipeline[Any, Any], text: bool) -> Case:
    async def case() -> float:
        start = perf_counter()
        stream = flow.stream(0)
        async for _ in stream.text() if text else stream:
            pass
        return (perf_counter() - start) / len(TOKENS) * 1e6

    return case


async def chunks() -> list[dict[str, Any]]:
    one, three = Pipeline(source), Pipeline(source, dotted, dotted, dotted)

    async def bare() -> float:
        return await queue_of(lambda: source(0))

    async def nested() -> float:
        start = perf_counter()
        async for _ in dotted(dotted(dotted(source(0)))):
            pass
        return (perf_counter() - start) / len(TOKENS) * 1e6

    queue, text, events = await rounds(15, bare, drained(one, True), drained(one, False))
    through, plain = await rounds(9, drained(three, True), nested)
    return [
        row("a streamed chunk as text, against asyncio.Queue(64)", text, queue, 1.2, ratio=True),
        row("a streamed chunk as event, against asyncio.Queue(64)", events, queue, 1.2, ratio=True),
        row("a chunk through 3 live steps", through, plain, 4),
    ]


async def first() -> dict[str, Any]:
    flow = Pipeline(pausing)

    async def ours() -> float:
        start, took = perf_counter(), 0.0
        async for _ in flow.stream(0).text():
            took = perf_counter() - start
            break
        await asyncio.sleep(0.002)
        return took * 1e6

    async def floor() -> float:
        queue: asyncio.Queue[str] = asyncio.Queue(64)

        async def produce() -> None:
            async for token in pausing(0):
                await queue.put(token)

        start = perf_counter()
        task = asyncio.create_task(produce())
        await queue.get()
        took = perf_counter() - start
        task.cancel()
        await asyncio.sleep(0.002)
        return took * 1e6

    value, plain = await rounds(100, ours, floor)
    return row("first chunk", value, plain, 100)


async def many(count: int = 1000) -> dict[str, Any]:
    """1000 sessions of 50 chunks each, all at once; chunks per second of processor time."""
    flow, foreign = Pipeline(pausing), 0

    async def listen(i: int) -> None:
        nonlocal foreign
        with session(f"user-{i}"):
            async for piece in flow.stream(i).text():
                foreign += not piece.startswith(f"{i}:")

    async def plain(i: int) -> None:
        queue: asyncio.Queue[str | None] = asyncio.Queue(64)

        async def produce() -> None:
            async for piece in pausing(i):
                await queue.put(piece)
            await queue.put(None)

        task = asyncio.create_task(produce())
        while await queue.get() is not None:
            pass
        await task

    def case(body: Callable[[int], Awaitable[None]]) -> Case:
        async def measured() -> float:
            start = process_time()
            await asyncio.gather(*(body(i) for i in range(count)))
            return count * 50 / (process_time() - start)

        return measured

    ours, floor = await rounds(5, case(listen), case(plain))
    assert foreign == 0, f"{foreign} pieces reached another session"
    share = ours / floor
    return {
        "name": f"{count} sessions x 50 chunks",
        "value": ours / 1e3,
        "unit": "k chunks/s",
        "floor": floor / 1e3,
        "ratio": share,
        "goal": "> 60 %",
        "ok": share > 0.6,
    }


def run() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []

    def sync() -> None:  # a thread without a running loop, as in a script
        rows.append(asyncio.run(ten_sync()))

    thread = threading.Thread(target=sync)
    thread.start()
    thread.join()
    rows.append(asyncio.run(ten_async()))
    rows.append(asyncio.run(four_branches()))
    rows.extend(asyncio.run(chunks()))
    rows.append(asyncio.run(first()))
    rows.append(asyncio.run(many()))
    return rows


if __name__ == "__main__":
    from benchmarks.tables import table

    print(table(run()))
