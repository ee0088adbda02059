"""The life of a service of several processes: real processes, real signals, and nobody left behind."""

from __future__ import annotations

import json
import select
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.launchers.processes.support import Supervised, alive, supervised
from tests.launchers.support import Asking
from tests.support.leaks import eventually
from tests.support.servers import answers

pytestmark = pytest.mark.slow

DRAIN = {"drain": 0.3}
KEY = "sk-of-the-miller"
LOADING = """
import asyncio, os, pathlib
from millrace import Module

class Slow(Module[str, str]):
    async def setup(self) -> None:
        if pathlib.Path("slow").exists():
            pathlib.Path("loading").touch()
        while pathlib.Path("slow").exists():
            await asyncio.sleep(0.01)

    async def __call__(self, x: str) -> str:
        return str(os.getpid())

flow = Slow()
"""
SHUT = "the server is shutting down"


class TestReplacing:
    def test_a_killed_worker(self, tmp_path: Path) -> None:
        with supervised(tmp_path, timings=DRAIN) as server:
            before = server.workers()
            assert len(before) == 2
            eventually(lambda: server.pid() == min(before))
            eventually(lambda: server.pid() == max(before))

            victim, other = before
            lost, _ = server.streaming("go on", victim)
            kept, _ = server.streaming("go on", other)
            eventually(lambda: going_on(server) == 2)
            before[victim].kill()
            assert json.loads(lost.events()[-1])["error"]["code"] == "run_lost"  # see test_last_words.py
            assert {server.pid() for _ in range(20)} <= {other, *server.workers()}  # nobody is turned away
            assert len(kept.events(20)) == 20
            eventually(lambda: len(server.workers()) == 2 and server.ready() == 2, 20, server.output)
            after = set(server.workers())
            assert other in after
            assert victim not in after
            eventually(lambda: server.pid() not in before)
            assert f"(process {victim}) has ended: signal 9" in server.output()
            assert server.status()["runs"]["failed"] == 1
            assert going_on(server) == 1
            lost.close()
            kept.close()
            eventually(lambda: (tmp_path / f"cleaned-{other}").exists())

    def test_nobody_waits_for_the_models_of_a_new_worker(self, tmp_path: Path) -> None:
        with supervised(tmp_path, app=LOADING, timings=DRAIN) as server:
            (tmp_path / "slow").touch()
            victim, other = server.workers()
            server.workers()[victim].kill()
            eventually(lambda: (tmp_path / "loading").exists(), 20, server.output)
            assert {server.pid() for _ in range(20)} == {other}
            assert server.ready() == 1
            (tmp_path / "slow").unlink()
            eventually(lambda: server.ready() == 2, 20)
            eventually(lambda: server.pid() not in (victim, other))

    def test_what_waits_in_the_line_of_a_worker_that_dies(self, tmp_path: Path) -> None:
        with supervised(tmp_path, timings=DRAIN) as server, ExitStack() as stack:
            hung, other = server.workers().values()
            there = stack.enter_context(server.at(other.pid))
            hung.suspend()
            asked = [stack.enter_context(server.ask()) for _ in range(24)]
            assert 0 < answered_before_a_silence(asked) < 24, "the kernel has dealt to one worker alone"
            there.send("GET", "/status")
            assert there.json()["workers"]["all"] == 2  # one that hangs is told as it was last
            hung.kill()
            assert {asking.reply().status for asking in asked} == {200}

    @pytest.mark.skipif(sys.platform != "linux", reason="limits of other processes are Linux's")
    def test_a_moment_in_which_nothing_can_be_started(self, tmp_path: Path) -> None:
        with supervised(tmp_path, timings=DRAIN) as server:
            victim, other = server.workers().values()
            process = psutil.Process(server.process.pid)
            limit = process.rlimit(psutil.RLIMIT_NOFILE)
            process.rlimit(psutil.RLIMIT_NOFILE, (3, limit[1]))
            victim.kill()
            eventually(lambda: "no process can be started, Too many open files" in server.output(), 10)
            assert server.pid() == other.pid
            process.rlimit(psutil.RLIMIT_NOFILE, limit)
            eventually(lambda: server.ready() == 2, 20, server.output)

    def test_a_worker_that_crashes_while_it_starts(self, tmp_path: Path) -> None:
        with supervised(tmp_path, wait=False, app="import os\nos._exit(3)\n") as server:
            assert server.process.wait(60) == 1
        assert "5 workers ended while they started (exit code 3)" in server.output()
        assert server.output().count("starting another one") >= 4
        assert not server.left()

    def test_a_worker_that_cannot_serve_says_why_and_is_not_tried_again(self, tmp_path: Path) -> None:
        for app, words in {
            "import nowhere\n": "app cannot be imported: ModuleNotFoundError: No module named 'nowhere' (app.py:1)",
            "flow = 3\n": "app:flow is int 3 and no flow",
            "from millrace import serve\nserve('app:flow', workers=2)\n": "if __name__ == '__main__'",
        }.items():
            with supervised(tmp_path, wait=False, app=app) as server:
                assert server.process.wait(30) == 1
            assert words in server.output()
            assert "starting another one" not in server.output()
            assert not server.left()


