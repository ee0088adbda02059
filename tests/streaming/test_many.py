"""Many at once: sessions, threads, processes. Nothing foreign, missing, doubled or out of order."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import pytest

from millrace import Parallel, Pipeline, session
from millrace.streaming import FileQueue, MemoryQueue, Queue, current_session, status
from tests.streaming.children import ROOT, child
from tests.streaming.parts import count
from tests.streaming.producers import Producer
from tests.support.leaks import eventually, leaks


async def named(chunks: int) -> AsyncIterator[str]:
    """Pieces that say whose they are."""
    for i in range(chunks):
        await asyncio.sleep(0)
        yield f"{current_session()}:{i} "


def named_in_thread(chunks: int) -> Iterator[str]:
    for i in range(chunks):
        yield f"{current_session()}:{i} "


def expected(name: str, chunks: int) -> list[str]:
    return [f"{name}:{i} " for i in range(chunks)]


@pytest.mark.anyio
async def test_a_thousand_sessions_on_one_loop() -> None:
    flow = Pipeline(named)

    async def listen(i: int) -> None:
        with session(f"user-{i}"):
            assert [piece async for piece in flow.stream(50).text()] == expected(f"user-{i}", 50)

    await asyncio.gather(*(listen(i) for i in range(1000)))
    assert status().runs == 0


@pytest.mark.parametrize("body", [named, named_in_thread])
def test_64_sessions_from_8_threads(body: Callable[..., Any]) -> None:
    flow, wrong = Pipeline(body), []

    def listen(thread: int) -> None:
        for i in range(8):
            name = f"user-{thread}-{i}"
            with session(name):
                if list(flow.stream(100).text()) != expected(name, 100):
                    wrong.append(name)

    def listen_to_all(thread: int) -> None:
        """The same, with all eight open at once."""
        names = [f"user-{thread}-{i}" for i in range(8)]
        with ExitStack() as stack:
            readers = [
                iter(stack.enter_context(flow.stream(100, session=name)).text())  # type: ignore[attr-defined]
                for name in names
            ]
            for i in range(100):
                for name, reader in zip(names, readers, strict=True):
                    if next(reader) != f"{name}:{i} ":
                        wrong.append(name)

    for target in (listen, listen_to_all):
        threads = [threading.Thread(target=target, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert wrong == []


@pytest.mark.anyio
async def test_many_runs_of_one_session_each_with_a_stream_of_its_own() -> None:
    async def numbered(i: int) -> AsyncIterator[str]:
        for n in range(200):
            yield f"{current_session()}/{i}/{n}"
            await asyncio.sleep(0)

    async def listen(i: int) -> list[str]:
        return [piece async for piece in Pipeline(numbered).stream(i).text()]

    with session("alice"):
        heard = await asyncio.gather(*(listen(i) for i in range(20)))
    assert heard == [[f"alice/{i}/{n}" for n in range(200)] for i in range(20)]


@pytest.mark.anyio
async def test_sixty_four_at_once_half_of_them_without_a_session() -> None:
    async def nonces(x: int) -> AsyncIterator[str]:
        for i in range(200):
            yield f"{x}:{i}"
            await asyncio.sleep(0)

    flow = Pipeline(nonces)

    async def listen(i: int) -> None:
        stream = flow.stream(i, session=f"user-{i % 4}" if i % 2 else None)
        assert [piece async for piece in stream.text()] == [f"{i}:{k}" for k in range(200)]

    await asyncio.gather(*(listen(i) for i in range(64)))


@pytest.mark.anyio
async def test_two_in_one_gather_without_ids() -> None:
    async def letters(x: str) -> AsyncIterator[str]:
        for _ in range(300):
            yield x
            await asyncio.sleep(0)

    async def read(x: str) -> str:
        return "".join([piece async for piece in Pipeline(letters).stream(x).text()])

    assert await asyncio.gather(read("a"), read("b")) == ["a" * 300, "b" * 300]


def test_threads_at_once() -> None:
    def numbers(x: int) -> Iterator[str]:
        for i in range(300):
            yield f"{x}:{i}"

    wrong: list[Any] = []

    def listen(i: int) -> None:
        got = list(Pipeline(numbers).stream(i).text())
        if got != [f"{i}:{k}" for k in range(300)]:
            wrong.append(got)

    threads = [threading.Thread(target=listen, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert wrong == []


@pytest.mark.slow
def test_16_writers_in_4_processes_and_readers_in_4_others(tmp_path: Path) -> None:
    url, runs, pieces = f"file://{tmp_path}/runs", 4, 500
    with ExitStack() as stack:
        readers = [stack.enter_context(child("read_many", url)) for _ in range(4)]
        writers = [stack.enter_context(child("write_many", url, runs, pieces, f"p{i}")) for i in range(4)]
        for i, (reader, writer) in enumerate(zip(readers, writers, strict=True)):
            reader.tell([f"p{i}", pieces, writer.told()])
        assert [reader.told() for reader in readers] == [[]] * 4
    infos = list(FileQueue(tmp_path / "runs").runs())
    assert sorted(info.session or "" for info in infos) == [
        f"p{i}-{n}" for i in range(4) for n in range(runs)
    ]
    assert {(info.status, info.events) for info in infos} == {("done", pieces + 4)}


# ---------------------------------------------------------------- one stream, several hands


def sees(x: Any) -> str:
    return f"{current_session()}|"


async def sees_async(x: str) -> str:
    return f"{x}{current_session()}|"


async def repeats(x: str) -> AsyncIterator[str]:
    for i in range(100):
        await asyncio.sleep(0)
        yield f"{x}{current_session()}|{i}"


async def passes(pieces: AsyncIterator[str]) -> AsyncIterator[str]:
    async for piece in pieces:
        yield f"{piece}|{current_session()}"


def passes_in_thread(pieces: Iterator[str]) -> Iterator[str]:
    for piece in pieces:
        yield f"{piece}|{current_session()}"


FLOW = Pipeline(sees, sees_async, repeats, passes, passes_in_thread)
PIECES = [f"alice|alice|alice|{i}|alice|alice" for i in range(100)]


@pytest.mark.anyio
@pytest.mark.parametrize("block", [True, False])
async def test_one_stream_driven_by_two_tasks_in_turn(block: bool) -> None:
    with session("alice"):
        stream = FLOW.stream(1)
    heard: list[str] = []
    turns = [asyncio.Event(), asyncio.Event()]
    turns[0].set()

    async def drive(mine: int, pieces: Any) -> None:
        with session(f"other-{mine}"):
            while True:
                await turns[mine].wait()
                turns[mine].clear()
                try:
                    heard.append(await anext(pieces))
                except StopAsyncIteration:
                    return
                finally:
                    turns[1 - mine].set()
                assert current_session() == f"other-{mine}"

    async with stream if block else nullcontext():  # type: ignore[attr-defined]
        pieces = aiter(stream.text())
        await asyncio.gather(*(asyncio.create_task(drive(i, pieces)) for i in range(2)))
    assert heard == PIECES


@pytest.mark.parametrize("block", [True, False])
def test_one_stream_driven_by_two_threads_in_turn(block: bool) -> None:
    with session("alice"):
        stream = FLOW.stream(1)
    heard: list[str] = []
    errors: list[BaseException] = []
    turns = [threading.Semaphore(1), threading.Semaphore(0)]

    def drive(mine: int, pieces: Any) -> None:
        try:
            with session(f"other-{mine}"):
                while True:
                    assert turns[mine].acquire(timeout=10)
                    try:
                        heard.append(next(pieces))
                    except StopIteration:
                        return
                    finally:
                        turns[1 - mine].release()
                    assert current_session() == f"other-{mine}"
        except BaseException as error:
            errors.append(error)

    with stream if block else nullcontext():  # type: ignore[attr-defined]
        pieces = iter(stream.text())
        threads = [threading.Thread(target=drive, args=(i, pieces)) for i in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert errors == []
    assert heard == PIECES


def test_8_generators_in_threads_feed_8_live_consumers() -> None:
    """A pool of threads that all of them shared would stand still."""

    def makes(n: int) -> Iterator[int]:
        yield from range(n)

    def eats(items: Iterator[int]) -> Iterator[int]:
        for item in items:
            yield item * 2

    def adds(items: Iterator[int]) -> int:
        return sum(items)

    pair = Pipeline(makes, eats, adds)
    flow = Parallel(*[Pipeline(makes, eats, adds) for _ in range(8)])
    assert list(flow.stream(500).result) == [500 * 499] * 8
    assert pair.batch([500] * 8) == [500 * 499] * 8


@pytest.mark.anyio
async def test_driven_alternately_from_two_tasks_and_two_threads() -> None:
    stream = Pipeline(Producer().pausing).stream(0)
    async with stream:
        reader = aiter(stream.text())
        got = [await asyncio.create_task(anext(reader)) for _ in range(6)]  # type: ignore[arg-type]
    assert got == [f"{i} " for i in range(6)]

    def by_threads() -> list[str]:
        pieces: list[str] = []
        with Pipeline(Producer().pausing).stream(0) as stream:
            reader = iter(stream.text())
            for _ in range(6):
                thread = threading.Thread(target=lambda: pieces.append(next(reader)))
                thread.start()
                thread.join(5)
        return pieces

    assert await asyncio.to_thread(by_threads) == got


# ---------------------------------------------------------------- nothing is left


@pytest.mark.parametrize("where", ["memory", "files"])
def test_500_runs_half_of_them_cancelled_leave_nothing(where: str, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    queue: Queue = MemoryQueue(ttl=0.2) if where == "memory" else FileQueue(root, ttl=0.2)
    flow = Pipeline(str, count_of, name="both")
    warm_up(flow, queue)
    with leaks(10, ("millrace-files*",)):
        runs = [flow.start(i, queue=queue) for i in range(250)]
        streams = [flow.stream(i, queue=queue) for i in range(250)]
        for stream in streams:
            stream.__enter__()
        for run in [*runs[::2], *(stream.run for stream in streams[::2])]:
            run.cancel("half of them")
        for stream in streams:
            if stream.run.cut is None:
                assert list(stream.text())
            stream.close()
        ended = [one.wait_sync(20) and one.status for one in [*runs, *(s.run for s in streams)]]
        assert ended == ["cancelled", "done"] * 250
        run_id = runs[1].id
        del run, runs, stream, streams
        eventually(lambda: gone(queue, root), 10)
    assert run_id not in [info.id for info in queue.runs()]


def gone(queue: Queue, root: Path) -> bool:
    """Whether nothing is kept of what was there, once it has expired."""
    if isinstance(queue, MemoryQueue):
        queue.sweep()
        return not len(queue)
    assert isinstance(queue, FileQueue)
    queue.sweep()
    return not list(queue.runs()) and not list(root.glob("*.run"))


def warm_up(flow: Any, queue: Queue) -> None:
    flow.start(3, queue=queue).result(5)
    assert flow.stream(3, queue=queue).result


async def count_of(x: str) -> AsyncIterator[str]:
    async for piece in count(200):
        yield piece
        await asyncio.sleep(0.0005)


@pytest.mark.slow
def test_5000_runs_in_files_with_256_descriptors(tmp_path: Path) -> None:
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256)); {CALL}"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", limited, str(tmp_path), "5000"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")
    assert sum(1 for _ in FileQueue(tmp_path).runs()) == 5000


CALL = "import sys; from tests.streaming.children import many_files; many_files(*sys.argv[1:])"
