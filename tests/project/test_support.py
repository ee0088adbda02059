"""The helpers that other tests lean on fail when they should."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from millrace import step
from tests.support.browser import Visit, is_foreign
from tests.support.leaks import eventually, eventually_async, leaks
from tests.support.servers import end, millrace_process, serving

shout = step(str.upper, name="shout")


class TestEventually:
    def test_it_returns_the_value_once_it_is_true(self) -> None:
        values = iter([0, 0, 7])
        assert eventually(lambda: next(values)) == 7

    def test_it_fails_with_the_condition_its_last_value_and_the_message(self) -> None:
        with pytest.raises(AssertionError, match=r"(?s)not within 0.05 s.*len\(\[\]\).*value: 0.*tell me"):
            eventually(lambda: len([]), timeout=0.05, message=lambda: "tell me")

    def test_the_async_form_lets_the_loop_go_on(self) -> None:
        async def main() -> str:
            done = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(done.set_result, "set")
            await eventually_async(done.done)
            return str(done.result())

        assert asyncio.run(main()) == "set"


class TestLeaks:
    def test_a_clean_block_passes(self) -> None:
        with leaks(), socket.socket():
            thread = threading.Thread(target=int)
            thread.start()
            thread.join()

    def test_a_descriptor_left_open_fails(self) -> None:
        with pytest.raises(AssertionError, match=r"descriptors.*socket"), leaks(timeout=0.05):
            left = socket.socket()
        left.close()

    def test_a_thread_left_running_fails_with_its_name(self) -> None:
        release = threading.Event()
        thread = threading.Thread(target=release.wait, name="straggler", daemon=True)
        with pytest.raises(AssertionError, match="straggler"), leaks(timeout=0.05):
            thread.start()
        release.set()
        thread.join()

    def test_a_task_left_pending_fails_with_its_name(self) -> None:
        async def straggling() -> None:
            await asyncio.Event().wait()

        async def main() -> None:
            with leaks(timeout=0.01):
                task = asyncio.create_task(straggling())
                await asyncio.sleep(0)
            task.cancel()

        with pytest.raises(AssertionError, match="straggling"):
            asyncio.run(main())


class Clock:
    """An app whose stream has no end of its own, and which knows when it was left."""

    def __init__(self) -> None:
        self.sent = 0
        self.left = threading.Event()

    async def count(self) -> AsyncIterator[str]:
        try:
            while True:
                yield f"data: {self.sent}\n\n"
                self.sent += 1
                await asyncio.sleep(0.001)
        finally:
            self.left.set()

    def app(self) -> Starlette:
        async def stream(request: Request) -> Response:
            return StreamingResponse(self.count(), media_type="text/event-stream")

        async def echo(request: Request) -> Response:
            return JSONResponse(await request.json())

        return Starlette(routes=[Route("/stream", stream), Route("/echo", echo, methods=["POST"])])


class TestServing:
    def test_plain_bodies_and_kept_connections(self) -> None:
        with serving(Clock().app()) as served, served.connect() as connection:
            for number in range(2):
                connection.send("POST", "/echo", {"number": number})
                assert connection.reply().status == 200
                assert connection.json() == {"number": number}

    @pytest.mark.parametrize("leave", ["close", "reset"])
    def test_a_client_reads_some_events_and_leaves(self, leave: str) -> None:
        clock = Clock()
        with serving(clock.app()) as served, served.connect() as connection:
            connection.send("GET", "/stream")
            reply = connection.reply()
            assert (reply.status, reply.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
            assert connection.events(3) == ["0", "1", "2"]
            assert not clock.left.is_set()
            getattr(connection, leave)()
            assert clock.left.wait(5)

    def test_a_server_that_ends_ends_the_connection(self) -> None:
        with serving(Clock().app()) as served:
            connection = served.connect()
            connection.send("POST", "/echo", {}, headers={"Connection": "close"})
            connection.reply()
            assert connection.json() == {}
            assert connection.closed_by_server()
            connection.close()

    def test_nothing_of_a_server_stays(self) -> None:
        app = Clock().app()
        with serving(app):
            pass
        with leaks(), serving(app) as served, served.connect() as connection:
            connection.send("POST", "/echo", [1])
            connection.reply()
            assert connection.json() == [1]

    def test_a_failing_startup_is_told(self) -> None:
        async def lifespan(scope: object, receive: object, send: object) -> None:
            raise OSError("no start")

        failing = serving(lifespan, lifespan="on", log_level="critical")
        with pytest.raises(RuntimeError, match="failed at startup"), failing:
            pass


class TestMillraceProcess:
    def test_it_is_ready_and_ends_with_the_block(self) -> None:
        with millrace_process("serve", "tests.project.test_support:shout", "--no-chat") as launched:
            with launched.connect() as connection:
                body = {"model": "shout", "messages": [{"role": "user", "content": "hello"}]}
                connection.send("POST", "/v1/chat/completions", body)
                assert connection.reply().status == 200
                assert connection.json()["choices"][0]["message"]["content"] == "HELLO"
            pid = launched.process.pid
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

    def test_one_that_ends_at_once_is_told_with_its_output(self) -> None:
        failing = millrace_process("serve", "tests.project.test_support:nothing", "--no-chat")
        with pytest.raises(RuntimeError, match=r"(?s)ended with [12].*nothing"), failing:
            pass


class TestEnd:
    def test_a_child_that_ignores_the_signal_is_killed_and_told(self) -> None:
        code = "from signal import *; signal(SIGTERM, SIG_IGN); print(1, flush=True); pause()"
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        with pytest.raises(AssertionError, match="did not end"):
            end(child, grace=0.1)
        child.stdout.close()
        assert child.returncode == -signal.SIGKILL
        with pytest.raises(ProcessLookupError):
            os.kill(child.pid, 0)


@pytest.mark.parametrize(
    ("url", "foreign"),
    [
        ("http://127.0.0.1:80/x", False),
        ("ws://localhost:1/x", False),
        ("data:text/plain,x", False),
        ("blob:http://127.0.0.1/x", False),
        ("https://fonts.example/x", True),
        ("http://127.0.0.1.example/x", True),
    ],
)
def test_foreign_urls(url: str, foreign: bool) -> None:
    assert is_foreign(url) is foreign


@pytest.mark.browser
@pytest.mark.slow
class TestBrowser:
    PAGE = """<title>a page</title><h1>Hello</h1>
    <img src="http://pictures.example/one.png">
    <script>console.error("oh no"); throw new Error("worse")</script>"""

    def test_it_records_errors_and_foreign_requests(self, visit: Visit, tmp_path: Path) -> None:
        async def home(request: Request) -> Response:
            return HTMLResponse(self.PAGE if request.url.path == "/bad" else "<title>good</title>")

        app = Starlette(routes=[Route("/", home), Route("/bad", home), Route("/favicon.ico", home)])
        with serving(app) as served:
            visit.page.goto(served.url)
            visit.check()
            visit.page.goto(f"{served.url}/bad")
            assert visit.page.get_by_role("heading").inner_text() == "Hello"
            visit.screenshot(tmp_path / "page.png")
        assert visit.foreign_requests == ["http://pictures.example/one.png"]
        assert any("oh no" in error for error in visit.console_errors)
        assert any("worse" in error for error in visit.console_errors)
        assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")
