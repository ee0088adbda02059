"""From the socket to the engine: leaving, limits and errors, with a real model whose every forward is a step."""

from __future__ import annotations

import json
import random
import select
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from millrace import Limits, LocalModel
from millrace.launchers.demo import demo_flow
from millrace.modules.demo import weights_path
from millrace.modules.local import Engine
from millrace.streaming import status
from tests.launchers.support import Running, question, running
from tests.support.gated import Gate, gated_engine
from tests.support.leaks import eventually, leaks
from tests.support.servers import Connection

LEAVE: dict[str, Callable[[Connection], None]] = {"FIN": Connection.close, "RST": Connection.reset}


@contextmanager
def gated(limits: Limits | None = None) -> Iterator[tuple[Gate, Engine, Running]]:
    gate = Gate()
    engine = gated_engine(gate, limits=limits)
    with running(LocalModel(engine)) as server:
        yield gate, engine, server


def leave_and_count(
    leave: Callable[[Connection], None], connection: Connection, gate: Gate, engine: Engine, server: Running
) -> int:
    """The tokens that the engine still makes after the cancel; then nothing may be left of the request."""
    (run,) = server.runs
    made = engine.status().tokens_produced
    leave(connection)
    eventually(lambda: run.cut == "client left")
    gate.open_all()
    eventually(lambda: status().runs == 0)
    eventually(lambda: (engine.status().running, engine.status().waiting) == (0, 0))
    eventually(lambda: engine.status().blocks_used == 0)
    eventually(server.idle)
    return engine.status().tokens_produced - made


@pytest.mark.slow
@pytest.mark.parametrize("leave", LEAVE.values(), ids=LEAVE)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
class TestLeaving:
    def test_while_it_decodes(self, stream: bool, leave: Callable[[Connection], None]) -> None:
        with gated() as (gate, engine, server):
            connection = server.ask("the water", stream=stream, max_tokens=200)
            for _ in range(5):
                gate.wait_reached()
                gate.open(1)
            gate.wait_reached()
            if stream:
                assert json.loads(connection.events(2)[1])["choices"][0]["delta"]["content"]
            assert leave_and_count(leave, connection, gate, engine, server) <= 1
            status_code, _, answer = server.post(question("the mill", max_tokens=3, temperature=0))
            assert status_code == 200
            assert answer["usage"]["completion_tokens"] == 3
            assert answer["choices"][0]["finish_reason"] == "length"

    def test_in_prefill(self, stream: bool, leave: Callable[[Connection], None]) -> None:
        with gated() as (gate, engine, server):
            connection = server.ask("the water", stream=stream)
            gate.wait_reached()
            assert leave_and_count(leave, connection, gate, engine, server) <= 1

    def test_in_the_engines_own_line(self, stream: bool, leave: Callable[[Connection], None]) -> None:
        with gated(Limits(running=1, waiting=1)) as (gate, engine, server):
            first = server.ask("the water", stream=False, max_tokens=5, temperature=0)
            gate.wait_reached()
            (running_run,) = server.runs
            second = server.ask("the mill", stream=stream)
            eventually(lambda: engine.status().waiting == 1)
            (waiting_run,) = eventually(lambda: server.runs - {running_run})
            leave(second)
            eventually(lambda: waiting_run.over)
            assert engine.status().waiting == 0
            gate.open_all()
            assert first.json()["usage"]["completion_tokens"] == 5
            first.close()
            assert engine.status().tokens_produced == 5


