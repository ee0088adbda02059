"""Runs that nobody listens to: their clients have left, or they were started in the background."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from millrace.launchers.api.patience import Timings
from millrace.streaming import Run, attach
from tests.launchers.api.run_clients import RUNS, ask, client_of, frames_of
from tests.launchers.support import Running, Source, echo, running
from tests.support.leaks import eventually, leaks


class TestGoingOn:
    """on_disconnect="continue": the run of a client that leaves goes on, for a while."""

    def test_it_can_be_picked_up_again(self) -> None:
        source = Source(items=6)
        with running(source, on_disconnect="continue") as server, leaks(), client_of(server) as client:
            asking = ask(server, {"input": "a", "stream": True})
            source.allow(2)
            asking.events(3)
            run_id = asking.reply().headers["x-run-id"]
            asking.reset()
            (run,) = server.runs
            source.allow(2)
            eventually(lambda: source.produced == 4)
            assert not run.over
            assert server.service.admission.running == 1
            source.open()
            rest = frames_of(client.get(f"{RUNS}/{run_id}/events", headers={"last-event-id": "3"}).text)
            assert [frame.get("text") for frame in rest] == ["2 ", "3 ", "4 ", "5 ", None]
            assert rest[-1]["status"] == "done"
            eventually(server.idle)

    @pytest.mark.parametrize("stream", [True, False])
    def test_nobody_comes_back(self, stream: bool, run_id: str) -> None:
        source = Source()
        timings = Timings(resume=0.1)
        with (
            running(source, on_disconnect="continue", timings=timings) as server,
            client_of(server) as client,
        ):
            asking = ask(server, {"input": "a", "stream": stream}, {"x-run-id": run_id})
            eventually(lambda: source.started == 1)
            asking.close()
            eventually(lambda: source.cleaned == 1)
            told = client.get(f"{RUNS}/{run_id}").json()
            assert (told["status"], told["reason"]) == ("cancelled", "client left and did not come back")
            eventually(server.idle)
            tally = server.service.admission.tally
            assert (tally.started, tally.ended["cancelled"]) == (1, 1)

    @pytest.mark.parametrize("where", ["memory", "files"])
    def test_nobody_comes_back_to_one_that_goes_on_saying_things(self, where: str, tmp_path: Path) -> None:
        """Whatever is read of its file meanwhile, by lists and sweeps, nobody follows it."""
        over = threading.Event()

        async def count(text: str) -> AsyncIterator[str]:
            try:
                for number in range(100_000):
                    yield f"{number} "
                    await asyncio.sleep(0.01)
            finally:
                over.set()

        queue = "memory://" if where == "memory" else f"file://{tmp_path}/runs"
        options: dict[str, Any] = {"queue": queue, "timings": Timings(resume=0.3)}
        with running(count, on_disconnect="continue", **options) as server, client_of(server) as client:
            asking = ask(server, {"input": "a", "stream": True})
            asking.events(3)
            (run,) = server.runs
            asking.close()
            while not over.is_set():
                assert len(client.get(RUNS).json()["data"]) == 1
                assert run.log is None or run.log.seq < 1000
                over.wait(0.02)
            eventually(lambda: run.over)
            assert run.reason == "client left and did not come back"

    def test_while_somebody_follows_it_goes_on(self, run_id: str) -> None:
        source = Source()
        with running(source, on_disconnect="continue", timings=Timings(resume=0.2)) as server:
            asking = ask(server, {"input": "a", "stream": True}, {"x-run-id": run_id})
            source.allow(1)
            asking.events(2)
            (run,) = server.runs
            with server.connect() as follower:
                follower.send("GET", f"{RUNS}/{run_id}/events")
                follower.events(2)
                asking.close()
                eventually(lambda: self.readers(server, run) == 1)
                until = asyncio.run(self.later(0.4))
                assert until
                assert not run.over
            eventually(lambda: run.over)
            assert run.reason == "client left and did not come back"

    def test_and_while_somebody_follows_it_by_way_of_another_worker(
        self, run_id: str, tmp_path: Path
    ) -> None:
        source = Source()
        shared: dict[str, Any] = {"queue": f"file://{tmp_path}/runs", "timings": Timings(resume=0.3)}
        with running(source, on_disconnect="continue", **shared) as one, running(echo, **shared) as other:
            asking = ask(one, {"input": "a", "stream": True}, {"x-run-id": run_id})
            source.allow(1)
            asking.events(2)
            (run,) = one.runs
            with other.connect() as follower:
                follower.send("GET", f"{RUNS}/{run_id}/events")
                follower.events(2)
                asking.close()
                asyncio.run(self.later(0.9))
                assert not run.over
            eventually(lambda: run.over)
            assert run.reason == "client left and did not come back"

    def readers(self, server: Running, run: Run) -> int:
        return server.service._desk.works[run.id]._readers

    async def later(self, seconds: float) -> bool:
        await asyncio.sleep(seconds)  # longer than an unattended run would go on
        return True

    @pytest.mark.parametrize("where", ["memory", "files"])
    def test_a_client_that_pauses_is_waited_for_until_it_leaves(self, where: str, tmp_path: Path) -> None:
        made = 0

        async def large(text: str) -> AsyncIterator[str]:
            nonlocal made
            for _ in range(2000):
                made += 1
                yield "x" * 4096 if where == "memory" else "x" * 16384

        queue = "memory://" if where == "memory" else f"file://{tmp_path}/runs"
        with running(large, queue=queue, on_disconnect="continue") as server:
            asking = ask(server, {"input": "a", "stream": True})
            asking.events(2)
            (run,) = server.runs
            paused_at = eventually(lambda: self.stands_still(lambda: made))
            assert paused_at < 2000
            assert not run.over
            asking.close()
            eventually(lambda: run.over)
            assert (run.status, made) == ("done", 2000)

    def stands_still(self, count: Callable[[], int]) -> int:
        """How many there were and still are a while later; 0 if they are not the same."""
        before = count()
        threading.Event().wait(0.3)
        return before if count() == before else 0

    def test_the_request_may_choose(self) -> None:
        source = Source()
        with running(source) as server:
            for choice, is_cut in (("continue", False), ("cancel", True)):
                asking = ask(server, {"input": "a", "stream": True, "on_disconnect": choice})
                source.allow(1)
                asking.events(2)
                (run,) = server.runs
                asking.close()
                if is_cut:
                    eventually(lambda run=run: run.over)  # type: ignore[misc]
                    assert run.reason == "client left"
                else:
                    eventually(lambda run=run: self.readers(server, run) == 0)  # type: ignore[misc]
                    assert not run.over
                    run.cancel("enough")
                    eventually(server.idle)

    def test_background_runs_need_nobody(self) -> None:
        source = Source(items=2)
        with running(source, timings=Timings(resume=0.05)) as server, client_of(server) as client:
            run_id = client.post(RUNS, json={"input": "a", "background": True}).json()["id"]
            eventually(lambda: source.started == 1)
            asyncio.run(self.later(0.2))
            source.open()
            eventually(lambda: client.get(f"{RUNS}/{run_id}").json()["status"] == "done")

    def test_other_processes_follow_it_on_disk(self, tmp_path: Path) -> None:
        queue = f"file://{tmp_path}/runs"
        source = Source(items=3)
        with running(source, queue=queue) as server, client_of(server) as client:
            run_id = client.post(RUNS, json={"input": "a", "background": True}).json()["id"]
            source.open()
            assert "".join(attach(run_id, queue).text()) == "0 1 2 "


class TestShutdown:
    def test_runs_in_the_background_have_their_time_and_then_their_cleanup(self) -> None:
        cleaned: list[str] = []

        async def slow(text: str) -> str:
            try:
                await asyncio.sleep(0.3 if text == "short" else 60)
                return text
            finally:
                await asyncio.sleep(0.05)
                cleaned.append(text)

        runs: dict[Any, Run] = {}

        def have_begun() -> bool:
            runs.update((run.question, run) for run in server.runs)
            return {"short", "long"} <= runs.keys()

        with running(slow, timings=Timings(drain=0.8)) as server, client_of(server) as client:
            for text in ("short", "long"):
                assert client.post(RUNS, json={"input": text, "background": True}).status_code == 202
            eventually(have_begun)
            tally = server.service.admission.tally
        assert cleaned == ["short", "long"]
        assert (runs["short"].status, runs["long"].status) == ("done", "cancelled")
        assert runs["long"].reason == "the server is shutting down"
        assert (tally.started, tally.ended["completed"], tally.ended["cancelled"]) == (2, 1, 1)
