"""The figures of several workers, told as those of one service."""

from __future__ import annotations

from typing import Any

from millrace import Limits
from millrace.launchers.api.figures import ENGINE_FIGURES
from millrace.launchers.api.metrics import Metrics
from millrace.launchers.api.siblings import added, remains, together
from millrace.launchers.services import Service
from tests.launchers.support import echo

ENGINE: dict[str, Any] = {**dict.fromkeys(ENGINE_FIGURES, 1), "module": "model", "state": "ready"}
ENGINE |= {"stops": {"length": 2}, "time_to_first_token": None}


def figures(started: int, **ended: int) -> dict[str, Any]:
    """Of one worker."""
    found = Service(echo, limits=Limits(running=4, waiting=16)).own_figures()
    found["runs"] |= {"started": started, **ended}
    found["admission"]["running"] = 1
    return {**found, "status": "ready", "uptime": 3.0, "engines": [ENGINE]}


def test_what_counts_is_summed() -> None:
    found = together(2, {1: figures(5, completed=4), 2: {**figures(3, failed=3), "status": "loading"}}, {})
    assert found["runs"] == {**figures(8)["runs"], "completed": 4, "failed": 3}
    limits = {"running": 2, "running_limit": 8, "waiting": 0, "waiting_limit": 32}
    assert limits.items() <= found["admission"].items()
    assert (found["status"], found["model"], found["uptime"]) == ("loading", "echo", 3.0)
    assert found["workers"] == {"all": 2, "ready": 1}
    assert [(engine["worker"], engine["running"]) for engine in found["engines"]] == [(1, 1), (2, 1)]


def test_what_a_worker_that_is_gone_has_begun_has_failed() -> None:
    left = remains(figures(9, completed=4, cancelled=1, failed=1))
    assert left["runs"] == {**figures(9)["runs"], "completed": 4, "cancelled": 1, "failed": 4}
    assert left.keys() == {"runs", "times", "keys"}
    found = together(1, {1: figures(1)}, added(left, left))
    assert (found["runs"]["started"], found["runs"]["failed"], found["admission"]["running"]) == (19, 8, 1)


def test_adding() -> None:
    assert added({"a": 1, "b": [1, 2.5], "c": "x"}, {"a": 2, "b": [3, 4], "d": 5}) == {
        "a": 3,
        "b": [4, 6.5],
        "c": "x",
        "d": 5,
    }
    assert added(None, 3) == added(3, None) == 3


def test_metrics_name_the_worker() -> None:
    workers = {number: figures(1) for number in (1, 2)}
    text = Metrics().text(together(1, workers, {})).decode()
    assert 'millrace_engine_running{module="model",worker="2"} 1.0' in text
    assert 'millrace_engine_stops_total{cause="length",module="model",worker="1"} 2.0' in text
    assert "millrace_workers_all 2.0" in text
    assert "millrace_runs_started_total 2.0" in text
    alone = Metrics().text(figures(1)).decode()
    assert 'millrace_engine_running{module="model"} 1.0' in alone
    assert "millrace_workers" not in alone
