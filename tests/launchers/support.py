"""A Service in a thread of its own, flows whose items are the test's steps, and short ways to ask."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import openai
import uvloop

from millrace.launchers.services import Service
from millrace.streaming import Run
from tests.support.leaks import eventually
from tests.support.servers import Connection, Reply

PATH = "/v1/chat/completions"
RESPONSES = "/v1/responses"


class Asking(Connection):
    """A connection that reads the head of the response by itself, where the test does not."""

    head: Reply | None = None

    def send(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().send(method, path, body, headers)
        self.head = None

    def reply(self) -> Reply:
        if self.head is None:
            self.head = super().reply()
        return self.head

    def read(self) -> bytes:
        self.reply()
        return super().read()

    def events(self, count: int | None = None) -> list[str]:
        self.reply()
        return super().events(count)


class Running:
    """A service that is up, in another thread."""

    def __init__(self, service: Service, loop: asyncio.AbstractEventLoop) -> None:
        self.service = service
        self.loop = loop

    @property
    def url(self) -> str:
        return self.service.url

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def connect(self, timeout: float = 10.0) -> Asking:
        return Asking(self.port, timeout)

    def ask(self, text: str = "hello", stream: bool = True, path: str = PATH, **more: Any) -> Asking:
        """A connection on which a request has been sent, and nothing read."""
        connection = self.connect()
        connection.send("POST", path, asked(path, text, stream=stream, **more))
        return connection

    def post(
        self, body: object, headers: dict[str, str] | None = None, path: str = PATH
    ) -> tuple[int, dict[str, str], Any]:
        """Status, headers and JSON of the answer."""
        with self.connect() as connection:
            connection.send("POST", path, body, headers)
            reply = connection.reply()
            return reply.status, reply.headers, connection.json()

    def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        with self.connect() as connection:
            connection.send("GET", path, headers=headers)
            return connection.reply().status, connection.json()

    def do(self, function: Callable[[], Any]) -> Any:
        """Calls `function` on the service's loop."""
        done: Future[Any] = Future()
        self.loop.call_soon_threadsafe(lambda: done.set_result(function()))
        return done.result(10)

    @property
    def runs(self) -> set[Run]:
        """The runs of the requests that go on, or wait."""
        return {work.run for work in list(self.service._desk.works.values())}

    def idle(self) -> bool:
        """Whether no request holds a permit or a place in line."""
        admission = self.service.admission
        return (admission.running, admission.waiting) == (0, 0)


@contextmanager
def running(
    flow: Any, configure: Callable[[Service], object] | None = None, on_uvloop: bool = False, **options: Any
) -> Iterator[Running]:
    """Enters `Service(flow, port=0, **options)` in a thread, waits until it is ready, and leaves it at the end.

    `configure` is given the service before it is entered. `on_uvloop`: on the loop that `serve()` runs on.
    """
    up: Future[Running] = Future()
    leave = threading.Event()

    async def main() -> None:
        service = Service(flow, port=0, **options)
        if configure is not None:
            configure(service)
        async with service:
            up.set_result(Running(service, asyncio.get_running_loop()))
            await asyncio.to_thread(leave.wait)

    def body() -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop if on_uvloop else None) as runner:
                runner.run(main())
        except BaseException as error:
            if up.done():
                raise
            up.set_exception(error)

    thread = threading.Thread(target=body, name="test-service", daemon=True)
    thread.start()
    try:
        server = up.result(30)
        eventually(lambda: server.service.readiness.state != "loading", timeout=60)
        yield server
    finally:
        leave.set()
        thread.join(30)
        assert not thread.is_alive(), "the service did not end"


class Source:
    """A flow that streams numbered pieces, each when the test lets it; `open()` lets all of them."""

    def __init__(self, items: int = 10_000) -> None:
        self.items = items
        self.started = self.produced = self.cleaned = 0
        self._free = False
        self._allowed = 0
        self._changed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def allow(self, count: int) -> None:
        """Lets `count` more pieces through, over all runs."""
        self._allowed += count
        self._tell()

    def open(self) -> None:
        """Lets everything through from now on."""
        self._free = True
        self._tell()

    def _tell(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._changed.set)

    async def __call__(self, text: str) -> AsyncIterator[str]:
        self._loop = asyncio.get_running_loop()
        self.started += 1
        try:
            for i in range(self.items):
                while not self._free and self._allowed <= 0:
                    self._changed.clear()
                    await self._changed.wait()
                self._allowed -= 1
                self.produced += 1
                yield f"{i} "
                await asyncio.sleep(0)
        finally:
            self.cleaned += 1


def client_of(server: Running, **options: Any) -> openai.OpenAI:
    """The openai client, which tries nothing twice."""
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, **options)


def question(text: str = "hello", **more: Any) -> dict[str, Any]:
    """The body of a request."""
    return {"messages": [{"role": "user", "content": text}], **more}


def asked(path: str, text: str = "hello", **more: Any) -> dict[str, Any]:
    """The body of a request to one of the endpoints where the flow is asked in words."""
    return question(text, **more) if path == PATH else {"input": text, **more}


async def echo(text: str) -> str:
    return text


async def words(text: str) -> AsyncIterator[str]:
    """Streams the text word by word."""
    for word in text.split():
        yield word + " "
        await asyncio.sleep(0)
