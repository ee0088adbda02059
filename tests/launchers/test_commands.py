"""The commands, as processes: what they print where, how they stop, and what they say when something is wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from millrace import __version__
from millrace.modules.demo.topics import knowledge
from tests.support.leaks import eventually
from tests.support.servers import millrace_process

APP = '''
import asyncio
import pathlib
import time

from millrace import Pipeline
from millrace.streaming import Progress, emit
from millrace.streaming.errors import ModelError


def shout(text: str) -> str:
    return text.upper()


def broken(text: str) -> str:
    raise ValueError("no such thing")


def unloadable(text: str) -> str:
    raise ModelError("no weights in there; give the path of a directory with *.safetensors")


async def slow(text: str):
    """Waits for the file `go` after its first piece."""
    emit(Progress(0.3, "loading"))
    yield "first "
    while not pathlib.Path("go").exists():
        await asyncio.sleep(0.005)
    yield "last"


async def endless(text: str):
    try:
        for i in range(10**9):
            yield f"{i} "
            await asyncio.sleep(0.001)
    finally:
        pathlib.Path("cleaned").write_text("yes")


async def waiting(text: str):
    try:
        yield "so "
        await asyncio.Event().wait()
    finally:
        pathlib.Path("cleaned").write_text("yes")


flow = Pipeline(shout)
'''


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(textwrap.dedent(APP), encoding="utf-8")
    return tmp_path


def millrace(
    *arguments: str, cwd: Path | None = None, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "millrace", *arguments],
        cwd=cwd,
        env={**os.environ, "COLUMNS": "100", **(environment or {})},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )


@contextmanager
def started(*arguments: str, cwd: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "millrace", *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


class TestRun:
    def test_it_prints_the_answer_and_nothing_else(self, directory: Path) -> None:
        done = millrace("run", "app:flow", "hello", cwd=directory)
        assert (done.stdout, done.stderr, done.returncode) == ("HELLO\n", "", 0)

    def test_each_piece_is_printed_as_it_comes(self, directory: Path) -> None:
        with started("run", "app:slow", "x", cwd=directory) as process:
            assert process.stdout is not None
            assert os.read(process.stdout.fileno(), 100) == b"first "
            (directory / "go").touch()
            rest, errors = process.communicate(timeout=20)
        assert (rest, errors, process.returncode) == (b"last\n", b"loading 30%\n", 0)

    @pytest.mark.parametrize("flow", ["endless", "waiting"])
    def test_ctrl_c_stops_the_run(self, flow: str, directory: Path) -> None:
        with started("run", f"app:{flow}", "x", cwd=directory) as process:
            assert process.stdout is not None
            assert os.read(process.stdout.fileno(), 100)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=20)
        assert (process.returncode, errors) == (130, b"")
        assert (directory / "cleaned").exists()

    def test_a_reader_that_leaves_stops_the_run(self, directory: Path) -> None:
        with started("run", "app:endless", "x", cwd=directory) as process:
            assert process.stdout is not None
            assert os.read(process.stdout.fileno(), 100)
            process.stdout.close()
            assert process.wait(20) == 1
            assert process.stderr is not None
            assert process.stderr.read() == b""
        assert (directory / "cleaned").exists()

    def test_events_are_lines_of_json(self, directory: Path) -> None:
        (directory / "go").touch()
        done = millrace("run", "--events", "app:slow", "x", cwd=directory)
        events = [json.loads(line) for line in done.stdout.splitlines()]
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        assert "".join(event["text"] for event in events if event["kind"] == "text_delta") == "first last"
        assert events[-1]["status"] == "done"

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["app:broken", "x"], "millrace: ValueError: no such thing\n  in broken (app.py:16) after "),
            (["app:unloadable", "x"], "millrace: no weights in there; give the path of"),
            (["--timeout", "0.05", "app:waiting", "x"], "millrace: the run was stopped: deadline passed"),
            (["--session", "../x", "app:flow", "x"], "'../x' is no session id"),
        ],
    )
    def test_errors_are_a_line_or_two(self, arguments: list[str], message: str, directory: Path) -> None:
        done = millrace("run", *arguments, cwd=directory)
        assert message in done.stderr
        assert len(done.stderr.splitlines()) <= 2
        assert done.returncode == 1

    def test_the_traceback_is_for_debugging(self, directory: Path) -> None:
        done = millrace("run", "--debug", "app:broken", "x", cwd=directory)
        assert "Traceback" in done.stderr
        assert done.returncode == 1

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["app:nothing", "x"], "app has no 'nothing'; its flows are app:flow"),
            (["app", "x"], "write module:attribute, such as app:flow"),
            (["app:flow"], "what is to be asked?"),
            (["What", "is", "a Warp?"], "put the question in quotes"),
            ([], "Missing argument"),
            (["--timeout", "0", "app:flow", "x"], "Invalid value"),
        ],
    )
    def test_mistakes_in_the_command_end_with_2(
        self, arguments: list[str], message: str, directory: Path
    ) -> None:
        done = millrace("run", *arguments, cwd=directory)
        assert message in re.sub(r"[│\s]+", " ", done.stderr)
        assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.slow
class TestDemo:
    def test_one_argument_asks_the_demo(self, tmp_path: Path) -> None:
        warp = next(topic for topic in knowledge().topics if topic.name == "Warp")
        done = millrace("run", "What is a Warp?", cwd=tmp_path)
        assert (done.stdout, done.returncode) == (warp.answer + "\n", 0)

    def test_it_declines_what_it_does_not_know(self, tmp_path: Path) -> None:
        done = millrace("run", "What is the capital of France?", cwd=tmp_path)
        assert knowledge().decline.partition("{")[0] in done.stdout
        assert done.returncode == 0


class TestServing:
    def test_a_target_that_names_nothing_ends_with_2(self, directory: Path) -> None:
        for command in ("serve", "chat"):
            done = millrace(command, "app:nothing", cwd=directory)
            assert "app has no 'nothing'; its flows are app:flow" in done.stderr
            assert done.returncode == 2

    def test_a_port_in_use_is_one_line(self, directory: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            done = millrace("serve", "app:flow", "--no-chat", "--port", port, cwd=directory)
        assert f"port {port}" in done.stderr
        assert "--port" in done.stderr
        assert (len(done.stderr.splitlines()), done.returncode) == (1, 1)

    def test_other_machines_need_keys(self, directory: Path) -> None:
        done = millrace("serve", "app:flow", "--no-chat", "--host", "0.0.0.0", cwd=directory)
        assert "--api-keys" in done.stderr
        assert (len(done.stderr.splitlines()), done.returncode) == (1, 1)

    @pytest.mark.slow
    @pytest.mark.parametrize("command", ["serve", "chat"])
    def test_chat_and_api_are_one_process(self, command: str, directory: Path) -> None:
        with millrace_process(command, "app:flow", cwd=directory) as launched:
            eventually(lambda: f"{launched.url}/v1" in launched.output())
            assert f"{launched.url}/\n" in launched.output()
            with launched.connect() as connection:
                connection.send("GET", "/v1/models")
                assert connection.reply().status == 200
                connection.read()
                connection.send("GET", "/")
                assert connection.reply().headers["content-type"].startswith("text/html")

    def test_without_the_chat_there_is_the_api_alone(self, directory: Path) -> None:
        with millrace_process("serve", "app:flow", "--no-chat", cwd=directory) as launched:
            eventually(lambda: f"{launched.url}/v1" in launched.output())
            assert "Chat" not in launched.output()
            with launched.connect() as connection:
                connection.send("GET", "/")
                assert connection.reply().status == 404


class TestDraw:
    def test_it_draws_on_the_terminal(self, directory: Path) -> None:
        done = millrace("draw", "app:flow", cwd=directory)
        assert "│ shout │" in done.stdout
        assert (done.stderr, done.returncode) == ("", 0)

    def test_the_demo_by_default_without_loading_it(self) -> None:
        done = millrace("draw", environment={"COLUMNS": "60"})
        assert "is_known" in done.stdout
        assert max(map(len, done.stdout.splitlines())) <= 60

    @pytest.mark.parametrize(
        ("name", "begins"),
        [("a.svg", b"<svg "), ("a.png", b"\x89PNG"), ("a.mmd", b"flowchart TB"), ("a.txt", b" ")],
    )
    def test_the_ending_of_a_file_says_the_form(self, name: str, begins: bytes, directory: Path) -> None:
        done = millrace("draw", "app:flow", "-o", name, cwd=directory)
        assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
        assert (directory / name).read_bytes().startswith(begins)

    def test_a_format_that_is_asked_for(self, directory: Path) -> None:
        assert millrace("draw", "app:flow", "--format", "svg", cwd=directory).stdout.startswith("<svg ")
        millrace("draw", "app:flow", "--format", "mermaid", "-o", "flow.html", cwd=directory)
        assert (directory / "flow.html").read_text().startswith("flowchart")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["-o", "flow.jpg"], "what is flow.jpg to be?"),
            (["--format", "gif"], "there is no format 'gif'"),
            (["--format", "png"], "a png goes into a file"),
        ],
    )
    def test_what_cannot_be_drawn(self, arguments: list[str], message: str, directory: Path) -> None:
        done = millrace("draw", "app:flow", *arguments, cwd=directory)
        assert message in " ".join(done.stderr.split())
        assert done.returncode == 2

    def test_a_file_that_cannot_be_written(self, directory: Path) -> None:
        done = millrace("draw", "app:flow", "-o", "nowhere/flow.svg", cwd=directory)
        assert done.stderr == "millrace: nowhere/flow.svg cannot be written: No such file or directory\n"
        assert done.returncode == 1


class TestEntry:
    def test_the_version(self) -> None:
        assert millrace("--version").stdout == f"millrace {__version__}\n"

    def test_help_names_the_commands(self) -> None:
        text = millrace("--help").stdout
        assert all(command in text for command in ("run", "chat", "serve", "--version"))

    @pytest.mark.parametrize("arguments", [["--help"], ["run", "app:flow", "x"], ["serve", "--help"]])
    def test_little_is_imported(self, arguments: list[str], directory: Path) -> None:
        probe = (
            "import sys, atexit\n"
            "heavy = ('torch', 'transformers', 'gradio', 'fastapi', 'starlette', 'uvicorn', 'httpx')\n"
            "atexit.register(lambda: print([m for m in heavy if m in sys.modules], file=sys.stderr))\n"
            f"sys.argv = ['millrace', *{arguments!r}]\n"
            "from millrace.__main__ import main\nmain()"
        )
        done = subprocess.run(
            [sys.executable, "-c", probe], cwd=directory, capture_output=True, text=True, timeout=60
        )
        assert done.stderr == "[]\n"

    @pytest.mark.parametrize(
        ("package", "extra", "arguments"),
        [
            ("typer", "cli", ["--help"]),
            ("rich", "cli", ["--help"]),
            ("gradio", "chat", ["chat", "app:flow"]),
            ("fastapi", "serve", ["serve", "app:flow", "--no-chat"]),
        ],
    )
    def test_a_missing_package_is_named_with_its_extra(
        self, package: str, extra: str, arguments: list[str], directory: Path
    ) -> None:
        probe = (
            "import sys\n"
            f"sys.modules[{package!r}] = None\n"
            f"sys.argv = ['millrace', *{arguments!r}]\n"
            "from millrace.__main__ import main\nmain()"
        )
        done = subprocess.run(
            [sys.executable, "-c", probe], cwd=directory, capture_output=True, text=True, timeout=60
        )
        message = f"millrace: {package} is not installed; install it with: pip install 'millrace[{extra}]'\n"
        assert (done.stderr, done.returncode) == (message, 1)
