from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from millrace import Pipeline, session, step
from millrace.flow.policies import Cache, Limiter, MemoryCache
from millrace.flow.policies.flights import twin_of
from millrace.streaming import Overloaded, status
from millrace.streaming.runs import Run
from tests.flow.policies.leaving import leave_at_random
from tests.support.leaks import eventually, eventually_async, leaks


class Gated:
    """A step that counts its calls and waits at a gate, on any loop."""

    def __init__(self) -> None:
        self.calls = 0
        self.cleaned = 0
        self.open = False
        self.error: Exception | None = None

    async def wait(self) -> None:
        self.calls += 1
        try:
            await eventually_async(lambda: self.open, timeout=30)
        finally:
            self.cleaned += 1
        if self.error is not None:
            raise self.error

    async def coroutine(self, x: str) -> str:
        await self.wait()
        return f"{x}/{self.calls}"

    async def stream(self, x: str) -> AsyncIterator[str]:
        await self.wait()
        for piece in (x, "/", str(self.calls)):
            yield piece


def waiting(cache: Cache) -> int:
    """How many wait for others."""
    return sum(len(flight._waiters) for flight in cache.flights.open.values())


KINDS = ["coroutine", "stream"]


@pytest.mark.anyio
@pytest.mark.parametrize("kind", KINDS)
async def test_simultaneous_equal_calls_work_once(kind: str) -> None:
    gated, cache = Gated(), MemoryCache(shared=True)
    flow = step(getattr(gated, kind), cache=cache)
    with leaks():
        calls = [asyncio.create_task(flow.acall("a")) for _ in range(20)]
        other = asyncio.create_task(flow.acall("b"))
        await eventually_async(lambda: waiting(cache) == 19)
        gated.open = True
        found = await asyncio.gather(*calls)
        assert len(set(found)) == 1
        await other
    assert gated.calls == 2
    assert len(cache.flights.open) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_from_different_loops_and_threads(kind: str) -> None:
    gated, cache = Gated(), MemoryCache(shared=True)
    flow = step(getattr(gated, kind), cache=cache)
    found: list[str] = []

    def synchronous() -> None:
        found.append(flow("a"))

    def own_loop() -> None:
        found.append(asyncio.run(flow.acall("a")))

    def streaming() -> None:
        found.append("".join(flow.stream("a").text()))

    threads = [threading.Thread(target=work) for work in (synchronous, own_loop, streaming) * 3]
    for thread in threads:
        thread.start()
    eventually(lambda: waiting(cache) == 8)
    gated.open = True
    for thread in threads:
        thread.join(20)
    assert found == ["a/1"] * 9


@pytest.mark.anyio
@pytest.mark.parametrize("kind", KINDS)
async def test_a_cancelled_leader_hands_over(kind: str) -> None:
    gated, cache = Gated(), MemoryCache(shared=True)
    flow = step(getattr(gated, kind), cache=cache)
    calls = []
    for i in range(4):
        calls.append(asyncio.create_task(flow.acall("a")))
        await eventually_async(lambda i=i: gated.calls + waiting(cache) == i + 1)  # type: ignore[misc]
    for i in range(2):
        calls[i].cancel()
        await eventually_async(lambda i=i: gated.calls == i + 2)  # type: ignore[misc]
    calls[3].cancel()  # one that waits
    gated.open = True
    assert await calls[2] == "a/3"
    assert (gated.calls, gated.cleaned, len(cache.flights.open)) == (3, 3, 0)
    assert await flow.acall("a") == "a/3"


@pytest.mark.anyio
async def test_when_all_are_cancelled_nothing_is_left() -> None:
    gated, cache = Gated(), MemoryCache(shared=True)
    flow = step(gated.coroutine, cache=cache)
    with leaks():
        calls = [asyncio.create_task(flow.acall("a")) for _ in range(5)]
        await eventually_async(lambda: waiting(cache) == 4)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await eventually_async(lambda: status().runs == 0)
    assert (gated.cleaned, len(cache.flights.open)) == (gated.calls, 0)


@pytest.mark.anyio
@pytest.mark.parametrize("kind", KINDS)
async def test_when_the_leader_fails_all_fail_and_the_next_tries_again(kind: str) -> None:
    gated, cache = Gated(), MemoryCache(shared=True)
    gated.error = ConnectionError("down")
    flow = Pipeline(step(getattr(gated, kind), cache=cache, name="ask"), name="flow")
    calls = [asyncio.create_task(flow.acall("a")) for _ in range(5)]
    await eventually_async(lambda: waiting(cache) == 4)
    gated.open = True
    found: list[Any] = await asyncio.gather(*calls, return_exceptions=True)
    assert gated.calls == 1
    assert {type(error) for error in found} == {ConnectionError}
    assert len({id(error) for error in found}) == 5  # each run has one of its own
    assert [len(error.__notes__) for error in found] == [1] * 5
    assert all(error.__notes__[0].startswith("in flow > ask (") for error in found)
    gated.error = None
    assert await flow.acall("a") == "a/2"


