"""/v1/runs: runs are followed from any event on, by as many as there may be."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from millrace import Limits
from millrace.launchers.api.patience import Timings
from tests.launchers.api.run_clients import RUNS, ask, client_of, frames_of
from tests.launchers.support import Running, Source, running
from tests.support.leaks import eventually


async def two_hundred(text: str) -> AsyncIterator[Any]:
    """195 pieces and items of every kind; with both ends two hundred events at about."""
    for i in range(195):
        yield [f"{i} ", {"item": i, "part": [1.5, None, "é\u2028"]}, "", "\ud800x"][i % 4]
        await asyncio.sleep(0)


class TestFollowing:
    @pytest.mark.parametrize("where", ["memory", "files"])
    def test_from_every_event_on_the_rest_is_the_same_bytes(self, where: str, tmp_path: Path) -> None:
        queue = "memory://" if where == "memory" else f"file://{tmp_path}/runs"
        with (
            running(two_hundred, queue=queue, on_disconnect="continue") as server,
            client_of(server) as client,
        ):
            whole = client.post(RUNS, json={"input": "a", "stream": True})
            path = f"{RUNS}/{whole.headers['x-run-id']}/events"
            seqs = [frame["seq"] for frame in frames_of(whole.text)]
            assert len(seqs) > 190
            assert client.get(path).text == whole.text
            for k in range(seqs[-1]):
                rest = client.get(path, headers={"last-event-id": str(k)}).text
                place = whole.text.index(f"id: {next(seq for seq in seqs if seq > k)}\n")
                assert rest == whole.text[place:]
            assert client.get(path, params={"after": seqs[-1]}).text == ""
            beyond = client.get(path, params={"after": seqs[-1] + 1})
            assert (beyond.status_code, beyond.json()["error"]["code"]) == (410, "events_expired")

    @pytest.mark.parametrize("where", ["memory", "files"])
    def test_while_it_is_written(self, where: str, tmp_path: Path) -> None:
        source = Source(items=30)
        queue = "memory://" if where == "memory" else f"file://{tmp_path}/runs"
        with running(source, queue=queue) as server, client_of(server) as client:
            with ask(server, {"input": "a", "stream": True}) as asking:
                source.allow(5)
                asking.events(6)
                path = f"{RUNS}/{asking.reply().headers['x-run-id']}/events"
                with server.connect() as follower:
                    follower.send("GET", f"{path}?after=3")
                    assert [json.loads(event)["text"] for event in follower.events(3)] == ["2 ", "3 ", "4 "]
                    source.open()
                    followed = [json.loads(event) for event in follower.events()]
                    listened = [json.loads(event) for event in asking.events()]
            assert followed == listened
            assert followed[-1]["kind"] == "run_finished"
            assert client.get(f"{path}?after=0").text.count("event: text_delta") == 30

    def test_leaving_disturbs_nobody(self) -> None:
        source = Source(items=5)
        with running(source) as server, ask(server, {"input": "a", "stream": True}) as asking:
            source.allow(1)
            asking.events(2)
            follower = server.connect()
            follower.send("GET", f"{RUNS}/{asking.reply().headers['x-run-id']}/events")
            follower.events(2)
            follower.reset()
            eventually(lambda: server.service._desk.followers == 0)
            source.open()
            assert json.loads(asking.events()[-1])["status"] == "done"

    def test_what_is_not_kept_any_more(self) -> None:
        with running(two_hundred) as server, client_of(server) as client:
            whole = client.post(RUNS, json={"input": "a", "stream": True})
            path = f"{RUNS}/{whole.headers['x-run-id']}/events"
            assert client.get(path).status_code == 200
            more = client.post(RUNS, json={"input": "a", "stream": True})

        async def many(text: str) -> AsyncIterator[str]:
            for i in range(300):
                yield f"{i} "
                await asyncio.sleep(0)

        with running(many) as server, client_of(server) as client:
            more = client.post(RUNS, json={"input": "a", "stream": True})
            answer = client.get(f"{RUNS}/{more.headers['x-run-id']}/events")
            assert (answer.status_code, answer.json()["error"]["code"]) == (410, "events_expired")

    def test_an_id_that_is_none(self, client: httpx.Client) -> None:
        run = client.post(RUNS, json={"input": "a"}).json()
        path = f"{RUNS}/{run['id']}/events"
        for wrong in ("x", "-1", "1.5", "9" * 40):
            assert (
                client.get(path, headers={"last-event-id": wrong}).json()["error"]["param"] == "Last-Event-ID"
            )
            assert client.get(path, params={"after": wrong}).json()["error"]["param"] == "after"

    def test_a_chat_completion_can_be_picked_up_by_the_ids_of_its_chunks(self, server: Running) -> None:
        with server.ask("over the wheel") as connection, client_of(server) as client:
            body = connection.read().decode()
            assert [line for line in body.split("\n") if line.startswith("id: ")] == [
                "id: 2",
                "id: 3",
                "id: 4",
            ]
            run_id = connection.reply().headers["x-run-id"]
            rest = frames_of(client.get(f"{RUNS}/{run_id}/events", headers={"last-event-id": "3"}).text)
            assert [frame.get("text") for frame in rest] == ["wheel ", None]

    def test_heartbeats_while_it_is_silent(self) -> None:
        timings = Timings(first_output=0.03, heartbeat=0.03)
        with (
            running(Source(), timings=timings) as server,
            ask(server, {"input": "a", "stream": True}) as asking,
        ):
            run_id = asking.reply().headers["x-run-id"]
            with server.connect() as follower:
                follower.send("GET", f"{RUNS}/{run_id}/events?after=1")
                follower.reply()
                eventually(lambda: follower._more() and follower.body.count(b": keep-alive") >= 2)

    def test_they_are_bounded(self) -> None:
        source = Source()
        with (
            running(source, limits=Limits(running=1, waiting=0)) as server,
            client_of(server) as client,
            ask(server, {"input": "a", "stream": True}) as asking,
        ):
            source.allow(1)
            asking.events(1)
            path = f"{RUNS}/{asking.reply().headers['x-run-id']}/events"
            followers = [server.connect() for _ in range(4)]
            for follower in followers:
                follower.send("GET", path)
                assert follower.reply().status == 200
            assert client.get(path).status_code == 429
            for follower in followers:
                follower.close()

    def test_no_owner_shuts_out_another(self) -> None:
        source, keys = Source(), {name: f"sk-{name}-0123456789" for name in ("alice", "bob")}
        limits = Limits(running=2, waiting=0)

        def headers(name: str) -> dict[str, str]:
            return {"authorization": f"Bearer {keys[name]}"}

        with (
            running(
                source, limits=limits, api_keys=[f"{name}: {key}" for name, key in keys.items()]
            ) as server,
            ExitStack() as open_ones,
        ):
            paths = {}
            for count, name in enumerate(keys, 1):
                run_id = os.urandom(16).hex()
                open_ones.enter_context(ask(server, {"input": "a"}, {**headers(name), "x-run-id": run_id}))
                paths[name] = f"{RUNS}/{run_id}/events"
                eventually(lambda count=count: source.started == count)  # type: ignore[misc]

            def follow(name: str) -> int:
                follower = open_ones.enter_context(server.connect())
                follower.send("GET", paths[name], headers=headers(name))
                return follower.reply().status

            assert [follow("alice") for _ in range(5)] == [200] * 4 + [429]
            assert [follow("bob") for _ in range(5)] == [200] * 4 + [429]
