"""How long the service waits: for an answer, for its next piece, and for a client that does not read."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from millrace.launchers.api.patience import Timings
from millrace.launchers.services import Service
from millrace.streaming import ContextLengthExceeded
from tests.launchers.support import PATH, Source, client_of, question, running
from tests.support.leaks import eventually
from tests.support.servers import serving

HELLO: Any = [{"role": "user", "content": "hello there you"}]


async def waits(text: str) -> str:
    await asyncio.Event().wait()
    return text


class TestDeadlines:
    @pytest.mark.parametrize("stream", [True, False])
    def test_before_the_first_piece(self, stream: bool) -> None:
        with running(waits, default_timeout=0.05) as server:
            status, headers, answer = server.post(question(stream=stream))
        assert (status, answer["error"]["code"]) == (504, "timeout")
        assert headers["x-should-retry"] == "false"

    def test_in_the_middle_of_a_stream(self) -> None:
        source = Source()
        with running(source, default_timeout=0.2) as server, server.ask() as connection:
            source.allow(3)
            *chunks, last = connection.events()
            assert json.loads(last)["error"]["code"] == "timeout"
            assert all(json.loads(chunk)["choices"][0]["finish_reason"] is None for chunk in chunks)
            eventually(lambda: source.cleaned == 1)
            eventually(server.idle)

    def test_a_request_may_ask_for_less(self) -> None:
        with running(waits) as server, client_of(server) as client:
            with pytest.raises(openai.InternalServerError) as late:
                client.chat.completions.create(model="waits", messages=HELLO, extra_body={"timeout": 0.05})
            assert late.value.status_code == 504

    def test_but_not_for_more(self) -> None:
        with running(waits, default_timeout=5) as server:
            status, _, answer = server.post(question(timeout=6))
        assert (status, answer["error"]["param"]) == (400, "timeout")
        assert "to 5" in answer["error"]["message"]


class TestSilence:
    QUICK = Timings(first_output=0.03, heartbeat=0.03)

    def test_the_headers_come_after_a_while_and_comments_keep_the_line_open(self) -> None:
        source = Source(items=1)
        with running(source, timings=self.QUICK) as server, server.ask() as connection:
            assert connection.reply().status == 200
            while connection.body.count(b": keep-alive\n\n") < 3:
                assert connection._more()
            assert source.produced == 0
            source.open()
            assert len(connection.events()) == 4

    def test_clients_do_not_see_the_comments(self) -> None:
        async def slow(text: str) -> str:
            await asyncio.sleep(0.2)
            return "at last"

        with running(slow, timings=self.QUICK) as server, client_of(server) as client:
            stream = client.chat.completions.create(model="slow", messages=HELLO, stream=True)
            assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "at last"

    def test_an_error_after_the_headers_comes_in_the_stream(self) -> None:
        async def fails(text: str) -> str:
            await asyncio.sleep(0.1)
            raise ContextLengthExceeded("too long")

        with running(fails, timings=self.QUICK) as server, server.ask() as connection:
            assert connection.reply().status == 200
            error = connection.events()[-1]
            assert json.loads(error)["error"]["code"] == "context_length_exceeded"

    def test_pieces_that_keep_coming_are_not_interrupted(self) -> None:
        async def steady(text: str) -> AsyncIterator[str]:
            for _ in range(20):
                yield "x"
                await asyncio.sleep(0.01)

        timings = Timings(first_output=5, heartbeat=1)
        with running(steady, timings=timings) as server, server.ask() as connection:
            connection.reply()
            assert b"keep-alive" not in connection.read()


class TestSlowClients:
    LIMIT = 0.5

    def endless(self) -> Source:
        source = Source(items=10_000_000)
        source.open()
        return source

    def test_who_does_not_read_is_cut_off(self) -> None:
        source = self.endless()
        with running(source, timings=Timings(write_idle=self.LIMIT)) as server:
            connection = server.ask()
            eventually(lambda: source.cleaned == 1, timeout=20)
            assert source.produced < source.items
            eventually(server.idle)
            eventually(lambda: not server.service._server.server_state.connections)  # type: ignore[union-attr]
            connection.close()

    def test_and_on_other_servers_as_well(self) -> None:
        source = self.endless()
        service = Service(source, timings=Timings(write_idle=self.LIMIT))
        with serving(service.app) as server:
            connection = server.connect()
            connection.send("POST", PATH, question(stream=True))
            eventually(lambda: len(service._desk.works) == 1)
            (work,) = service._desk.works.values()
            eventually(lambda: source.cleaned == 1, timeout=20)
            eventually(lambda: service.admission.running == 0)
            assert work.run.reason == "client stopped reading"
            assert source.produced < source.items
            connection.close()

    @pytest.mark.parametrize("stream", [True, False])
    @pytest.mark.parametrize("path", [PATH, "/v1/runs"])
    def test_a_long_answer_that_is_not_read_holds_its_permit(self, path: str, stream: bool) -> None:
        size = 24 * 1024 * 1024

        async def long(text: str) -> list[str]:
            return ["x" * size]

        with running(long, timings=Timings(write_idle=self.LIMIT)) as server:
            with server.ask(path=path, stream=stream) as connection:
                eventually(lambda: server.runs and all(run.over for run in server.runs), timeout=20)
                assert server.service.admission.running == 1
                eventually(server.idle)
                with pytest.raises((OSError, AssertionError)):  # it is cut off: not all has come
                    assert len(connection.read()) > size
            with server.ask(path=path, stream=stream) as connection:
                assert len(connection.read()) > size

    def test_production_pauses_meanwhile_and_goes_on(self) -> None:
        source = self.endless()
        with running(source) as server, server.ask() as connection:
            paused_at = eventually(lambda: self.stands_still(source), timeout=20)
            connection.timeout = 20
            eventually(lambda: connection.events(1000) and source.produced > paused_at, timeout=20)

    def stands_still(self, source: Source) -> int:
        """How many pieces there were and still are a while later; 0 if they are not the same."""
        before = source.produced
        threading.Event().wait(0.3)
        return before if source.produced == before else 0
