"""What the clients of a worker hear that is killed: an error event, from the supervisor, and a proper end."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import openai
import psutil
import pytest

from millrace.launchers.processes.last_words import Keeper, Speaker, pair
from tests.launchers.processes.support import Supervised, supervised
from tests.support.leaks import eventually, eventually_async

RUN_LOST = "the process that ran it died before its end; begin it anew"


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client's socket, and the one that a server has accepted for it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    with client, accepted:
        client.settimeout(5.0)
        yield client, accepted


def rest(client: socket.socket) -> bytes:
    """All that comes before the server's end."""
    parts = []
    while part := client.recv(4096):
        parts.append(part)
    return b"".join(parts)


def both() -> tuple[Keeper, Speaker, socket.socket]:
    """A supervisor's end and a worker's, and the worker's socket."""
    ours, theirs = pair()
    return Keeper(ours), Speaker(theirs), theirs


@pytest.mark.anyio
class TestBetweenTheTwo:
    async def test_what_was_left_is_said_and_what_was_taken_back_is_not(
        self, ends: tuple[socket.socket, socket.socket]
    ) -> None:
        client, accepted = ends
        keeper, speaker, theirs = both()
        taken = speaker.leave(accepted.fileno(), b"never")
        kept = speaker.leave(accepted.fileno(), b"the last words")
        assert taken is not None
        assert kept is not None
        await eventually_async(lambda: len(keeper) == 2)
        accepted.close()  # as when its process dies; the connection is still there
        speaker.take_back(taken)
        await eventually_async(lambda: len(keeper) == 1)
        theirs.close()
        keeper.close()
        assert rest(client) == b"the last words"
        assert len(keeper) == 0

    async def test_what_the_supervisor_has_not_read_when_the_worker_dies(
        self, ends: tuple[socket.socket, socket.socket]
    ) -> None:
        client, accepted = ends
        keeper, speaker, theirs = both()
        speaker.leave(accepted.fileno(), b"just in time")
        accepted.close()
        theirs.close()
        keeper.close()
        assert rest(client) == b"just in time"

    async def test_a_supervisor_that_has_no_descriptors_to_spare(
        self, ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client, accepted = ends
        keeper, speaker, theirs = both()
        monkeypatch.setattr("millrace.launchers.processes.last_words.SPARE", 1 << 40)
        speaker.leave(accepted.fileno(), b"never")
        accepted.close()
        assert await asyncio.to_thread(rest, client) == b""
        theirs.close()
        keeper.close()

    async def test_a_supervisor_that_does_not_listen_for_a_while(
        self, ends: tuple[socket.socket, socket.socket]
    ) -> None:
        client, accepted = ends
        ours, theirs = pair()
        speaker = Speaker(theirs)
        numbers = []
        while (number := speaker.leave(accepted.fileno(), b"x" * 4096)) is not None:
            numbers.append(number)
        assert numbers
        for number in numbers:
            speaker.take_back(number)  # not now, but it is not forgotten
        assert speaker.leave(accepted.fileno(), b"x") is None
        accepted.close()
        keeper = Keeper(ours)
        await eventually_async(lambda: not speaker._late and len(keeper) == 0)
        await asyncio.to_thread(rest, client)  # nobody holds the connection any more
        theirs.close()
        keeper.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervised]:
    with supervised(tmp_path_factory.mktemp("words"), timings={"drain": 0.3}) as server:
        yield server


def kill(server: Supervised, pid: int) -> None:
    """Once the supervisor has been told what to say: that follows the first piece of a stream."""
    time.sleep(0.1)
    server.workers()[pid].kill()


@pytest.mark.slow
class TestKilled:
    def test_a_chat_completion(self, server: Supervised) -> None:
        lost, pid = server.streaming("go on")
        with lost:
            kill(server, pid)
            *pieces, last = lost.events()  # to the end of a whole body
        assert all("choices" in json.loads(piece) for piece in pieces)
        assert json.loads(last)["error"]["code"] == "run_lost"
        assert json.loads(last)["error"]["message"] == RUN_LOST
        eventually(lambda: server.ready() == 2, 20, server.output)

    def test_as_the_openai_client_sees_it(self, server: Supervised) -> None:
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="none", max_retries=0)
        asked: Any = {"model": "flow", "messages": [{"role": "user", "content": "go on"}]}
        said = ""
        with (
            client,
            client.chat.completions.create(**asked, stream=True) as stream,
            pytest.raises(openai.APIError, match=RUN_LOST),
        ):
            for chunk in stream:
                before, said = said, said + (chunk.choices[0].delta.content or "")
                if said.count("so ") == 5 > before.count("so "):
                    kill(server, int(said.split()[0]))
        eventually(lambda: server.ready() == 2, 20, server.output)

    def test_a_response(self, server: Supervised) -> None:
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="none", max_retries=0)
        said, last = "", None
        with client, client.responses.create(model="flow", input="go on", stream=True) as stream:
            for last in stream:
                if last.type == "response.output_text.delta":
                    before, said = said, said + last.delta
                    if said.count("so ") == 5 > before.count("so "):
                        kill(server, int(said.split()[0]))
        assert last is not None
        assert last.type == "error"
        assert (last.code, last.message) == ("run_lost", RUN_LOST)
        eventually(lambda: server.ready() == 2, 20, server.output)

    def test_a_run_and_who_follows_it_by_the_same_worker(self, server: Supervised) -> None:
        pid = server.pid()
        with server.at(pid) as here:
            here.send("POST", "/v1/runs", {"input": "go on", "stream": True})
            run_id = here.reply().headers["x-run-id"]
            here.events(5)
            with server.at(pid) as beside:
                beside.send("GET", f"/v1/runs/{run_id}/events")
                beside.events(5)
                kill(server, pid)
                last = json.loads(here.events()[-1])
                assert (last["kind"], last["status"]) == ("run_finished", "lost")
                assert last["error"]["kind"] == "WriterLost"
                assert json.loads(beside.events()[-1])["error"]["code"] == "follower_lost"
            eventually(lambda: json.loads(server.get(f"/v1/runs/{run_id}"))["status"] == "lost")
        eventually(lambda: server.ready() == 2, 20, server.output)

    def test_a_stream_that_ends_by_itself_leaves_the_connection_as_it_was(self, server: Supervised) -> None:
        pid = server.pid()
        with server.at(pid) as asking:
            for _ in range(3):
                asking.send("POST", "/v1/runs", {"input": "hello", "stream": True})
                assert json.loads(asking.events()[-1])["status"] == "done"
            kill(server, pid)
            assert asking.closed_by_server()
            assert not asking.received  # no words on a connection where nothing is streamed
        eventually(lambda: server.ready() == 2, 20, server.output)

    def test_a_client_that_leaves_is_let_go(self, server: Supervised) -> None:
        supervisor = psutil.Process(server.process.pid)
        before = supervisor.num_fds()
        lost, _ = server.streaming("go on")
        eventually(lambda: supervisor.num_fds() == before + 1)
        lost.close()
        eventually(lambda: supervisor.num_fds() == before)
