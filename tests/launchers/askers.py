"""A service asked in short words."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from millrace.launchers.web.tabs import Tabs
from tests.launchers.support import PATH, Asking, Running, question
from tests.support.leaks import eventually
from tests.support.servers import Connection

__all__ = ["RUNS", "Asker", "Late"]

RUNS = "/v1/runs"


class Late(Asking):
    """A request whose body comes when the test says so."""

    rest = b""

    def begin(self, path: str, body: object) -> None:
        self.rest = json.dumps(body).encode()
        self.send("POST", path, headers={"Content-Length": str(len(self.rest))})

    def go(self) -> None:
        self.socket.sendall(self.rest)


class Asker:
    """Asks a service in short words."""

    def __init__(self, server: Running) -> None:
        self.server = server
        self.open: list[Connection] = []

    def runs(self, text: str, **more: Any) -> Asking:
        """A request to /v1/runs of which nothing has been read."""
        return self.send(RUNS, {"input": text, **more})

    def chat(self, text: str, stream: bool = False) -> Asking:
        """The same to /v1/chat/completions."""
        return self.send(PATH, question(text, stream=stream))

    def send(self, path: str, body: object, **headers: str) -> Asking:
        connection = self.connect()
        connection.send("POST", path, body, headers)
        return connection

    def connect(self) -> Asking:
        connection = self.server.connect()
        self.open.append(connection)
        return connection

    def late(self) -> Late:
        """A request to /v1/runs that the service has begun to read."""
        connection = Late(self.server.port)
        self.open.append(connection)
        connection.begin(RUNS, {"input": "hello"})
        self.server.do(lambda: None)
        return connection

    def status(self, asking: Asking) -> int:
        """Reads the whole answer."""
        status = asking.reply().status
        asking.read()
        return status

    def busy(self) -> Asking:
        """Takes the place; a request that has begun and says nothing."""
        asking = self.runs("wait", stream=True)
        self.until(running=1)
        return asking

    def until(self, **counts: int) -> None:
        """Waits until so many run or wait."""
        admission = self.server.service.admission
        eventually(lambda: all(getattr(admission, name) == count for name, count in counts.items()))

    def cancel(self, run_id: str, **body: Any) -> None:
        assert self.status(self.send(f"{RUNS}/{run_id}/cancel", body or b"")) == 200

    def id_of(self, status: str) -> str:
        """The id of the run that is so."""
        (run,) = eventually(lambda: [run for run in self.server.runs if run.status == status])
        return run.id

    def tab(
        self, question: str, then: Callable[[Any], object] = lambda tab: None, closing: bool = False
    ) -> str:
        """A turn of the chat on the service's loop, where `then` is called once it says something; how it ended."""
        service = self.server.service

        async def talk() -> str:
            tabs = Tabs(service.flow, service.admission, timeout=service.default_timeout)
            if closing:
                tabs.close()
            tab, called = tabs.open("a"), False
            async for turn in tabs.ask(tab, question):
                if not called and (turn.text or turn.status):
                    called = True
                    then(tab)
            return tab.turns[-1].state

        asked: Future[str] = asyncio.run_coroutine_threadsafe(talk(), self.server.loop)
        return asked.result(10)