class TestEnding:
    def test_a_signal_drains(self, tmp_path: Path) -> None:
        with supervised(tmp_path, timings={"drain": 1.0}) as server:
            streams = [server.streaming("go on", pid)[0] for pid in server.workers()]
            short, _ = server.streaming("wait")
            server.process.send_signal(signal.SIGINT)
            eventually(lambda: refuses(server))
            (tmp_path / "go").touch()
            assert short.events()[-1] == "[DONE]"
            for asking in streams:
                assert SHUT in asking.events()[-1]
            assert server.process.wait(20) == 0
            assert not server.left()
            assert len(list(tmp_path.glob("cleaned-*"))) == 2
            for asking in (short, *streams):
                asking.close()

    def test_a_second_signal_kills(self, tmp_path: Path) -> None:
        with supervised(tmp_path, timings={"drain": 60}) as server:
            asking, pid = server.streaming("go on")
            server.process.send_signal(signal.SIGTERM)
            eventually(lambda: refuses(server))
            assert len(asking.events(20)) == 20
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(5) == -signal.SIGTERM
            assert not server.left()
            assert json.loads(asking.events()[-1])["error"]["code"] == "run_lost"
            asking.close()
            assert not (tmp_path / f"cleaned-{pid}").exists()

    def test_a_killed_supervisor(self, tmp_path: Path) -> None:
        with supervised(tmp_path, timings=DRAIN) as server:
            streams = [server.streaming("go on", pid)[0] for pid in server.workers()]
            server.process.kill()
            for asking in streams:
                assert SHUT in asking.events()[-1]
                asking.close()
            eventually(lambda: not server.left(), 10)
            assert len(list(tmp_path.glob("cleaned-*"))) == 2

    def test_workers_that_were_told_too_drain_all_the_same(self, tmp_path: Path) -> None:
        """As Ctrl-C in a terminal, and managers of services that signal every process."""
        with supervised(tmp_path, timings=DRAIN) as server:
            streams = [server.streaming("go on", pid)[0] for pid in server.workers()]
            for worker in server.workers().values():
                worker.send_signal(signal.SIGINT)
            assert all(len(asking.events(20)) == 20 for asking in streams)
            for process in (server.process, *server.workers().values(), *server.workers().values()):
                process.send_signal(signal.SIGTERM)
            for asking in streams:
                assert SHUT in asking.events()[-1]
                asking.close()
            assert server.process.wait(20) == 0
            assert not server.left()

    def test_a_worker_that_hangs_is_not_waited_for(self, tmp_path: Path) -> None:
        with supervised(tmp_path, timings=DRAIN) as server:
            asking, pid = server.streaming("hang")
            server.process.send_signal(signal.SIGTERM)
            eventually(lambda: len(server.workers()) == 1, 10)
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(5) == -signal.SIGTERM
            assert not alive(server._known[pid])
            asking.close()


class TestKeys:
    def test_they_are_in_no_process_list(self, tmp_path: Path) -> None:
        with supervised(tmp_path, api_keys=[KEY]) as server:
            for process in server.family():
                assert KEY not in " ".join(process.cmdline())
                assert KEY not in str(process.environ())
            server.headers = {}
            with server.ask() as asking:
                assert asking.reply().status == 401
        assert KEY not in server.output()

    def test_a_hangup_has_every_worker_read_them_again(self, tmp_path: Path) -> None:
        keys = tmp_path / "keys"
        keys.write_text(KEY)
        keys.chmod(0o600)
        with supervised(tmp_path, api_keys=str(keys), log="info", wait=False) as server:
            server.headers = {"Authorization": f"Bearer {KEY}"}
            eventually(lambda: answers(server.port, "/health/ready"), 20)
            eventually(lambda: server.ready() == 2, 20)
            server.process.send_signal(signal.SIGHUP)
            eventually(lambda: server.output().count("were read again: 1") == 2, 10, server.output)
            assert len(server.workers()) == 2


def going_on(server: Supervised) -> int:
    """How many runs have begun and not ended."""
    runs = server.status()["runs"]
    started: int = runs.pop("started")
    return started - sum(runs.values())


def refuses(server: Supervised) -> bool:
    """Whether nobody listens any more."""
    try:
        server.ask().close()
    except ConnectionRefusedError:
        return True
    return False


def answered_before_a_silence(asked: Sequence[Asking], seconds: float = 0.7) -> int:
    """How many are answered until nobody is for so long."""
    waiting, patience = {asking.socket for asking in asked}, 20.0
    while readable := select.select(list(waiting), [], [], patience)[0]:
        waiting -= set(readable)
        patience = seconds
    return len(asked) - len(waiting)
