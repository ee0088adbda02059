"""The figures of several workers, told as those of one service."""

from __future__ import annotations

from typing import Any

from millrace.launchers.api.metrics import Metrics
from millrace.launchers.api.siblings import added, remains, together

ENGINE: dict[str, Any] = {"module": "model", "state": "ready", "running": 1, "stops": {"length": 2}}


def figures(started: int, **ended: int) -> dict[str, Any]:
    """Of one worker."""
    runs = {"started": started, "completed": 0, "cancelled": 0, "timed_out": 0, "failed": 0, "rejected": 0}
    return {
        "status": "ready",
        "model": "demo",
        "uptime": 3.0,
        "runs": {**runs, **ended},
        "admission": {"running": 1, "running_limit": 4, "waiting": 0, "waiting_limit": 16},
        "engines": [ENGINE],
    }


def test_what_counts_is_summed() -> None:
    found = together(2, {1: figures(5, completed=4), 2: {**figures(3, failed=3), "status": "loading"}}, {})
    assert found["runs"] == {**figures(8)["runs"], "completed": 4, "failed": 3}
    assert found["admission"] == {"running": 2, "running_limit": 8, "waiting": 0, "waiting_limit": 32}
    assert (found["status"], found["model"], found["uptime"]) == ("loading", "demo", 3.0)
    assert found["workers"] == {"all": 2, "ready": 1}
    assert [(engine["worker"], engine["running"]) for engine in found["engines"]] == [(1, 1), (2, 1)]


def test_what_a_worker_that_is_gone_has_begun_has_failed() -> None:
    left = remains(figures(9, completed=4, cancelled=1, failed=1))
    assert left == {"runs": {**figures(9)["runs"], "completed": 4, "cancelled": 1, "failed": 4}}
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
    full = {
        **ENGINE,
        **dict.fromkeys(("running_limit", "waiting", "waiting_limit", "blocks_used", "blocks_total"), 1),
        **dict.fromkeys(("tokens_per_second", "tokens_read", "tokens_reused", "tokens_produced"), 1),
        **dict.fromkeys(("preemptions", "steps"), 1),
        "time_to_first_token": None,
    }
    workers = {number: {**figures(1), "engines": [full]} for number in (1, 2)}
    text = Metrics().text(together(1, workers, {})).decode()
    assert 'millrace_engine_running{module="model",worker="2"} 1.0' in text
    assert 'millrace_engine_stops_total{cause="length",module="model",worker="1"} 2.0' in text
    assert "millrace_workers_all 2.0" in text
    assert "millrace_runs_started_total 2.0" in text
    alone = Metrics().text({**figures(1), "engines": [full]}).decode()
    assert 'millrace_engine_running{module="model"} 1.0' in alone
    assert "millrace_workers" not in alone
