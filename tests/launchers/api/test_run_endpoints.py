"""/v1/runs: runs are started, looked at, followed, picked up again and stopped."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from millrace import Limits, Message, Module, Warp
from millrace.launchers.api import kept_runs
from millrace.launchers.api.patience import Timings
from millrace.streaming import (
    ContextLengthExceeded,
    Data,
    ReasoningDelta,
    Run,
    Usage,
    attach,
    current_run,
    current_session,
    emit,
    status,
)
from millrace.streaming.registries import MemoryQueue
from tests.launchers.support import Asking, Running, Source, echo, running, words
from tests.support.leaks import eventually, leaks

RUNS = "/v1/runs"
UNKNOWN = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def run_id() -> str:
    """One that a client may choose."""
    return os.urandom(16).hex()


@contextmanager
def client_of(server: Running, **options: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=10, **options) as client:
        yield client


def ask(server: Running, body: object, headers: dict[str, str] | None = None) -> Asking:
    """A connection on which a run has been asked for, and nothing read."""
    connection = server.connect()
    connection.send("POST", RUNS, body, headers)
    return connection


def frames_of(text: str) -> list[dict[str, Any]]:
    """The data of each server-sent event; its id and kind are those of the frame."""
    found = []
    for frame in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in frame.split("\n") if line and not line.startswith(":"))
        if fields:
            told = json.loads(fields["data"])
            assert fields["event"] == told["kind"]
            assert fields.get("id") == (str(told["seq"]) if "seq" in told else None)
            found.append(told)
    return found


@dataclass
class Order:
    item: str
    count: int = 1


@dataclass
class Bill:
    total: float
    lines: tuple[str, ...] = ()


async def price(order: Order) -> Bill:
    return Bill(order.count * 2.5, (order.item,))


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(words) as server:
        yield server


@pytest.fixture
def client(server: Running) -> Iterator[httpx.Client]:
    with client_of(server) as client:
        yield client


class TestStarting:
    def test_a_whole_run(self, client: httpx.Client) -> None:
        answer = client.post(RUNS, json={"input": "over the wheel"})
        run = answer.json()
        assert answer.status_code == 200
        assert answer.headers["x-run-id"] == run["id"]
        assert (run["object"], run["status"], run["result"]) == ("run", "done", "over the wheel ")
        assert (run["name"], run["error"], run["events"]) == ("words", None, 5)
        assert run["created"] < run["ended"]

    def test_a_stream(self, client: httpx.Client) -> None:
        answer = client.post(RUNS, json={"input": "over the wheel", "stream": True})
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["x-accel-buffering"] == "no"
        frames = frames_of(answer.text)
        assert [frame["kind"] for frame in frames] == ["run_started", *["text_delta"] * 3, "run_finished"]
        assert [frame["seq"] for frame in frames] == [1, 2, 3, 4, 5]
        assert [frame["text"] for frame in frames[1:4]] == ["over ", "the ", "wheel "]
        last = frames[-1]
        assert (last["status"], last["result"], last["error"]) == ("done", "over the wheel ", None)
        assert last["usage"] == {"prompt_tokens": 0, "completion_tokens": 0}

    def test_what_goes_in_and_out_is_as_annotated(self) -> None:
        with running(price) as server, client_of(server) as client:
            answer = client.post(RUNS, json={"input": {"item": "flour", "count": 3}})
            assert answer.json()["result"] == {"total": 7.5, "lines": ["flour"]}
            for wrong, where in (
                ({"count": 3}, "input.item"),
                ({"item": "flour", "count": "many"}, "input.count"),
                ("flour", "input"),
                (None, "input"),
            ):
                answer = client.post(RUNS, json={"input": wrong})
                assert (answer.status_code, answer.json()["error"]["param"]) == (422, where)

    def test_on_disk_too(self, tmp_path: Path) -> None:
        with running(price, queue=f"file://{tmp_path}/runs") as server, client_of(server) as client:
            answer = client.post(RUNS, json={"input": {"item": "flour"}})
            assert answer.json()["result"] == {"total": 2.5, "lines": ["flour"]}
            again = client.get(f"{RUNS}/{answer.json()['id']}")
            assert again.json() == answer.json()

    def test_a_run_that_its_queue_does_not_keep_is_answered_all_the_same(self) -> None:
        with running(words, queue=MemoryQueue(max_bytes=1)) as server, client_of(server) as client:
            answer = client.post(RUNS, json={"input": "over the wheel", "session": "short"})
            run = answer.json()
            assert answer.status_code == 200
            assert (run["status"], run["result"], run["session"]) == ("done", "over the wheel ", "short")
            assert (run["id"], run["events"]) == (answer.headers["x-run-id"], 5)
            assert client.get(f"{RUNS}/{run['id']}").status_code == 410

    def test_a_flow_of_flows_says_what_it_takes(self) -> None:
        with running(Warp(price)) as server, client_of(server) as client:
            answer = client.post(RUNS, json={"input": [{"item": "flour"}, {"item": "rye"}]})
            assert [bill["lines"] for bill in answer.json()["result"]] == [["flour"], ["rye"]]
            assert client.post(RUNS, json={"input": [1]}).json()["error"]["param"] == "input[0]"

    def test_in_the_background(self) -> None:
        source = Source(items=3)
        with running(source) as server, client_of(server) as client:
            answer = client.post(RUNS, json={"input": "x", "background": True})
            assert answer.status_code == 202
            run = answer.json()
            assert run["status"] in ("queued", "running")
            eventually(lambda: source.started == 1)
            assert client.get(f"{RUNS}/{run['id']}").json()["status"] == "running"
            assert server.service.admission.running == 1
            source.open()
            told = eventually(lambda: self.ended(client, run["id"]))
            assert (told["status"], told["result"]) == ("done", "0 1 2 ")
            eventually(server.idle)

    def ended(self, client: httpx.Client, run_id: str) -> dict[str, Any] | None:
        told: dict[str, Any] = client.get(f"{RUNS}/{run_id}").json()
        return told if told["ended"] else None

    def test_a_session_keeps_its_history(self) -> None:
        seen: list[list[str]] = []

        class Chatter(Module[str, str]):
            async def __call__(self, x: str) -> str:
                run = current_run()
                assert run is not None
                seen.append([message.content for message in run.take_history(x)])
                assert current_session() == "http-alice"
                return x.upper()

        with running(Chatter()) as server, client_of(server) as client:
            for text in ("one", "two"):
                assert (
                    client.post(RUNS, json={"input": text, "session": "http-alice"}).json()["session"]
                    == "http-alice"
                )
            given = {
                "input": "three",
                "session": "http-alice",
                "history": [{"role": "user", "content": "zero"}],
            }
            assert client.post(RUNS, json=given).status_code == 200
        assert seen == [[], ["one", "ONE"], ["zero"]]

    def test_two_turns_of_one_session_at_once(self) -> None:
        gate = asyncio.Event()

        async def turn(x: str) -> str:
            run = current_run()
            assert run is not None
            run.take_history(x)
            await gate.wait()
            return x

        with running(turn) as server, client_of(server) as client:
            body = {"input": "one", "session": "http-alice"}
            with ask(server, body) as first:
                eventually(
                    lambda: status().runs == 1 and server.runs and all(r.takes_turn for r in server.runs)
                )
                refused = client.post(RUNS, json=body)
                assert (refused.status_code, refused.json()["error"]["code"]) == (409, "session_busy")
                server.do(gate.set)
                assert first.reply().status == 200

    def test_the_client_may_choose_the_id(self, server: Running, client: httpx.Client, run_id: str) -> None:
        headers = {"x-run-id": run_id}
        assert client.post(RUNS, json={"input": "a"}, headers=headers).json()["id"] == run_id
        taken = client.post(RUNS, json={"input": "a"}, headers=headers)
        assert (taken.status_code, taken.json()["error"]["code"]) == (409, "run_exists")
        for wrong in ("abc", UNKNOWN.upper(), UNKNOWN + "0", "../../etc/passwd"):
            answer = client.post(RUNS, json={"input": "a"}, headers={"x-run-id": wrong})
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, "x-run-id")
        assert server.idle()

    @pytest.mark.parametrize(
        ("more", "status_code", "param"),
        [
            ({"colour": "red"}, 400, "colour"),
            ({"stream": "yes"}, 400, "stream"),
            ({"stream": True, "background": True}, 400, "background"),
            ({"timeout": 0}, 400, "timeout"),
            ({"timeout": 601}, 400, "timeout"),
            ({"session": "../x"}, 400, "session"),
            ({"session": 7}, 400, "session"),
            ({"history": "before"}, 400, "history"),
            ({"history": [{"role": "nobody", "content": "x"}]}, 400, "history[0].role"),
            ({"sampling": {"colour": 1}}, 400, "sampling.colour"),
            ({"sampling": {"temperature": -1}}, 400, "sampling"),
            ({"sampling": []}, 400, "sampling"),
            ({"events": "some"}, 400, "events"),
            ({"events": "all"}, 403, "events"),
            ({"on_disconnect": "wait"}, 400, "on_disconnect"),
            ({"input": 7}, 422, "input"),
            ({"input": "\ud800"}, 400, "input"),
        ],
    )
    def test_what_is_wrong_is_named(
        self, client: httpx.Client, more: dict[str, Any], status_code: int, param: str
    ) -> None:
        answer = client.post(
            RUNS, content=json.dumps({"input": "a", **more}), headers={"content-type": "application/json"}
        )
        assert (answer.status_code, answer.json()["error"]["param"]) == (status_code, param)

    def test_nothing_in(self, client: httpx.Client) -> None:
        assert client.post(RUNS, json={}).json()["error"]["param"] == "input"


async def size(path: Path) -> int:
    return path.stat().st_size


def test_no_client_names_a_file_of_the_servers() -> None:
    with running(size) as server, client_of(server) as client:
        answer = client.post(RUNS, json={"input": "/etc/passwd"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unsupported_flow")


class TestFailures:
    def test_a_failing_flow_whole_and_streamed(self, caplog: pytest.LogCaptureFixture) -> None:
        async def fails(text: str) -> AsyncIterator[str]:
            yield "so far "
            raise KeyError("a secret")

        with running(fails) as server, client_of(server) as client:
            whole = client.post(RUNS, json={"input": "a"})
            assert (whole.status_code, whole.json()["error"]["code"]) == (500, "flow_error")
            streamed = client.post(RUNS, json={"input": "a", "stream": True})
            *_, last = frames_of(streamed.text)
            again = client.get(f"{RUNS}/{streamed.headers['x-run-id']}").json()
            assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 2
        assert (last["status"], last["result"]) == ("error", None)
        assert last["error"]["kind"] == "KeyError"
        assert last["error"]["status"] == 500
        assert again["error"] == last["error"]
        assert "result" not in again
        assert "secret" not in whole.text + streamed.text + json.dumps(again)

    def test_the_deadline(self) -> None:
        source = Source()
        with running(source) as server, client_of(server) as client:
            answer = client.post(RUNS, json={"input": "a", "timeout": 0.05})
            assert (answer.status_code, answer.json()["error"]["code"]) == (504, "timeout")
            told = client.get(f"{RUNS}/{answer.headers['x-run-id']}").json()
            assert (told["status"], told["error"]["kind"], told["error"]["status"]) == (
                "timeout",
                "RunTimeout",
                504,
            )

    def test_a_prompt_that_is_too_long_is_the_input(self) -> None:
        async def long(text: str) -> str:
            raise ContextLengthExceeded("too long by far")

        with running(long) as server, client_of(server) as client:
            whole = client.post(RUNS, json={"input": "a"})
            again = client.get(f"{RUNS}/{whole.headers['x-run-id']}").json()["error"]
        assert (whole.status_code, whole.json()["error"]["param"]) == (400, "input")
        assert (again["status"], again["param"], again["kind"]) == (400, "input", "ContextLengthExceeded")


class TestVisibility:
    """Clients see the answer; what other steps say only where the service allows it."""

    async def answer(self, text: str) -> AsyncIterator[str]:
        emit(Usage(3, 1))
        yield text

    async def prepare(self, text: str) -> AsyncIterator[str]:
        emit(ReasoningDelta("a thought"))
        emit(Data({"note": "a note"}))
        yield f"the prompt: {text}"

    def test_the_answer_alone(self) -> None:
        from millrace import Pipeline

        with running(Pipeline(self.prepare, self.answer)) as server, client_of(server) as client:
            text = client.post(RUNS, json={"input": "a", "stream": True}).text
        kinds = [frame["kind"] for frame in frames_of(text)]
        assert kinds == ["run_started", "text_delta", "run_finished"]
        assert "thought" not in text
        assert "note" not in text

    def test_all(self) -> None:
        from millrace import Pipeline

        flow = Pipeline(self.prepare, self.answer)
        with running(flow, events="all") as server, client_of(server) as client:
            frames = frames_of(client.post(RUNS, json={"input": "a", "stream": True}).text)
            less = client.post(RUNS, json={"input": "a", "stream": True, "events": "output"})
        assert [frame["seq"] for frame in frames] == list(range(1, len(frames) + 1))
        assert {"step_started", "reasoning_delta", "data", "usage"} <= {frame["kind"] for frame in frames}
        assert [frame["kind"] for frame in frames_of(less.text)] == [
            "run_started",
            "text_delta",
            "run_finished",
        ]


class TestLooking:
    def test_the_latest_first(self, client: httpx.Client) -> None:
        ids = [client.post(RUNS, json={"input": str(i)}).json()["id"] for i in range(5)]
        listed = client.get(RUNS, params={"limit": 3}).json()
        assert (listed["object"], listed["has_more"]) == ("list", True)
        assert [run["id"] for run in listed["data"]] == ids[:1:-1]
        assert all("result" not in run for run in listed["data"])

    @pytest.mark.parametrize("limit", ["0", "101", "-1", "x", "", "9" * 50])
    def test_pages_have_a_size(self, client: httpx.Client, limit: str) -> None:
        assert client.get(RUNS, params={"limit": limit}).json()["error"]["param"] == "limit"

    @pytest.mark.parametrize("name", ["abc", UNKNOWN, "x" * 5000, "%00", "é"])
    def test_there_is_no_such_run(self, client: httpx.Client, name: str) -> None:
        for path in (name, f"{name}/events"):
            answer = client.get(f"{RUNS}/{path}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "run_not_found")
        assert client.post(f"{RUNS}/{name}/cancel").status_code == 404

    def test_methods(self, client: httpx.Client) -> None:
        one = f"/{UNKNOWN}"
        for method, path in (("PUT", ""), ("POST", one), ("DELETE", one), ("GET", f"{one}/cancel")):
            answer = client.request(method, f"{RUNS}{path}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")
            assert answer.headers["allow"]
        assert client.get(f"{RUNS}/{UNKNOWN}/elsewhere").status_code == 404


class TestStopping:
    def test_one_that_waits_in_line(self, run_id: str) -> None:
        source = Source()
        with running(source, limits=Limits(running=1, waiting=2)) as server, client_of(server) as client:
            with (
                ask(server, {"input": "first"}),
                ask(server, {"input": "second"}, {"x-run-id": run_id}) as second,
            ):
                told = eventually(lambda: self.told(client, "queued"))
                assert told["id"] == run_id
                answer = client.post(f"{RUNS}/{run_id}/cancel", json={"reason": "changed my mind"})
                assert answer.json()["status"] == "cancelled"
                assert answer.json()["reason"] == "changed my mind"
                assert second.reply().status == 503
                assert second.json()["error"]["code"] == "cancelled"
                assert server.service.admission.waiting == 0
            eventually(server.idle)
        assert source.started == 1

    def told(self, client: httpx.Client, status: str) -> dict[str, Any] | None:
        runs = client.get(RUNS).json()["data"]
        return next((run for run in runs if run["status"] == status), None)

    @pytest.mark.parametrize("body", [{"input": "a"}, {"input": "a", "stream": True}])
    def test_one_that_has_said_nothing_yet(self, body: dict[str, Any], run_id: str) -> None:
        source = Source()
        with (
            running(source) as server,
            client_of(server) as client,
            ask(server, body, {"x-run-id": run_id}) as asking,
        ):
            eventually(lambda: source.started == 1)
            assert client.post(f"{RUNS}/{run_id}/cancel").json()["status"] == "cancelled"
            assert source.cleaned == 1
            assert asking.reply().status == 503
            assert asking.json()["error"]["code"] == "cancelled"

    def test_in_mid_stream(self) -> None:
        source = Source()
        with running(source) as server, client_of(server) as client:
            with ask(server, {"input": "a", "stream": True}) as asking:
                source.allow(2)
                asking.events(3)
                run_id = asking.reply().headers["x-run-id"]
                told = client.post(f"{RUNS}/{run_id}/cancel").json()
                last = json.loads(asking.events()[-1])
            assert (told["status"], last["status"]) == ("cancelled", "cancelled")
            assert told["error"]["kind"] == last["error"]["kind"] == "RunCancelled"
            assert source.produced <= 4
            eventually(server.idle)

    def test_by_way_of_another_worker(self, tmp_path: Path) -> None:
        source, queue = Source(), f"file://{tmp_path}/runs"
        with running(source, queue=queue) as one, running(echo, queue=queue) as other:
            with client_of(other) as client, ask(one, {"input": "a", "stream": True}) as asking:
                source.allow(2)
                asking.events(3)
                run_id = asking.reply().headers["x-run-id"]
                told = client.post(f"{RUNS}/{run_id}/cancel", json={"reason": "enough"}).json()
                assert source.cleaned == 1
                assert told == client.get(f"{RUNS}/{run_id}").json()
            assert (told["status"], told["reason"]) == ("cancelled", "enough")
            assert told["error"]["kind"] == "RunCancelled"

    @pytest.mark.parametrize("where", ["here", "elsewhere"])
    def test_one_that_takes_its_time_to_end(
        self, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(kept_runs, "LONGEST_END", 0.3)
        queue, gate = f"file://{tmp_path}/runs", asyncio.Event()

        async def slow(text: str) -> AsyncIterator[str]:
            try:
                yield "begun"
                await asyncio.Event().wait()
            finally:
                await gate.wait()

        with (
            running(slow, queue=queue) as one,
            running(echo, queue=queue) as other,
            client_of(one if where == "here" else other) as client,
            ask(one, {"input": "a", "stream": True}) as asking,
        ):
            asking.events(2)
            run_id = asking.reply().headers["x-run-id"]
            told = client.post(f"{RUNS}/{run_id}/cancel").json()
            assert (told["status"], told["ended"]) == ("running", None)
            one.do(gate.set)
            monkeypatch.undo()
            assert client.post(f"{RUNS}/{run_id}/cancel").json()["status"] == "cancelled"

    def test_one_that_is_over_stays_as_it_is(self, client: httpx.Client) -> None:
        run = client.post(RUNS, json={"input": "a"}).json()
        assert client.post(f"{RUNS}/{run['id']}/cancel").json() == run

    @pytest.mark.parametrize("reason", ["", 7, "x" * 201, "a\nb"])
    def test_a_reason_is_a_short_text(self, client: httpx.Client, reason: object) -> None:
        run = client.post(RUNS, json={"input": "a"}).json()
        answer = client.post(f"{RUNS}/{run['id']}/cancel", json={"reason": reason})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "reason")

    def test_it_stands_behind_no_limit(self, run_id: str) -> None:
        source = Source()
        with (
            running(source, limits=Limits(running=1, waiting=0)) as server,
            client_of(server) as client,
            ask(server, {"input": "a"}, {"x-run-id": run_id}) as asking,
        ):
            eventually(lambda: source.started == 1)
            assert client.post(RUNS, json={"input": "b"}).status_code == 429
            assert client.get(f"{RUNS}/{run_id}").json()["status"] == "running"
            assert client.post(f"{RUNS}/{run_id}/cancel").json()["status"] == "cancelled"
            asking.reply()


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


class TestGoingOn:
    """on_disconnect="continue": the run of a client that leaves goes on, for a while."""

    def test_it_can_be_picked_up_again(self) -> None:
        source = Source(items=6)
        with running(source, on_disconnect="continue") as server, leaks(), client_of(server) as client:
            asking = ask(server, {"input": "a", "stream": True})
            source.allow(2)
            asking.events(3)
            run_id = asking.reply().headers["x-run-id"]
            asking.reset()
            (run,) = server.runs
            source.allow(2)
            eventually(lambda: source.produced == 4)
            assert not run.over
            assert server.service.admission.running == 1
            source.open()
            rest = frames_of(client.get(f"{RUNS}/{run_id}/events", headers={"last-event-id": "3"}).text)
            assert [frame.get("text") for frame in rest] == ["2 ", "3 ", "4 ", "5 ", None]
            assert rest[-1]["status"] == "done"
            eventually(server.idle)

    @pytest.mark.parametrize("stream", [True, False])
    def test_nobody_comes_back(self, stream: bool, run_id: str) -> None:
        source = Source()
        timings = Timings(resume=0.1)
        with (
            running(source, on_disconnect="continue", timings=timings) as server,
            client_of(server) as client,
        ):
            asking = ask(server, {"input": "a", "stream": stream}, {"x-run-id": run_id})
            eventually(lambda: source.started == 1)
            asking.close()
            eventually(lambda: source.cleaned == 1)
            told = client.get(f"{RUNS}/{run_id}").json()
            assert (told["status"], told["reason"]) == ("cancelled", "client left and did not come back")
            eventually(server.idle)
            tally = server.service.admission.tally
            assert (tally.started, tally.ended["cancelled"]) == (1, 1)

    def test_while_somebody_follows_it_goes_on(self, run_id: str) -> None:
        source = Source()
        with running(source, on_disconnect="continue", timings=Timings(resume=0.2)) as server:
            asking = ask(server, {"input": "a", "stream": True}, {"x-run-id": run_id})
            source.allow(1)
            asking.events(2)
            (run,) = server.runs
            with server.connect() as follower:
                follower.send("GET", f"{RUNS}/{run_id}/events")
                follower.events(2)
                asking.close()
                eventually(lambda: self.readers(server, run) == 1)
                until = asyncio.run(self.later(0.4))
                assert until
                assert not run.over
            eventually(lambda: run.over)
            assert run.reason == "client left and did not come back"

    def test_and_while_somebody_follows_it_by_way_of_another_worker(
        self, run_id: str, tmp_path: Path
    ) -> None:
        source = Source()
        shared: dict[str, Any] = {"queue": f"file://{tmp_path}/runs", "timings": Timings(resume=0.3)}
        with running(source, on_disconnect="continue", **shared) as one, running(echo, **shared) as other:
            asking = ask(one, {"input": "a", "stream": True}, {"x-run-id": run_id})
            source.allow(1)
            asking.events(2)
            (run,) = one.runs
            with other.connect() as follower:
                follower.send("GET", f"{RUNS}/{run_id}/events")
                follower.events(2)
                asking.close()
                asyncio.run(self.later(0.9))
                assert not run.over
            eventually(lambda: run.over)
            assert run.reason == "client left and did not come back"

    def readers(self, server: Running, run: Run) -> int:
        return server.service._desk.works[run.id]._readers

    async def later(self, seconds: float) -> bool:
        await asyncio.sleep(seconds)  # longer than an unattended run would go on
        return True

    @pytest.mark.parametrize("where", ["memory", "files"])
    def test_a_client_that_pauses_is_waited_for_until_it_leaves(self, where: str, tmp_path: Path) -> None:
        made = 0

        async def large(text: str) -> AsyncIterator[str]:
            nonlocal made
            for _ in range(2000):
                made += 1
                yield "x" * 4096 if where == "memory" else "x" * 16384

        queue = "memory://" if where == "memory" else f"file://{tmp_path}/runs"
        with running(large, queue=queue, on_disconnect="continue") as server:
            asking = ask(server, {"input": "a", "stream": True})
            asking.events(2)
            (run,) = server.runs
            paused_at = eventually(lambda: self.stands_still(lambda: made))
            assert paused_at < 2000
            assert not run.over
            asking.close()
            eventually(lambda: run.over)
            assert (run.status, made) == ("done", 2000)

    def stands_still(self, count: Callable[[], int]) -> int:
        """How many there were and still are a while later; 0 if they are not the same."""
        before = count()
        threading.Event().wait(0.3)
        return before if count() == before else 0

    def test_the_request_may_choose(self) -> None:
        source = Source()
        with running(source) as server:
            for choice, is_cut in (("continue", False), ("cancel", True)):
                asking = ask(server, {"input": "a", "stream": True, "on_disconnect": choice})
                source.allow(1)
                asking.events(2)
                (run,) = server.runs
                asking.close()
                if is_cut:
                    eventually(lambda run=run: run.over)  # type: ignore[misc]
                    assert run.reason == "client left"
                else:
                    eventually(lambda run=run: self.readers(server, run) == 0)  # type: ignore[misc]
                    assert not run.over
                    run.cancel("enough")
                    eventually(server.idle)

    def test_background_runs_need_nobody(self) -> None:
        source = Source(items=2)
        with running(source, timings=Timings(resume=0.05)) as server, client_of(server) as client:
            run_id = client.post(RUNS, json={"input": "a", "background": True}).json()["id"]
            eventually(lambda: source.started == 1)
            asyncio.run(self.later(0.2))
            source.open()
            eventually(lambda: client.get(f"{RUNS}/{run_id}").json()["status"] == "done")

    def test_other_processes_follow_it_on_disk(self, tmp_path: Path) -> None:
        queue = f"file://{tmp_path}/runs"
        source = Source(items=3)
        with running(source, queue=queue) as server, client_of(server) as client:
            run_id = client.post(RUNS, json={"input": "a", "background": True}).json()["id"]
            source.open()
            assert "".join(attach(run_id, queue).text()) == "0 1 2 "


class TestShutdown:
    def test_runs_in_the_background_have_their_time_and_then_their_cleanup(self) -> None:
        cleaned: list[str] = []

        async def slow(text: str) -> str:
            try:
                await asyncio.sleep(0.3 if text == "short" else 60)
                return text
            finally:
                await asyncio.sleep(0.05)
                cleaned.append(text)

        with running(slow, timings=Timings(drain=0.8)) as server, client_of(server) as client:
            for text in ("short", "long"):
                assert client.post(RUNS, json={"input": text, "background": True}).status_code == 202
            eventually(lambda: {run.question for run in server.runs} == {"short", "long"})
            runs = {run.question: run for run in server.runs}
            tally = server.service.admission.tally
        assert cleaned == ["short", "long"]
        assert (runs["short"].status, runs["long"].status) == ("done", "cancelled")
        assert runs["long"].reason == "the server is shutting down"
        assert (tally.started, tally.ended["completed"], tally.ended["cancelled"]) == (2, 1, 1)


class TestMessages:
    def test_a_flow_that_takes_messages(self) -> None:
        async def last(messages: list[Message]) -> str:
            return f"{len(messages)}: {messages[-1].content}"

        with running(last) as server, client_of(server) as client:
            answer = client.post(RUNS, json={"input": [{"role": "user", "content": "hello"}]})
            assert answer.json()["result"] == "1: hello"

    def test_plain_values(self) -> None:
        with running(echo) as server, client_of(server) as client:
            assert client.post(RUNS, json={"input": "é\u2028\n"}).json()["result"] == "é\u2028\n"
