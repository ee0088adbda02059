"""The life of a service of several processes: real processes, real signals, and nobody left behind."""

from __future__ import annotations

import select
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.launchers.processes.support import Supervised, alive, supervised
from tests.launchers.support import Asking
from tests.support.leaks import eventually

pytestmark = pytest.mark.slow

DRAIN = {"drain": 0.3}
KEY = "sk-of-the-miller"
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
            assert server.status()["runs"]["failed"] == 0
            before[victim].kill()
            with pytest.raises(ConnectionError):  # nobody takes it for a whole answer
                lost.read()
            assert {server.pid() for _ in range(20)} <= {other, *server.workers()}  # nobody is turned away
            assert len(kept.events(20)) == 20
            eventually(lambda: len(server.workers()) == 2 and server.ready() == 2, 20, server.output)
            after = set(server.workers())
            assert other in after
            assert victim not in after
            eventually(lambda: server.pid() not in before)
            assert f"(process {victim}) has ended: signal 9" in server.output()
            assert server.status()["runs"]["failed"] == 1
            lost.close()
            kept.close()
            eventually(lambda: (tmp_path / f"cleaned-{other}").exists())

    def test_what_waits_in_the_line_of_a_worker_that_dies(self, tmp_path: Path) -> None:
        with supervised(tmp_path, timings=DRAIN) as server:
            hung, _ = server.workers().values()
            hung.suspend()
            asked = [server.ask() for _ in range(24)]
            answered = answered_before_a_silence(asked)
            assert 0 < len(answered) < 24, "the kernel has dealt to one worker alone"

            before = time.monotonic()  # a worker that hangs is told as it was last
            assert server.status()["workers"]["all"] == 2
            assert time.monotonic() - before < 2

            hung.kill()
            for asking in asked:
                assert asking.reply().status == 200
                asking.close()

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
            with pytest.raises(ConnectionError):
                asking.read()
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


def refuses(server: Supervised) -> bool:
    """Whether nobody listens any more."""
    try:
        server.ask().close()
    except ConnectionRefusedError:
        return True
    return False


def answered_before_a_silence(asked: Sequence[Asking], seconds: float = 0.5) -> list[Asking]:
    """Those that are answered until nobody is for so long."""
    waiting, answered = {asking.socket: asking for asking in asked}, []
    while readable := select.select(list(waiting), [], [], seconds)[0]:
        answered += [waiting.pop(socket) for socket in readable]
    return answered
