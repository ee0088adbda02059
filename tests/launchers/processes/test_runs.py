"""Runs of one worker, reached by way of another: seen, followed, stopped, and told when their worker is gone."""

from __future__ import annotations

import json
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.launchers.processes.support import Supervised, supervised
from tests.launchers.support import PATH, Asking, question
from tests.support.leaks import eventually

pytestmark = pytest.mark.slow

RUNS = "/v1/runs"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervised]:
    with supervised(tmp_path_factory.mktemp("runs"), timings={"drain": 0.3}) as server:
        yield server


@pytest.fixture
def two(server: Supervised) -> Iterator[tuple[Asking, Asking]]:
    """Connections to both workers."""
    eventually(lambda: server.ready() == 2, 20)
    here, there = (server.at(pid) for pid in server.workers())
    with here, there:
        yield here, there


def get(asking: Asking, path: str) -> Any:
    asking.send("GET", path)
    assert asking.reply().status == 200
    return asking.json()


def begun(asking: Asking, **more: Any) -> str:
    """The id of a run that goes on for ever."""
    asking.send("POST", RUNS, {"input": "go on", "background": True, **more})
    assert asking.reply().status == 202
    run_id: str = asking.json()["id"]
    return run_id


def test_a_run_is_seen_followed_and_stopped_from_the_other_worker(two: tuple[Asking, Asking]) -> None:
    here, there = two
    run_id = begun(here)
    eventually(lambda: get(there, f"{RUNS}/{run_id}")["status"] == "running")
    assert run_id in [run["id"] for run in get(there, RUNS)["data"]]

    there.send("GET", f"{RUNS}/{run_id}/events")
    assert len(there.events(30)) == 30
    here.send("POST", f"{RUNS}/{run_id}/cancel", {"reason": "enough"})
    assert (here.reply().status, here.json()["status"]) == (200, "cancelled")
    assert json.loads(there.events()[-1])["reason"] == "enough"

    whole = events(here, run_id)
    assert events(there, run_id) == whole
    seqs = [int(number) for number in re.findall(rb"^id: (\d+)$", whole, re.MULTILINE)]
    for seq in (seqs[0], seqs[7], seqs[-2]):
        rest = events(there, run_id, seq)
        assert rest
        assert whole.endswith(rest)


def test_a_run_is_stopped_by_way_of_the_other_worker(two: tuple[Asking, Asking]) -> None:
    here, there = two
    run_id = begun(here)
    there.send("POST", f"{RUNS}/{run_id}/cancel")
    assert there.reply().status == 200
    there.read()
    eventually(lambda: get(here, f"{RUNS}/{run_id}")["status"] == "cancelled")


def test_whoever_follows_a_run_is_told_that_its_worker_is_gone(
    server: Supervised, two: tuple[Asking, Asking]
) -> None:
    here, there = two
    run_id = begun(here)
    there.send("GET", f"{RUNS}/{run_id}/events")
    there.events(10)
    victim, _ = server.workers().values()
    victim.kill()
    last = json.loads(there.events()[-1])
    assert (last["kind"], last["status"], last["error"]["kind"]) == ("run_finished", "lost", "WriterLost")
    assert "seq" not in last
    assert get(there, f"{RUNS}/{run_id}")["status"] == "lost"


def test_runs_are_kept_in_a_directory_that_is_there_as_long_as_the_service(tmp_path: Path) -> None:
    place = tmp_path / "temporary"
    place.mkdir()
    with supervised(tmp_path, timings={"drain": 0.3}, environment={"TMPDIR": str(place)}) as server:
        (folder,) = place.iterdir()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        with server.at(next(iter(server.workers()))) as asking:
            begun(asking)
        assert any(folder.iterdir())
        server.process.kill()
        eventually(lambda: not server.left(), 10)
        assert list(place.iterdir()) == []

    queue = tmp_path / "runs"
    options = {"queue": f"file://{queue}", "environment": {"TMPDIR": str(place)}}
    with supervised(tmp_path, timings={"drain": 0.3}, **options) as server:  # type: ignore[arg-type]
        with server.at(next(iter(server.workers()))) as asking:
            begun(asking)
        assert list(place.iterdir()) == []
    assert any(queue.iterdir())


def events(asking: Asking, run_id: str, after: int = 0) -> bytes:
    """What is sent to somebody who has the events to `after` already."""
    asking.send("GET", f"{RUNS}/{run_id}/events", headers={"Last-Event-ID": str(after)})
    assert asking.reply().status == 200
    return asking.read()


def test_what_a_killed_worker_was_at_is_counted_and_written_down(tmp_path: Path) -> None:
    """Though nobody has asked for a figure since it began."""
    with supervised(tmp_path, log="info") as server:
        asking, pid = server.streaming("go on")
        with asking:
            run_id = json.loads(asking.events(1)[0])["id"].removeprefix("chatcmpl-")
            with server.at(pid) as beside:  # others, which end
                beside.send("POST", PATH, question("hello"))
                beside.json()
            time.sleep(2.5)  # the worker tells what it has counted every second
            server.workers()[pid].kill()
            asking.events()
        eventually(lambda: run_id in server.output(), 20)
        runs = server.status()["runs"]
    assert runs["failed"] == 1
    assert runs["started"] == sum(runs.values()) - runs["started"] >= 3
    (line,) = [line for line in server.output().splitlines() if run_id in line]
    told = json.loads(line[line.index("{") :])
    assert (told["outcome"], told["reason"], told["key"]) == ("failed", "WriterLost", None)
    assert told["pieces"] > 100
    assert 0 <= told["in_line"] <= told["first_output"] < 1
    assert 2.5 < told["took"] < 20
