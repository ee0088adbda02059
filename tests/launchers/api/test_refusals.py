"""Whose words a client reads of an error: those of the service and its engines, and nobody else's."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path

import pytest

from millrace import Limits
from millrace.streaming import MillraceError, Overloaded, RunCancelled, RunTimeout, SessionBusy
from tests.launchers.support import PATH, RESPONSES, Source, asked, running
from tests.modules.faraway import far
from tests.support.leaks import eventually

RUNS = "/v1/runs"


@pytest.mark.parametrize("where", ["memory", "files"])
def test_what_a_server_further_away_says_is_for_the_log(where: str, tmp_path: Path) -> None:
    source = Source()
    queue = "memory://" if where == "memory" else f"file://{tmp_path}/runs"
    with far(source, limits=Limits(running=1, waiting=0)) as inner, inner.server.ask() as holder:
        eventually(lambda: source.started == 1)
        with running(inner.flow(name="front"), queue=queue) as server:
            for path in (PATH, RESPONSES, RUNS):
                status, headers, answer = server.post(asked(path), path=path)
                assert (status, answer["error"]["code"]) == (429, "overloaded")
                assert answer["error"]["message"] == "too many requests at once; try again later"
                assert int(headers["retry-after"]) >= 1
                told = server.get(f"{RUNS}/{headers['x-run-id']}")[1]
                assert told["error"]["message"] == answer["error"]["message"]
                assert str(inner.server.port) not in json.dumps(told)
        holder.reset()


@pytest.mark.parametrize("where", ["memory", "files"])
def test_what_the_service_says_itself_is_told(where: str, tmp_path: Path) -> None:
    queue = "memory://" if where == "memory" else f"file://{tmp_path}/runs"
    limits = Limits(running=1, waiting=1, queue_timeout=0.05)
    with running(Source(), queue=queue, limits=limits) as server, server.ask() as holder:
        eventually(lambda: server.service.admission.running == 1)
        status, headers, answer = server.post(asked(RUNS), path=RUNS)
        assert (status, answer["error"]["code"]) == (503, "queue_timeout")
        assert answer["error"]["message"] == "no place became free within 0.05 s; try again later"
        told = server.get(f"{RUNS}/{headers['x-run-id']}")[1]
        assert told["error"]["message"] == answer["error"]["message"]
        holder.reset()


@pytest.mark.parametrize("where", ["memory", "files"])
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Overloaded("secret"), 429),
        (RunCancelled("secret"), 503),
        (RunTimeout("secret"), 504),
        (SessionBusy("secret"), 409),
    ],
    ids=lambda given: type(given).__name__,
)
def test_what_a_step_says_in_our_words_is_for_the_log(
    error: MillraceError, status: int, where: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(text: str) -> str:
        raise error

    queue = "memory://" if where == "memory" else f"file://{tmp_path}/runs"
    with running(fails, queue=queue) as server, caplog.at_level(logging.WARNING, "millrace.service"):
        for path in (PATH, RESPONSES, RUNS):
            got, headers, answer = server.post(asked(path), path=path)
            run_id = headers["x-run-id"]
            assert got == status
            told = [answer, server.get(f"{RUNS}/{run_id}")[1], server.get(f"{RESPONSES}/resp_{run_id}")[1]]
            assert "secret" not in json.dumps(told)
            (line,) = [record.getMessage() for record in caplog.records if run_id in record.getMessage()]
            assert f"ended with {type(error).__name__}: " in line
            assert "secret" in line
            assert "in fails" in line


@pytest.mark.parametrize(
    ("said", "told"), [(math.inf, "1"), (math.nan, "1"), (-5.0, "0"), (0.2, "1"), (90_000.5, "90001")]
)
def test_a_step_may_ask_for_any_wait(said: float, told: str) -> None:
    def fails(text: str) -> str:
        raise Overloaded("later", retry_after=said)

    with running(fails) as server:
        for path in (PATH, RESPONSES, RUNS):
            status, headers, _ = server.post(asked(path), path=path)
            assert (status, headers["retry-after"]) == (429, told)
