"""What `millrace top` draws: within 80 columns, and nothing that steers the terminal."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from millrace.launchers.run_tables import shown
from millrace.launchers.service_views import ServiceView, bar, sparkline

ENGINE: dict[str, Any] = {
    "module": "miller",
    "state": "ready",
    "stage": "ready",
    "progress": 1.0,
    "running": 3,
    "running_limit": 16,
    "waiting": 0,
    "waiting_limit": 64,
    "blocks_used": 500,
    "blocks_total": 1000,
    "tokens_per_second": 1234.5,
    "time_to_first_token": 0.25,
    "steps": 2278,
    "tokens_read": 300,
    "tokens_reused": 100,
    "tokens_produced": 6738,
    "preemptions": 2,
    "stops": {"stop": 5, "cancelled": 7},
}
FIGURES: dict[str, Any] = {
    "status": "ready",
    "model": "demo",
    "uptime": 75.0,
    "runs": {"started": 14, "completed": 8, "cancelled": 3, "timed_out": 1, "failed": 0, "rejected": 2},
    "admission": {"running": 4, "running_limit": 4, "waiting": 2, "waiting_limit": 16, "followers": 3},
    "lately": {
        "seconds": 300.0,
        "ended": 10,
        "interrupted": 0.25,
        "first_output": {"p50": 0.12, "p95": 1.5},
    },
    "engines": [ENGINE],
}


def drawn(view: ServiceView, width: int = 80, **options: Any) -> list[str]:
    file = io.TextIOWrapper(io.BytesIO(), encoding=options.pop("encoding", "utf-8"))
    Console(file=file, width=width, **options).print(view)
    file.seek(0)
    return file.read().splitlines()


def view_of(**changes: Any) -> ServiceView:
    view = ServiceView("http://127.0.0.1:8000")
    view.take({**FIGURES, **changes})
    return view


def row(lines: list[str], name: str, nth: int = 0) -> str:
    """What stands behind a name, without the frame."""
    return [line.strip("│ ") for line in lines if line.strip("│ ").startswith(name)][nth]


def test_all_of_it() -> None:
    lines = drawn(view_of())
    assert lines[0].split() == ["demo", "http://127.0.0.1:8000", "ready", "up", "1", "m", "15", "s"]
    assert "14 started" in lines[1]
    assert row(lines, "running").endswith("█" * 24 + "  4 / 4")
    for words in ("8 completed", "3 cancelled", "1 timed out", "0 failed", "2 rejected"):
        assert words in row(lines, "ended")
    assert row(lines, "following").split() == ["following", "3"]
    assert row(lines, "first piece").endswith("half within 120 ms, 95% within 1.5 s")
    assert row(lines, "interrupted").endswith("25% of the runs in the last 5 min")
    assert row(lines, "running", 1).endswith("3 / 16")
    assert row(lines, "blocks").endswith("█" * 12 + "░" * 12 + "  500 / 1,000")
    assert "1,234.5" in row(lines, "tokens/s")
    assert row(lines, "first token").endswith("after 250 ms, mean of the last 64")
    assert row(lines, "prefix hits").endswith("100 of 400 prompt tokens (25%)")
    assert row(lines, "so far").endswith("6,738 tokens, 2,278 steps, 2 preemptions")
    assert row(lines, "stops").endswith("5 stop  7 cancelled")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_it_fits(width: int) -> None:
    stops = {"stop": 10**9, "length": 10**9, "cancelled": 10**8, "error": 10**6, "stop_condition": 10**7}
    busy = {
        **ENGINE,
        "module": "a model with a name that goes on " * 4,
        "stops": stops,
        "tokens_read": 10**12,
    }
    runs = dict.fromkeys(FIGURES["runs"], 10**8)
    lines = drawn(view_of(engines=[busy], runs=runs), width)
    assert max(map(len, lines)) <= width
    assert "1,000,000,000 length" in "\n".join(lines)


def test_where_nothing_ended_lately_and_where_all_was_quick() -> None:
    lately = FIGURES["lately"]
    nothing = {**lately, "interrupted": None, "first_output": {"p50": None, "p95": None}}
    lines = drawn(view_of(lately=nothing))
    assert row(lines, "first piece").endswith("none in the last 5 min")
    assert row(lines, "interrupted").endswith("none in the last 5 min")
    lines = drawn(view_of(lately={**lately, "first_output": {"p50": 0.0002, "p95": 0.0004}}))
    assert row(lines, "first piece").endswith("half within 1 ms, 95% within 1 ms")


def test_speeds_become_a_line() -> None:
    view = view_of()
    for speed in (0.0, 600.0, 1234.5):
        view.take({**FIGURES, "engines": [{**ENGINE, "tokens_per_second": speed}]})
    assert row(drawn(view), "tokens/s").endswith("█▁▄█")


def test_terminals_without_such_signs() -> None:
    lines = drawn(view_of(), encoding="ascii")
    assert row([line.strip("|") for line in lines], "blocks").endswith("#" * 12 + "." * 12 + "  500 / 1,000")


def test_a_remote_model_and_a_cold_one() -> None:
    quiet = {**ENGINE, "blocks_total": 0, "running_limit": 0, "time_to_first_token": None, "stops": {}}
    lines = drawn(view_of(engines=[{**quiet, "state": "cold"}]))
    assert not any("blocks" in line for line in lines)
    assert row(lines, "running", 1).split() == ["running", "3"]
    assert row(lines, "first token").endswith("none yet")
    assert row(lines, "stops").endswith("none yet")


def test_while_it_loads() -> None:
    lines = drawn(view_of(status="loading", stage="weights", progress=0.4))
    assert "loading weights 40%" in lines[0]


def test_a_service_that_is_gone() -> None:
    view = view_of()
    view.miss("nothing answers there")
    lines = drawn(view)
    assert "gone" in lines[0]
    assert "ready" not in lines[0]
    assert lines[1] == "nothing answers there"
    assert "14 started" in lines[2]
    view.take(FIGURES)
    assert "ready" in drawn(view)[0]


def test_names_steer_no_terminal() -> None:
    lines = drawn(view_of(model="[bold]a\x1b[2J", engines=[{**ENGINE, "module": "b\x1b]0;x\x07"}]))
    assert "\x1b" not in "".join(lines)
    assert "[bold]a?[2J" in lines[0]
    assert shown("a\nb") == "a?b"


@given(st.integers(0, 10**6), st.integers(0, 10**6))
@settings(deadline=None)
def test_bars_are_as_long_as_they_should(used: int, limit: int) -> None:
    signs, _, figures = bar(used, limit).plain.rpartition("  ")
    if not limit:
        assert (signs, figures) == ("", f"{used:,}")
        return
    assert len(signs) == 24
    assert ("█" in signs) == (used > 0)
    assert ("░" in signs) or used / limit > 0.97


@given(st.lists(st.floats(0, 10**6), max_size=40))
@settings(deadline=None)
def test_sparklines_have_a_sign_for_each(values: list[float]) -> None:
    line = sparkline(values)
    assert len(line) == len(values)
    if max(values, default=0) > 0:
        assert line[values.index(max(values))] == "█"


def test_several_processes() -> None:
    engines = [{**ENGINE, "worker": 1}, {**ENGINE, "worker": 2, "tokens_per_second": 10.0}]
    lines = drawn(view_of(workers={"all": 3, "ready": 2}, engines=engines))
    assert lines[0].endswith("up 1 m 15 s  2 of 3 workers ready")
    assert [line for line in lines if "miller, worker 2  ready" in line]
    assert "1,234.5" in row(lines, "tokens/s")
    assert "10.0" in row(lines, "tokens/s", 1)
