"""The life of a service: in a block, as a process, at its start and its end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from millrace import Limits, MillraceError, Module, Pipeline, Service, session, step
from millrace.flow import hooks
from millrace.launchers.api.patience import Timings
from millrace.streaming import FlowBuildError, FlowCallError, QueueError, current_session, status
from tests.launchers.support import PATH, Asking, Source, echo, question, running, words
from tests.support.leaks import eventually, eventually_async, leaks
from tests.support.servers import ROOT


@pytest.mark.anyio
class TestBlock:
    async def test_it_serves_on_a_free_port_and_ends(self) -> None:
        service = Service(echo, port=0)
        async with service as same, httpx.AsyncClient(base_url=service.url) as client:
            assert same is service
            assert service.url.startswith("http://127.0.0.1:")
            answer = await client.post(PATH, json=question("hi"))
            assert answer.json()["choices"][0]["message"]["content"] == "hi"
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{service.url}/health/live")

    async def test_no_signal_handler_is_installed(self) -> None:
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = [signal.getsignal(number) for number in numbers]
        async with Service(echo, port=0):
            assert [signal.getsignal(number) for number in numbers] == before

    async def test_the_session_of_the_starter_is_not_that_of_the_requests(self) -> None:
        async def whose(text: str) -> str:
            return str(current_session())

        with session("starter"):
            async with Service(whose, port=0) as service, httpx.AsyncClient() as client:
                answer = await client.post(service.url + PATH, json=question())
        assert "starter" not in answer.text

    async def test_the_hooks_of_the_starter_hear_the_requests(self) -> None:
        heard: list[str] = []
        with hooks(finished=lambda call: heard.append(call.value)):
            async with Service(Pipeline(str.upper), port=0) as service, httpx.AsyncClient() as client:
                await client.post(service.url + PATH, json=question("hi"))
        assert heard == ["HI"]

    async def test_it_may_be_started_inside_a_run(self) -> None:
        async def starts(text: str) -> str:
            async with Service(echo, port=0) as service, httpx.AsyncClient() as client:
                answer = await client.post(service.url + PATH, json=question(text))
            return str(answer.json()["choices"][0]["message"]["content"])

        assert await step(starts).acall("inside") == "inside"

    async def test_two_at_once(self) -> None:
        async with Service(echo, port=0) as one, Service(words, port=0) as two:
            assert one.url != two.url

    async def test_an_error_in_the_block_is_the_blocks(self) -> None:
        with pytest.raises(KeyError):
            async with Service(echo, port=0):
                raise KeyError

    async def test_a_cancelled_block_still_ends_the_server(self) -> None:
        urls: list[str] = []

        async def block() -> None:
            async with Service(echo, port=0) as service:
                urls.append(service.url)
                await asyncio.Event().wait()

        task = asyncio.create_task(block())
        await eventually_async(lambda: bool(urls))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(httpx.ConnectError):
            httpx.get(urls[0])

    async def test_the_port_is_in_use(self) -> None:
        with closing(socket.create_server(("127.0.0.1", 0))) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(MillraceError, match=rf"port {port} on 127\.0\.0\.1 is in use.*--port"):
                async with Service(echo, port=port):
                    pass

    async def test_an_application_that_fails_to_start(self) -> None:
        @asynccontextmanager
        async def broken(app: Any) -> AsyncIterator[None]:
            raise RuntimeError("no database")
            yield

        service = Service(echo, port=0)
        service.app.router.lifespan_context = broken
        with pytest.raises(MillraceError, match="failed to start; the log above says why"):
            async with service:
                pass

    async def test_the_url_is_there_only_when_it_is_up(self) -> None:
        with pytest.raises(FlowCallError, match="async with Service"):
            Service(echo).url  # noqa: B018

    async def test_nothing_is_left(self) -> None:
        async def once() -> None:
            async with Service(words, port=0) as service, httpx.AsyncClient() as client:
                await client.post(service.url + PATH, json=question("a b", stream=True))

        await once()
        with leaks():
            await once()


class TestSettings:
    def test_a_flow_that_no_request_could_call(self) -> None:
        def two(left: str, right: str) -> str: ...

        with pytest.raises(FlowBuildError, match=r"two takes 2 \(left, right\)"):
            Service(two)

    def test_choices_are_named(self) -> None:
        with pytest.raises(MillraceError, match=r"on_disconnect='go on': there are 'cancel' and 'continue'"):
            Service(echo, on_disconnect="go on")  # type: ignore[arg-type]
        with pytest.raises(MillraceError, match=r"events='some': there are 'output' and 'all'"):
            Service(echo, events="some")  # type: ignore[arg-type]

    @pytest.mark.parametrize("seconds", [0, -1, float("nan")])
    def test_deadlines_are_above_0(self, seconds: float) -> None:
        with pytest.raises(ValueError, match="above 0"):
            Service(echo, default_timeout=seconds)
        with pytest.raises(ValueError, match=r"Timings\(drain="):
            Timings(drain=seconds)

    @pytest.mark.parametrize(
        ("flow", "title", "name"),
        [
            (echo, None, "echo"),
            (Pipeline(echo, words), None, "millrace"),
            (Pipeline(echo, words), "My Flow", "My-Flow"),
            (Pipeline(echo, name="rag"), "My Flow", "rag"),
        ],
    )
    def test_the_models_name(self, flow: Any, title: str | None, name: str) -> None:
        assert Service(flow, title=title).model == name


class Resource(Module[str, str]):
    """A module that is set up when the test lets it, and may fail or die."""

    def __init__(self) -> None:
        super().__init__()
        self.may_be_ready = asyncio.Event()
        self.closed = 0

    async def setup(self) -> None:
        await self.may_be_ready.wait()

    async def __call__(self, text: str) -> str:
        return text

    async def aclose(self) -> None:
        self.closed += 1


@pytest.mark.anyio
async def test_modules_are_ended() -> None:
    resource = Resource()
    resource.may_be_ready.set()
    async with Service(resource, port=0) as service:
        await service.readiness.begin()
        assert resource.closed == 0
    assert resource.closed == 1


class TestEnd:
    def test_what_is_going_on_may_end(self) -> None:
        source = Source(items=3)
        with running(source) as server:
            connection = server.ask()
            source.allow(1)
            connection.events(2)
            server.do(lambda: setattr(server.service._server, "should_exit", True))
            eventually(lambda: not accepts(server.port))
            source.open()
            assert connection.events()[-1] == "[DONE]"
            connection.close()

    def test_what_takes_too_long_is_cancelled_with_an_error(self) -> None:
        source = Source()
        with running(source, timings=Timings(drain=0.2)) as server:
            connection = server.ask()
            whole = server.ask(stream=False)
            source.allow(1)
            connection.events(2)
            eventually(lambda: source.started == 2)
            server.do(lambda: setattr(server.service._server, "should_exit", True))
            (error,) = connection.events()
            assert json.loads(error)["error"]["message"] == "the server is shutting down"
            assert whole.reply().status == 503
            connection.close()
            whole.close()
        assert source.cleaned == 2
        assert status().runs == 0

    def test_who_waits_in_line_is_told_as_well(self) -> None:
        source = Source()
        with running(source, timings=Timings(drain=0.2), limits=Limits(running=1, waiting=1)) as server:
            first, second = server.ask(), server.ask(stream=False)
            eventually(lambda: server.service.admission.waiting == 1)
            server.do(lambda: setattr(server.service._server, "should_exit", True))
            assert second.reply().status == 503
            assert first.reply().status == 503
            for connection in (first, second):
                assert connection.json()["error"]["code"] == "shutting_down"
            first.close()
            second.close()
        assert source.started == 1


def accepts(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


PROGRAM = """
import asyncio, sys, time
from millrace import LocalModel, Module, serve
from millrace.launchers.api.patience import Timings

