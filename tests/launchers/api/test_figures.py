"""What a service says of itself in numbers: every run counted once, engines by module, nothing that is private."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from millrace import Limits, LocalModel, Pipeline
from millrace.streaming import Overloaded
from tests.launchers.support import Running, Source, echo, question, running
from tests.support.gated import Gate, gated_engine
from tests.support.leaks import eventually

SECRET = "sk-very-secret"


async def behave(text: str) -> AsyncIterator[str]:
    if text == "fail":
        raise ValueError("a private text")
    if text == "full":
        raise Overloaded("the engine is full", 1.0)
    if text == "wait":
        yield "so "
        await asyncio.Event().wait()
    yield text


def status_of(server: Running) -> dict[str, Any]:
    code, told = server.get("/status")
    assert code == 200
    found: dict[str, Any] = told
    return found


def runs_of(server: Running) -> dict[str, int]:
    """The runs that there were, without those that there were none of."""
    return {name: count for name, count in status_of(server)["runs"].items() if count}


class TestRuns:
    def test_each_is_counted_once_and_by_its_end(self) -> None:
        with running(behave) as server:
            assert runs_of(server) == {}
            for stream in (True, False):
                for text in ("done", "fail", "full"):
                    with server.ask(text, stream=stream) as asking:
                        asking.read()
                with server.ask("wait", stream=stream, timeout=0.05) as asking:
                    asking.read()
            with server.ask("wait") as asking:
                asking.events(1)
                assert runs_of(server)["started"] == 9
            eventually(server.idle)
            eventually(lambda: "cancelled" in runs_of(server))
            assert runs_of(server) == {
                "started": 9,
                "completed": 2,
                "failed": 2,
                "rejected": 2,
                "timed_out": 2,
                "cancelled": 1,
            }

    def test_bad_requests_are_no_runs(self) -> None:
        with running(echo) as server:
            assert server.post({"messages": []})[0] == 400
            assert server.post(b"no JSON")[0] == 400
            assert server.post(question("hello", model="other"))[0] == 404
            assert runs_of(server) == {}

    def test_the_line_and_who_is_refused(self) -> None:
        source = Source()
        with running(source, limits=Limits(running=1, waiting=1, queue_timeout=60)) as server:
            first = server.ask()
            eventually(lambda: source.started == 1)
            second = server.ask()
            eventually(lambda: server.service.admission.waiting == 1)
            assert server.post(question())[0] == 429
            told = status_of(server)  # at once, though there is no place
            assert told["admission"] == {
                "running": 1,
                "running_limit": 1,
                "waiting": 1,
                "waiting_limit": 1,
                "followers": 0,
            }
            assert runs_of(server) == {"started": 3, "rejected": 1}
            second.close()
            eventually(lambda: runs_of(server) == {"started": 3, "rejected": 1, "cancelled": 1})
            first.close()
            eventually(lambda: runs_of(server) == {"started": 3, "rejected": 1, "cancelled": 2})
            assert server.idle()

    def test_waiting_for_too_long(self) -> None:
        source = Source()
        with running(source, limits=Limits(running=1, waiting=1, queue_timeout=0.05)) as server:
            with server.ask() as first:
                eventually(lambda: source.started == 1)
                assert server.post(question())[0] == 503
                assert runs_of(server) == {"started": 2, "rejected": 1}
                source.open()
                first.read()
            eventually(lambda: runs_of(server) == {"started": 2, "rejected": 1, "completed": 1})


class TestLately:
    def test_nothing_yet(self) -> None:
        with running(behave) as server:
            assert status_of(server)["lately"] == {
                "seconds": 300,
                "ended": 0,
                "interrupted": None,
                "first_output": {"p50": None, "p95": None},
            }

    def test_how_soon_answers_begin_and_how_many_are_left(self) -> None:
        with running(behave) as server:
            for text in ("done", "done", "fail", "full"):
                server.post(question(text))
            with server.ask("wait") as asking:
                asking.events(2)
            eventually(lambda: runs_of(server).get("cancelled"))
            lately = status_of(server)["lately"]
        assert lately["ended"] == 5
        assert lately["interrupted"] == 0.25  # one of four: the one without a place is not among them
        assert 0 < lately["first_output"]["p50"] <= lately["first_output"]["p95"] < 5

    def test_what_only_prometheus_wants_is_not_there(self) -> None:
        with running(behave) as server:
            assert not {"times", "keys"} & status_of(server).keys()


class TestEngines:
    def test_an_engine_at_work(self) -> None:
        gate = Gate()
        engine = gated_engine(gate, limits=Limits(running=2, waiting=3))
        with running(LocalModel(engine, name="miller")) as server:
            with server.ask("the water", stream=False, max_tokens=3) as asking:
                gate.wait_reached()
                (told,) = status_of(server)["engines"]
                assert (told["module"], told["state"], told["time_to_first_token"]) == (
                    "miller",
                    "ready",
                    None,
                )
                assert (told["running"], told["running_limit"], told["waiting_limit"]) == (1, 2, 3)
                assert 0 < told["blocks_used"] < told["blocks_total"]
                gate.open_all()
                asking.read()
            eventually(lambda: status_of(server)["engines"][0]["stops"] == {"length": 1})
            (told,) = status_of(server)["engines"]
            assert (told["running"], told["blocks_used"], told["tokens_produced"]) == (0, 0, 3)
            assert told["time_to_first_token"] > 0
            assert not {"model", "error"} & told.keys()
        engine.close()

    def test_models_on_one_engine_and_models_of_one_name(self) -> None:
        shared, other = gated_engine(Gate()), gated_engine(Gate())
        flow = Pipeline(
            LocalModel(shared, name="model"),
            LocalModel(shared, name="second"),
            LocalModel(other, name="model"),
        )
        with running(flow) as server:
            assert [told["module"] for told in status_of(server)["engines"]] == ["model", "model 2"]
        shared.close()
        other.close()

    def test_a_flow_without_models(self) -> None:
        with running(echo) as server:
            told = status_of(server)
        assert told["engines"] == []
        assert (told["status"], told["model"]) == ("ready", "echo")
        assert told["uptime"] >= 0


class TestKeys:
    @pytest.mark.parametrize("path", ["/status", "/metrics"])
    def test_they_need_one(self, path: str) -> None:
        with running(echo, api_keys=[SECRET]) as server:
            assert server.get(path)[0] == 401
            with server.connect() as connection:
                connection.send("GET", path, headers={"Authorization": f"Bearer {SECRET}"})
                assert connection.reply().status == 200
                assert SECRET.encode() not in connection.read()
            assert server.get("/health/ready")[0] == 200

    def test_nothing_private(self) -> None:
        with running(behave) as server:
            for text in ("fail", "a question of mine"):
                server.post(question(text))
            told = json.dumps(status_of(server))
            with server.connect() as connection:
                connection.send("GET", "/metrics")
                connection.reply()
                told += connection.read().decode()
        assert "private" not in told
        assert "question" not in told