@pytest.mark.slow
class TestRefusals:
    def test_a_full_engine(self) -> None:
        with gated(Limits(running=1, waiting=0)) as (gate, _, server):
            first = server.ask("the water", stream=False, max_tokens=2)
            gate.wait_reached()
            for stream in (True, False):
                code, headers, answer = server.post(question("the mill", stream=stream))
                assert (code, answer["error"]["code"]) == (429, "overloaded")
                assert "Limits(running=1, waiting=0)" in answer["error"]["message"]
                assert int(headers["retry-after"]) >= 1
            gate.open_all()
            assert first.reply().status == 200
            first.close()

    def test_a_question_that_is_too_long(self) -> None:
        with gated() as (gate, engine, server):
            code, _, answer = server.post(question("water " * 600))
            assert (code, answer["error"]["code"]) == (400, "context_length_exceeded")
            code, _, answer = server.post(question("water", max_tokens=100_000))
            assert (code, answer["error"]["code"]) == (400, "context_length_exceeded")
            assert "100000" in answer["error"]["message"]
            assert engine.status().steps == 0
            assert gate.forwards.entered == 0

    def test_a_dead_engine_makes_the_service_unready(self) -> None:
        with gated() as (gate, engine, server):
            assert server.get("/health/ready")[0] == 200
            with server.ask("the water") as connection:
                gate.wait_reached()
                gate.fail_next(SystemExit("the thread ends"))
                gate.open(1)
                assert connection.reply().status == 500
            eventually(lambda: engine.status().state == "failed")
            code, told = server.get("/health/ready")
            assert (code, told["status"]) == (503, "failed")
            assert server.get("/health/live")[0] == 200


@pytest.mark.slow
class TestDemo:
    QUESTION = "What is a Warp?"

    def test_the_trained_answer_comes_in_pieces(self) -> None:
        with running(demo_flow(LocalModel.demo())) as server:
            whole = server.post(question(self.QUESTION))[2]
            text = whole["choices"][0]["message"]["content"]
            assert "applies one step to every item" in text
            with server.ask(self.QUESTION) as connection:
                *chunks, done = connection.events()
            deltas = [json.loads(chunk)["choices"][0]["delta"].get("content") or "" for chunk in chunks]
            assert done == "[DONE]"
            assert "".join(deltas) == text
            assert len([delta for delta in deltas if delta]) > 5
            assert whole["usage"]["completion_tokens"] > 5

    def test_what_it_cannot_do_is_told_without_its_place(self) -> None:
        asked = {"max_tokens=1000000": {"max_tokens": 10**6}, "999999999": {"logit_bias": {"999999999": 1}}}
        with running(LocalModel.demo()) as server:
            for told, settings in asked.items():
                code, _, answer = server.post(question(self.QUESTION, **settings))
                assert (code, told in answer["error"]["message"]) == (400, True)
                assert str(weights_path().parent) not in answer["error"]["message"]

    def test_leaving_stops_it(self) -> None:
        model = LocalModel.demo()
        long = {"max_tokens": 150, "logit_bias": {str(self.end_token()): -100}}
        with running(model) as server:
            assert server.post(question(self.QUESTION, **long))[2]["usage"]["completion_tokens"] == 150
            connection = server.ask(self.QUESTION, **long)
            connection.events(2)
            connection.reset()
            eventually(server.idle)
            eventually(lambda: (model.engine.status().running, model.engine.status().blocks_used) == (0, 0))
            assert model.engine.status().tokens_produced < 2 * 150

    @pytest.mark.parametrize("seed", [1, 2])
    def test_many_that_leave_at_random_leave_nothing(self, seed: int) -> None:
        """Streams and whole answers, queued, in prefill, while decoding, refused and finished, by FIN and RST."""
        model = LocalModel.demo()
        long = {"max_tokens": 40, "logit_bias": {str(self.end_token()): -100}}
        with running(model, on_uvloop=True, limits=Limits(running=4, waiting=6)) as server:

            def leave_often(chance: random.Random) -> None:
                for _ in range(25):
                    stream = chance.random() < 0.6
                    connection = server.ask(self.QUESTION, stream=stream, **long)
                    if stream and chance.random() < 0.5 and connection.reply().status == 200:
                        connection.events(chance.randint(1, 45))
                    else:
                        select.select([connection.socket], [], [], chance.random() * 0.1)
                    chance.choice(list(LEAVE.values()))(connection)

            def burst() -> None:
                with ThreadPoolExecutor(8) as pool:
                    list(pool.map(leave_often, (random.Random(f"{seed} {i}") for i in range(8))))
                eventually(server.idle)

            burst()
            with leaks():
                burst()
            eventually(lambda: model.engine.status().blocks_used == 0)  # within a step of the last stop
            engine = model.engine.status()
            assert (engine.running, engine.waiting) == (0, 0)
            assert engine.stops["cancelled"] > 20
            assert server.post(question(self.QUESTION))[0] == 200

    def end_token(self) -> int:
        config = json.loads((Path(weights_path()) / "generation_config.json").read_text())
        token: int = config["eos_token_id"]
        return token