class Flow(Module):
    async def setup(self):
        if {fails}:
            raise ValueError("no weights there")

    async def __call__(self, text):
        yield "piece "
        try:
            {body}
        finally:
            print("cleaned", flush=True)

    async def aclose(self):
        print("closed", flush=True)

print("begin", flush=True)
serve(Flow(), port={port}, timings=Timings(drain={drain}), announce=lambda url: print(url, flush=True))
print("returned", flush=True)
"""


@contextmanager
def program(
    body: str = "await asyncio.Event().wait()", port: int = 0, drain: float = 30, fails: bool = False
) -> Iterator[subprocess.Popen[str]]:
    """A Python process that calls `serve()`; what it prints is its stdout."""
    code = PROGRAM.format(body=body, port=port, drain=drain, fails=fails)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def port_of(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    assert process.stdout.readline() == "begin\n"
    return int(process.stdout.readline().rpartition(":")[2])


def begun(port: int) -> Asking:
    """A connection on which a stream has begun."""
    connection = Asking(port)
    connection.send("POST", PATH, question(stream=True))
    connection.events(2)
    return connection


@pytest.mark.slow
class TestServe:
    def test_ctrl_c_drains_and_returns(self) -> None:
        with program("await asyncio.sleep(0.5)") as process:
            with begun(port_of(process)) as connection:
                process.send_signal(signal.SIGINT)
                assert connection.events()[-1] == "[DONE]"
            output, errors = process.communicate(timeout=15)
            assert output.split() == ["cleaned", "closed", "returned"]
            assert errors == ""
            assert process.returncode == 0

    def test_sigterm_drains_cancels_and_ends_by_the_signal(self) -> None:
        with program(drain=0.3) as process:
            with begun(port_of(process)) as connection:
                process.send_signal(signal.SIGTERM)
                (error,) = connection.events()
            assert json.loads(error)["error"]["code"] == "shutting_down"
            output, errors = process.communicate(timeout=15)
            assert output.split() == ["cleaned", "closed"]
            assert errors == ""
            assert process.returncode == -signal.SIGTERM

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_second_signal_ends_it_at_once(self, number: signal.Signals) -> None:
        with program("time.sleep(0) or await asyncio.Event().wait()") as process:
            port = port_of(process)
            connection = begun(port)
            process.send_signal(number)
            eventually(lambda: not accepts(port))
            process.send_signal(number)
            assert process.wait(2) == -number
            connection.close()

    def test_a_flow_that_cannot_be_loaded_ends_it_with_its_error(self) -> None:
        with program(fails=True) as process:
            output, errors = process.communicate(timeout=15)
        assert "ValueError: no weights there" in errors
        assert "returned" not in output
        assert process.returncode == 1

    def test_the_port_is_in_use(self) -> None:
        with closing(socket.create_server(("127.0.0.1", 0))) as taken:
            port = taken.getsockname()[1]
            with program(port=port) as process:
                _, errors = process.communicate(timeout=15)
        assert errors.splitlines()[-1].endswith(
            "choose another one with --port (port= in Python, 0 for any that is free)"
        )


@pytest.mark.anyio
async def test_serve_says_what_to_do_inside_a_loop() -> None:
    from millrace import serve

    with pytest.raises(FlowCallError, match="async with Service"):
        serve(echo)


def test_a_queue_that_cannot_hold_runs_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(QueueError, match="cannot hold runs: Not a directory; name a directory of your own"):
        Service(echo, queue=f"file://{tmp_path}/file")
