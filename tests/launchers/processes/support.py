"""Services of several processes: started as programs, asked over sockets, and looked at from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.launchers.support import PATH, Asking, question
from tests.support.leaks import eventually
from tests.support.servers import answers, end, free_port

APP = '''
import asyncio
import os
import pathlib
import time


async def flow(text: str):
    """Says the process; then does what the text says."""
    yield f"{os.getpid()} "
    if text == "go on":
        try:
            while True:
                await asyncio.sleep(0.005)
                yield "so "
        finally:
            pathlib.Path(f"cleaned-{os.getpid()}").touch()
    if text == "crash":
        os._exit(7)
    if text == "hang":
        time.sleep(600)
    if text == "wait":
        while not pathlib.Path("go").exists():
            await asyncio.sleep(0.005)
        yield "over"
'''

MAIN = """
import json, logging, sys
from millrace import serve
from millrace.launchers.api.patience import Timings

options = json.loads(sys.stdin.readline())
if options.pop("log", None) == "info":
    logging.basicConfig(level="INFO")
if "timings" in options:
    options["timings"] = Timings(**options["timings"])
try:
    serve(**options)
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


class Supervised:
    """A supervisor that has been started."""

    def __init__(self, process: subprocess.Popen[str], port: int, log: Path, key: str = "") -> None:
        self.process = process
        self.port = port
        self.log = log
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._known: dict[int, psutil.Process] = {}

    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def family(self) -> list[psutil.Process]:
        """All processes below the supervisor, as far as they are alive."""
        try:
            found = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            found = []
        for one in found:
            self._known.setdefault(one.pid, one)
        return [one for one in found if alive(one)]

    def left(self) -> list[psutil.Process]:
        """Of all that were ever seen below it, also by way of others, those that are still there."""
        self.family()
        return [one for one in self._known.values() if alive(one)]

    def workers(self) -> dict[int, psutil.Process]:
        """The workers by their process ids."""
        return {one.pid: one for one in self.family() if one.ppid() == self.process.pid}

    def ask(self, text: str = "hello", stream: bool = False, timeout: float = 20.0) -> Asking:
        """A connection on which a request has been sent, and nothing read."""
        connection = Asking(self.port, timeout)
        connection.send("POST", PATH, question(text, stream=stream), self.headers)
        return connection

    def pid(self) -> int:
        """That of the worker which answers a new connection."""
        with self.ask() as asking:
            return int(asking.json()["choices"][0]["message"]["content"])

    def at(self, pid: int) -> Asking:
        """A connection to a certain worker, for requests one after another."""
        for _ in range(100):
            asking = self.ask()
            if int(asking.json()["choices"][0]["message"]["content"]) == pid:
                return asking
            asking.close()
        raise AssertionError(f"none of 100 connections came to {pid}")

    def streaming(self, text: str, pid: int | None = None) -> tuple[Asking, int]:
        """A stream that has begun, and the worker that has it; a certain one, if that is asked for."""
        for _ in range(100):
            asking = self.ask(text, stream=True)
            found = int(content(asking.events(2)[1]))
            if pid in (None, found):
                return asking, found
            asking.close()
        raise AssertionError(f"none of 100 connections came to {pid}")

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.get("/status"))
        return found

    def get(self, path: str) -> bytes:
        with Asking(self.port, 10.0) as connection:
            connection.send("GET", path, headers=self.headers)
            return connection.read()

    def ready(self) -> int:
        """How many workers are ready."""
        count: int = self.status()["workers"]["ready"]
        return count


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def content(data: str) -> str:
    """The text of one event of a stream."""
    text: str = json.loads(data)["choices"][0]["delta"]["content"]
    return text


@contextmanager
def supervised(
    directory: Path,
    *,
    wait: bool = True,
    app: str = APP,
    environment: dict[str, str] | None = None,
    **options: Any,
) -> Iterator[Supervised]:
    """`serve("app:flow", **options)` in a process of its own, ready unless `wait` is false; two workers by default.

    With the block everything ends, by its pid.
    """
    if app:
        (directory / "app.py").write_text(app, encoding="utf-8")
    port = free_port()
    options = {"flow": "app:flow", "workers": 2, "port": port, **options}
    log = directory / "output"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", MAIN],
            cwd=directory,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )
    keys = options.get("api_keys")
    server = Supervised(process, port, log, keys[0] if isinstance(keys, list) else "")
    try:
        assert process.stdin is not None
        process.stdin.write(json.dumps(options) + "\n")
        process.stdin.close()
        if wait:
            eventually(
                lambda: process.poll() is not None or answers(port, "/health/ready"), 60, server.output
            )
            assert process.poll() is None, server.output()
            if options["workers"] > 1:
                eventually(lambda: server.ready() == options["workers"], 60, server.output)
        server.family()
        yield server
    finally:
        left = server.left()
        for one in left:
            if one.status() == psutil.STATUS_STOPPED:
                one.kill()
        end(process)
        for one in left:
            if alive(one):
                one.kill()