def test_twins_of_errors() -> None:
    class Odd(Exception):
        def __init__(self, a: int, b: int) -> None:
            super().__init__(f"{a} and {b}")

    with pytest.raises(Overloaded) as caught:
        raise Overloaded("full", 3.0) from KeyError("cause")
    error: Any = caught.value
    error.add_note("mine")
    error._millrace_trail = ["x"]
    twin: Any = twin_of(error)
    assert twin is not error
    assert (str(twin), twin.retry_after, twin.__notes__) == ("full", 3.0, ["mine"])
    assert twin.__notes__ is not error.__notes__
    assert isinstance(twin.__cause__, KeyError)
    assert not hasattr(twin, "_millrace_trail")
    odd = Odd(1, 2)
    assert twin_of(odd) is odd  # it cannot be copied


# ---------------------------------------------------------------- never for ever


@pytest.mark.anyio
async def test_who_waits_for_a_leader_whose_listener_pauses_goes_its_own_way() -> None:
    """Its log is full, or its pieces are not taken: it may never go on."""

    async def many(x: int) -> AsyncIterator[str]:
        for i in range(x):
            yield f"{i},"

    flow = step(many, cache="shared")
    async with flow.stream(2000) as stream:
        reader = aiter(stream)
        await anext(reader)
        await eventually_async(lambda: len(stream.run.log.ahead) >= 256)  # type: ignore[union-attr]
        assert len(await asyncio.wait_for(flow.acall(2000), 20)) == len("".join(f"{i}," for i in range(2000)))


def test_a_live_consumer_that_asks_for_the_same() -> None:
    async def words(x: str) -> AsyncIterator[str]:
        for word in x.split():
            yield word

    cached = step(words, cache="shared")

    async def consumer(pieces: AsyncIterator[str]) -> str:
        found = [await anext(pieces)]
        found.append(await cached.acall("one two three"))  # its own upstream is that flight's leader
        found += [piece async for piece in pieces]
        return "|".join(found)

    assert Pipeline(cached, consumer)("one two three", timeout=20) == "one|onetwothree|two|three"


def test_a_step_that_asks_itself() -> None:
    async def countdown(n: int) -> int:
        return 0 if n == 0 else 1 + await flow.acall(n - 1)

    flow: Any = step(countdown, cache="shared", concurrency=1)
    assert flow.batch([5, 5, 6, 3], timeout=30) == [5, 5, 6, 3]

    depth = [0]

    async def same(n: int) -> int:
        depth[0] += 1
        return 7 if depth[0] > 3 else await again.acall(n)

    again: Any = step(same, cache="shared")
    assert again(1, timeout=20) == 7


@pytest.mark.anyio
async def test_who_holds_what_the_leader_waits_for_goes_its_own_way() -> None:
    """One call holds the only slot and asks for a value, which another one leads that waits for the slot."""
    limiter, cache, begun = Limiter(1), MemoryCache(shared=True), asyncio.Event()

    async def value(x: str) -> str:
        return x.upper()

    inner = step(value, concurrency=limiter, cache=cache)

    async def holding(x: str) -> str:
        begun.set()
        await eventually_async(lambda: limiter.waiting == 1)  # the leader of the value stands in the line
        return await inner.acall(x)

    outer = step(holding, concurrency=limiter)
    first = asyncio.create_task(outer.acall("a"))
    await begun.wait()
    second = asyncio.create_task(inner.acall("a"))
    assert await asyncio.wait_for(asyncio.gather(first, second), 20) == ["A", "A"]
    assert (limiter.working, len(cache.flights.open)) == (0, 0)


def test_a_leader_whose_loop_was_lost() -> None:
    cache, leader = MemoryCache(), Run()
    leader.loop = asyncio.new_event_loop()
    leader.loop.close()
    flight, leads = cache.flights.join("key", leader)
    assert leads
    assert asyncio.run(asyncio.wait_for(flight.wait(Run()), 20)) == "beside"
    assert waiting(cache) == 0


@pytest.mark.anyio
async def test_two_that_ask_for_each_others_value() -> None:
    """Each leads a flight and needs the other's, once."""
    cache = MemoryCache(shared=True)
    inside: set[str] = set()

    async def value(x: str) -> str:
        if x in inside:
            return f"plain {x}"
        inside.add(x)
        await eventually_async(lambda: len(inside) == 2)
        return f"{x} with {await flow.acall({'a': 'b', 'b': 'a'}[x])}"

    flow: Any = step(value, cache=cache)
    found = await asyncio.wait_for(asyncio.gather(flow.acall("a"), flow.acall("b")), 20)
    assert sorted(text[:6] for text in found) == ["a with", "b with"]
    assert len(cache.flights.open) == 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_random_cancels_leave_no_flight_open(seed: int) -> None:
    rnd = random.Random(seed)
    caches = [MemoryCache(1, shared=True, ttl=0.002), MemoryCache(1, ttl=0.002)]

    async def chancy(x: str) -> str:
        await asyncio.sleep(rnd.choice([0, 0, 0.002]))
        if rnd.random() < 0.2:
            raise ConnectionError
        return x

    async def pieces(x: str) -> AsyncIterator[str]:
        for piece in x:
            yield piece
            await asyncio.sleep(rnd.choice([0, 0.001]))

    flows = [step(f, cache=cache) for f in (chancy, pieces) for cache in caches]

    async def storm() -> None:
        with session("alice"):
            for _ in range(25):
                await asyncio.gather(*(leave_at_random(rnd.choice(flows), rnd) for _ in range(20)))
        await eventually_async(lambda: status().runs == 0)

    with leaks():
        asyncio.run(storm())
    assert [len(cache.flights.open) for cache in caches] == [0, 0]
