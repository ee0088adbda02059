"""/v1/runs: runs are started, and answered whole or as a stream of events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from millrace import Message, Module, Pipeline, Warp
from millrace.streaming import (
    ContextLengthExceeded,
    Data,
    ReasoningDelta,
    Usage,
    current_run,
    current_session,
    emit,
    status,
)
from millrace.streaming.registries import MemoryQueue
from tests.launchers.api.run_clients import RUNS, UNKNOWN, ask, client_of, frames_of
from tests.launchers.support import Running, Source, echo, running, words
from tests.support.leaks import eventually


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
        with running(Pipeline(self.prepare, self.answer)) as server, client_of(server) as client:
            text = client.post(RUNS, json={"input": "a", "stream": True}).text
        kinds = [frame["kind"] for frame in frames_of(text)]
        assert kinds == ["run_started", "text_delta", "run_finished"]
        assert "thought" not in text
        assert "note" not in text

    def test_all(self) -> None:
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
