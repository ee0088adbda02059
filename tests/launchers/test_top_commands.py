"""`millrace top`, as a process in front of services that run, and of what is none."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from tests.launchers.support import Source, echo, question, running
from tests.support.leaks import eventually
from tests.support.servers import free_port, serving


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "millrace", "top", *arguments]


def top(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        env={**os.environ, "COLUMNS": "80", **environment},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )


class TestOnce:
    @pytest.mark.parametrize("ending", ["", "/", "/v1", "/v1/"])
    def test_it_prints_what_there_is(self, ending: str) -> None:
        with running(echo) as server:
            server.post(question())
            done = top(server.url + ending, "--once")
        assert (done.stderr, done.returncode) == ("", 0)
        head, *lines = done.stdout.splitlines()
        assert head.startswith(f"echo  {server.url}  ready  up ")
        assert "1 started" in lines[0]
        assert any("1 completed" in line for line in lines)
        assert "\x1b" not in done.stdout

    def test_without_a_terminal_and_without_a_scheme(self) -> None:
        with running(echo) as server:
            done = top(f"127.0.0.1:{server.port}", http_proxy="http://127.0.0.1:9")
        assert done.returncode == 0
        assert "0 started" in done.stdout

    def test_a_service_that_is_full(self) -> None:
        source = Source()
        with running(source) as server:
            askers = [server.ask() for _ in range(20)]
            eventually(lambda: server.service.admission.full)
            done = top(server.url, "--once")
            for asker in askers:
                asker.close()
            eventually(server.idle)
        assert "4 / 4" in done.stdout
        assert "16 / 16" in done.stdout


class TestKeys:
    KEY = "sk-secret"

    def test_with_and_without(self) -> None:
        with running(echo, api_keys=[self.KEY]) as server:
            good = top(server.url, "--key-env", "TOP_KEY", TOP_KEY=self.KEY)
            wrong = top(server.url, "--key-env", "TOP_KEY", TOP_KEY="sk-other")
            none = top(server.url)
            unset = top(server.url, "--key-env", "TOP_NO_KEY")
        assert (good.returncode, good.stderr) == (0, "")
        assert wrong.stderr == f"millrace: {server.url} does not know the API key in TOP_KEY\n"
        assert "name that: --key-env NAME" in none.stderr
        assert (wrong.returncode, none.returncode, unset.returncode) == (1, 1, 2)
        assert "TOP_NO_KEY" in unset.stderr
        assert not any(key in done.stderr for done in (wrong, none, unset) for key in (self.KEY, "sk-other"))

    def test_a_password_in_the_url_is_not_shown(self) -> None:
        with running(echo, api_keys=[self.KEY]) as server:
            done = top(server.url.replace("//", f"//me:{self.KEY}@"))
        assert done.returncode == 0
        assert f"  {server.url}  " in done.stdout
        assert self.KEY not in done.stdout


class TestNoService:
    def test_nothing_answers(self) -> None:
        url = f"http://127.0.0.1:{free_port()}"
        done = top(url)
        assert (done.stdout, done.returncode) == ("", 1)
        assert done.stderr.startswith(f"millrace: nothing answers at {url} (")
        assert done.stderr.endswith("start one with: millrace serve app:flow\n")

    @pytest.mark.parametrize("answer", ["hello", "[]", '{"status": "ready"}'])
    def test_something_else_answers(self, answer: str) -> None:
        def status(_: Any) -> PlainTextResponse:
            return PlainTextResponse(answer)

        with serving(Starlette(routes=[Route("/status", status)])) as served:
            done = top(served.url)
        assert done.returncode == 1
        assert "is no service of this version of millrace (/status gave 200)" in done.stderr

    @pytest.mark.parametrize("url", ["http://", "ftp://127.0.0.1", "http://127.0.0.1:port"])
    def test_no_url(self, url: str) -> None:
        done = top(url)
        assert done.returncode == 2
        assert "is no URL" in done.stderr


@contextmanager
def on_a_terminal(*arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[], str]]]:
    """The process on a terminal of 80 x 24, and what it has written there so far."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        command(*arguments), stdin=theirs, stdout=theirs, stderr=theirs, env={**environment, "TERM": "xterm"}
    )
    os.close(theirs)
    os.set_blocking(ours, False)
    written = bytearray()

    def read() -> str:
        try:
            while piece := os.read(ours, 65536):
                written.extend(piece)
        except OSError:  # nothing more by now, or the process has ended
            pass
        return written.decode(errors="replace")

    try:
        yield process, read
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_it_goes_on_looking() -> None:
    with running(echo) as server, on_a_terminal(server.url, "--interval", "0.1") as (process, read):
        eventually(lambda: "0 started" in read(), timeout=30)
        server.post(question())
        eventually(lambda: "1 started" in read(), message=read)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert "Traceback" not in read()


def test_a_service_that_goes_is_waited_for() -> None:
    with running(echo) as server:
        url = server.url
        with on_a_terminal(url, "--interval", "0.1") as (process, read):
            eventually(lambda: "0 started" in read(), timeout=30)
            server.loop.call_soon_threadsafe(lambda: setattr(server.service._server, "should_exit", True))
            eventually(lambda: "nothing answers at" in read(), timeout=30, message=read)
            assert process.poll() is None
