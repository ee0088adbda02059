"""`millrace serve` with several processes, with reloading, and with runs that are kept."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.launchers.processes.support import APP
from tests.support.leaks import eventually
from tests.support.servers import Connection, Launched, millrace_process

RUNS = "/v1/runs"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP, encoding="utf-8")
    return tmp_path


def refused(*arguments: str, cwd: Path) -> tuple[int, str]:
    """The code and the words with which the command ends."""
    done = subprocess.run(
        [sys.executable, "-m", "millrace", "serve", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
    assert done.stdout == ""
    return done.returncode, re.sub(r"[│\s]+", " ", done.stderr)


@pytest.mark.slow
class TestWorkers:
    def test_they_are_told_like_one_process(self, directory: Path) -> None:
        with millrace_process("serve", "app:flow", "--workers", "2", cwd=directory) as launched:
            eventually(lambda: "2 workers are ready." in launched.output(), 60)
            assert launched.output().count(f"API   {launched.url}/v1\n") == 1
            assert "Chat" not in launched.output()
            with launched.connect() as connection:
                connection.send("GET", "/status")
                figures = read(connection)
                assert figures["workers"] == {"all": 2, "ready": 2}
                assert figures["admission"]["running_limit"] == 8
            with launched.connect() as connection:
                connection.send("GET", "/metrics")
                connection.reply()
                assert b"millrace_workers_ready 2.0" in connection.read()
            launched.process.send_signal(signal.SIGINT)
            assert launched.process.wait(20) == 0

    def test_what_cannot_be_served(self, directory: Path) -> None:
        code, words = refused("app:nothing", "--workers", "2", cwd=directory)
        assert (code, words) == (2, "millrace: app has no 'nothing'; its functions are app:flow ")
        code, words = refused("app:flow", "--workers", "2", "--api-keys", "none", cwd=directory)
        assert (code, words.count("there is no such file of API keys")) == (1, 1)
        code, words = refused("app:flow", "--workers", "2", "--queue", "memory://", cwd=directory)
        assert (code, "name a directory" in words) == (1, True)


def test_mistakes(directory: Path) -> None:
    code, words = refused("app:flow", "--workers", "2", "--reload", cwd=directory)
    assert (code, "leave out --workers" in words) == (2, True)
    code, words = refused("app:flow", "--queue", "runs", cwd=directory)
    assert (code, words) == (2, "millrace: 'runs' names no queue: write memory:// or file:///a/directory ")
    code, words = refused("app:flow", "--on-disconnect", "wait", cwd=directory)
    assert (code, "'wait' is not one of" in words) == (2, True)


@pytest.mark.slow
def test_reloading_is_told(directory: Path) -> None:
    with millrace_process("serve", "app:flow", "--reload", "--no-chat", cwd=directory) as launched:
        eventually(lambda: "Ready; waiting for changes." in launched.output(), 60)
        (directory / "app.py").write_text(f"{APP}\n", encoding="utf-8")
        eventually(lambda: launched.output().count("Ready; waiting for changes.") == 2, 60, launched.output)
        assert "app.py changed; starting again\n" in launched.output()
        assert launched.output().count("Stop with Ctrl-C.") == 1


@pytest.mark.slow
def test_runs_are_kept_and_go_on_and_all_is_seen(directory: Path) -> None:
    queue = directory / "runs"
    options = ("--queue", f"file://{queue}", "--on-disconnect", "continue", "--events", "all", "--no-chat")
    with millrace_process("serve", "app:flow", *options, cwd=directory) as launched:
        asked = {"input": "go on", "stream": True, "events": "all"}
        with launched.connect() as connection:
            connection.send("POST", RUNS, asked)
            run_id = connection.reply().headers["x-run-id"]
            connection.events(5)
        length = told(launched, run_id)["events"]
        eventually(lambda: told(launched, run_id)["events"] > length + 10)
        assert told(launched, run_id)["status"] == "running"
        assert any(queue.iterdir())


def told(launched: Launched, run_id: str) -> dict[str, Any]:
    with launched.connect() as connection:
        connection.send("GET", f"{RUNS}/{run_id}")
        return read(connection)


def read(connection: Connection) -> dict[str, Any]:
    assert connection.reply().status == 200
    found: dict[str, Any] = json.loads(connection.read())
    return found
