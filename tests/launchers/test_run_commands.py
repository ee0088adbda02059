"""`millrace runs`, as processes beside the ones that write."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from millrace import Pipeline, explain
from millrace.launchers.run_commands import runs
from millrace.streaming import FileQueue, Usage, attach, emit
from tests.streaming.children import child
from tests.streaming.parts import Gate, count
from tests.support.leaks import eventually


@pytest.fixture
def queue(tmp_path: Path) -> FileQueue:
    return FileQueue(tmp_path / "runs")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "millrace", "runs", *arguments]


def millrace(*arguments: str, queue: FileQueue | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments, *(["--queue", queue.url] if queue is not None else [])),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )


@contextmanager
def started(*arguments: str, queue: FileQueue) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command(*arguments, "--queue", queue.url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


class TestList:
    def test_each_run_a_line_the_latest_first(self, queue: FileQueue) -> None:
        gate = Gate()
        over = Pipeline(count, name="counting").start(3, queue=queue, session="alice")
        over.result(5)
        live = Pipeline(gate.pieces, name="gated").start(3, queue=queue, session="bob")
        eventually(lambda: attach(live.id, queue).info.events == 2)
        done = millrace("list", queue=queue)
        gate.let(3)
        live.result(5)
        assert (done.returncode, done.stderr) == (0, "")
        head, first, second = done.stdout.splitlines()
        assert head.split() == ["ID", "STATUS", "STARTED", "TOOK", "EVENTS", "SIZE", "SESSION", "FLOW"]
        assert first.split()[:2] == [live.id, "running"]
        assert first.split()[-2:] == ["bob", "gated"]
        assert second.split()[:2] == [over.id, "done"]
        assert " 7 " in second

    def test_only_those_that_go_on(self, queue: FileQueue) -> None:
        gate = Gate()
        Pipeline(count)(3, queue=queue)
        live = Pipeline(gate.pieces).start(1, queue=queue)
        done = millrace("list", "--live", "--json", queue=queue)
        gate.let()
        live.result(5)
        (line,) = done.stdout.splitlines()
        assert json.loads(line)["id"] == live.id

    def test_as_json(self, queue: FileQueue) -> None:
        run = Pipeline(count).start(3, queue=queue, session="alice")
        run.result(5)
        (line,) = millrace("list", "--json", queue=queue).stdout.splitlines()
        assert json.loads(line) == attach(run.id, queue).info.as_dict()

    def test_nothing(self, queue: FileQueue) -> None:
        Path(queue.path).mkdir(mode=0o700)
        assert millrace("list", queue=queue).stdout == "no runs\n"

    def test_watching_goes_on_until_ctrl_c(self, queue: FileQueue) -> None:
        gate = Gate()
        run = Pipeline(gate.pieces).start(1, queue=queue)
        ours, theirs = os.openpty()
        process = subprocess.Popen(
            command("list", "--watch", "--queue", queue.url),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "30"},
        )
        os.close(theirs)
        try:
            read_until(ours, run.id, "running")
            gate.let()
            run.result(5)
            read_until(ours, run.id, "done")
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 130
        finally:
            process.kill()
            process.wait()
            os.close(ours)

    def test_watching_needs_a_terminal(self, queue: FileQueue) -> None:
        Pipeline(count)(1, queue=queue)
        done = millrace("list", "--watch", queue=queue)
        assert (done.returncode, done.stdout) == (1, "")
        assert "on a terminal" in done.stderr


def read_until(terminal: int, *words: str) -> None:
    """Reads what is shown until all of the words have been, in this order."""
    shown = ""
    for word in words:
        while word not in shown:
            shown += os.read(terminal, 4096).decode()
        shown = shown[shown.index(word) :]


class TestShow:
    def test_the_facts_and_the_answer(self, queue: FileQueue) -> None:
        async def answers(x: int):  # type: ignore[no-untyped-def]
            emit(Usage(7, 3))
            yield "wheels "
            yield "turn"

        run = Pipeline(answers, name="mill").start(1, queue=queue, session="alice")
        run.result(5)
        done = millrace("show", run.id, queue=queue)
        assert (done.returncode, done.stderr) == (0, "")
        facts, answer = done.stdout.split("\n\n")
        assert answer == "wheels turn\n"
        lines = dict(line.split(maxsplit=1) for line in facts.splitlines())
        assert (lines["run"], lines["status"], lines["flow"], lines["session"]) == (
            run.id,
            "done",
            "mill",
            "alice",
        )
        assert lines["tokens"] == "7 + 3"
        assert lines["process"] == str(os.getpid())
        assert lines["said"].startswith("7 events, ")

    def test_of_a_live_run_what_is_there(self, queue: FileQueue) -> None:
        gate = Gate()
        run = Pipeline(gate.pieces).start(10, queue=queue)
        gate.let(2)
        eventually(lambda: attach(run.id, queue).info.events == 4)
        shown = json.loads(millrace("show", run.id, "--json", queue=queue).stdout)
        assert (shown["status"], shown["text"], shown["result"]) == ("running", "0 1 ", None)
        gate.let(8)
        run.result(5)

    def test_a_failure_with_its_note(self, queue: FileQueue) -> None:
        def breaks(x: int) -> str:
            raise KeyError("no such page")

        run = Pipeline(breaks).start(1, queue=queue)
        run.wait_sync(5)
        done = millrace("show", run.id, queue=queue)
        assert "status   error" in done.stdout
        assert "error    KeyError: 'no such page'" in done.stdout
        assert "         in breaks (test_run_commands.py:" in done.stdout

    def test_a_lost_run(self, queue: FileQueue) -> None:
        with child("write", queue.url, 3) as writer:
            run_id = writer.told()
            writer.tell()
            next(attach(run_id, queue).text())
        shown = millrace("show", run_id, queue=queue).stdout
        assert "status   lost (writer lost)" in shown
        assert shown.endswith("\n\n0 \n")

    def test_the_beginning_of_an_id_is_enough(self, queue: FileQueue) -> None:
        run = Pipeline(count).start(1, queue=queue)
        run.result(5)
        assert run.id in millrace("show", run.id[:8], queue=queue).stdout
        short = millrace("show", run.id[:3], queue=queue)
        assert (short.returncode, short.stdout) == (1, "")
        assert "there is no run" in short.stderr


class TestTail:
    def test_it_follows_until_the_end(self, queue: FileQueue) -> None:
        gate = Gate()
        run = Pipeline(gate.pieces).start(3, queue=queue)
        with started("tail", run.id, queue=queue) as process:
            assert process.stdout is not None
            gate.let(2)
            assert process.stdout.read(4) == "0 1 "
            gate.let()
            assert process.stdout.read() == "2 \n"
            assert process.wait(10) == 0

    def test_events_from_a_place_on(self, queue: FileQueue) -> None:
        run = Pipeline(count).start(3, queue=queue)
        run.result(5)
        done = millrace("tail", run.id, "--events", "--after", "3", queue=queue)
        assert [json.loads(line) for line in done.stdout.splitlines()] == [
            event.as_dict() for event in run.events(after=3)
        ]

    def test_ctrl_c_leaves_the_run_alone(self, queue: FileQueue) -> None:
        gate = Gate()
        run = Pipeline(gate.pieces).start(2, queue=queue)
        with started("tail", run.id, queue=queue) as process:
            assert process.stdout is not None
            gate.let()
            assert process.stdout.read(2) == "0 "
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 130
        assert run.status == "running"
        gate.let()
        assert run.result(5) == "0 1 "

    def test_how_it_ended_is_how_the_command_ends(self, queue: FileQueue) -> None:
        def breaks(x: int) -> str:
            raise KeyError("no such page")

        run = Pipeline(breaks).start(1, queue=queue)
        run.wait_sync(5)
        done = millrace("tail", run.id, queue=queue)
        assert (done.returncode, done.stdout, done.stderr) == (1, "", "millrace: KeyError: 'no such page'\n")
        late = Pipeline(count).start(1_000_000_000, queue=queue, timeout=0.05)
        late.wait_sync(5)
        assert millrace("tail", late.id, queue=queue).returncode == 1


class TestExplain:
    def test_a_run_on_the_terminal(self, queue: FileQueue) -> None:
        run = Pipeline(len, count, name="counting").start("four", queue=queue)
        run.result(5)
        done = millrace("explain", run.id[:6], queue=queue)
        assert (done.returncode, done.stderr) == (0, "")
        head, _, _, axis, first, second = done.stdout.splitlines()
        assert head.startswith("counting  done  ")
        assert axis.strip().startswith("┴─")
        assert (first.split()[0], second.split()[0]) == ("len", "count")

    def test_of_a_live_run_what_is_there(self, queue: FileQueue) -> None:
        gate = Gate()
        run = Pipeline(gate.pieces).start(3, queue=queue)
        gate.let(2)
        eventually(lambda: attach(run.id, queue).info.events == 4)
        done = millrace("explain", run.id, "--ascii", queue=queue)
        gate.let()
        run.result(5)
        assert done.stdout.isascii()
        assert done.stdout.startswith("running  ")
        assert ">" in done.stdout

    @pytest.mark.parametrize(
        ("file", "status", "says"),
        [
            ("run.svg", 0, ""),
            ("run.txt", 0, ""),
            ("run.png", 2, "end it in .svg or .txt"),
            ("none/run.svg", 1, "run.svg cannot be written: No such file or directory"),
        ],
    )
    def test_into_a_file(self, queue: FileQueue, tmp_path: Path, file: str, status: int, says: str) -> None:
        run = Pipeline(count).start(3, queue=queue)
        run.result(5)
        arguments = ["explain", run.id, "--queue", queue.url, "-o", str(tmp_path / file)]
        done = CliRunner().invoke(runs, arguments)
        assert done.exit_code == status
        assert says in " ".join(done.stderr.replace("│", "").split())
        if not status:
            timeline = explain(run.id, queue)
            drawn = timeline.svg() if file.endswith("svg") else timeline.text()
            assert (tmp_path / file).read_text(encoding="utf-8") == drawn


class TestCancel:
    def test_runs_of_another_process(self, queue: FileQueue) -> None:
        with child("write", queue.url, 3) as first, child("write", queue.url, 3) as second:
            ids = [first.told(), second.told()]
            done = millrace("cancel", *ids, "--reason", "cleaning up", queue=queue)
            assert (done.returncode, done.stdout) == (0, "".join(f"{one}  cancelled\n" for one in ids))
            assert first.told() == second.told() == ["cancelled", "cleaning up"]

    def test_one_that_is_over(self, queue: FileQueue) -> None:
        run = Pipeline(count).start(1, queue=queue)
        run.result(5)
        done = millrace("cancel", run.id, queue=queue)
        assert (done.returncode, done.stdout) == (0, f"{run.id}  is over already: done\n")

    def test_one_that_was_cancelled_before(self, queue: FileQueue) -> None:
        run = Pipeline(count).start(1_000_000_000, queue=queue)
        run.cancel()
        run.wait_sync(5)
        assert millrace("cancel", run.id, queue=queue).stdout == f"{run.id}  is over already: cancelled\n"


class TestMistakes:
    @pytest.mark.parametrize("what", [["list"], ["show", "0" * 32], ["tail", "0" * 32], ["cancel", "0" * 32]])
    def test_a_queue_that_is_none(self, what: list[str], tmp_path: Path) -> None:
        done = millrace(*what, queue=FileQueue(tmp_path / "typo"))
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"millrace: there is no queue in {tmp_path}/typo: no such directory\n"
        assert not (tmp_path / "typo").exists()

    @pytest.mark.parametrize(
        ("url", "says"),
        [
            ("memory://", "in the memory of its own process"),
            ("/var/runs", "write file://"),
            ("file:///x?y=1", "'y'"),
        ],
    )
    def test_a_url_that_says_nothing(self, url: str, says: str) -> None:
        done = millrace("list", "--queue", url)
        assert done.returncode == 2
        assert says in done.stderr

    def test_a_url_that_says_nothing_for_a_run(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "millrace", "run", "hello", "--queue", "/var/runs"],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 2
        assert "write file://" in done.stderr

    def test_a_run_that_is_none(self, queue: FileQueue) -> None:
        Pipeline(count)(1, queue=queue)
        for what in ("show", "tail", "cancel"):
            done = millrace(what, "f" * 32, queue=queue)
            assert (done.returncode, done.stdout) == (1, "")
            assert "there is no run" in done.stderr

    def test_the_queue_may_be_in_the_environment(
        self, queue: FileQueue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MILLRACE_QUEUE", queue.url)
        run = Pipeline(count).start(1, queue=queue)
        run.result(5)
        assert run.id in millrace("list").stdout


def test_a_flow_is_asked_with_a_queue(queue: FileQueue, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "def shout(text: str) -> str:\n    return text.upper()\n", encoding="utf-8"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "millrace",
            "run",
            "app:shout",
            "hello",
            "--queue",
            queue.url,
            "--session",
            "alice",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "HELLO\n"
    (info,) = queue.runs()
    assert (info.status, info.session, info.name) == ("done", "alice", "shout")
