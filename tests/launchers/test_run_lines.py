"""Lines about runs: what a service prints, for people and for programs, and that nothing private is in them."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from millrace.launchers.run_lines import JsonLines, TextLines
from millrace.launchers.run_records import RunRecord
from tests.launchers.support import PATH, question
from tests.support.leaks import eventually
from tests.support.servers import Launched, millrace_process

APP = """
async def shout(text: str):
    if text == "fail":
        raise ValueError("a private text")
    yield text.upper()
    yield "!"
"""
FIELDS = set(RunRecord._fields)
RECORD = RunRecord("0" * 32, "alice", "/v1/runs", "completed", "stop", 12, 1340, 0.25, 0.3000004, 2.5, 1341)


def line(formatter: logging.Formatter, message: object) -> str:
    return formatter.format(logging.LogRecord("millrace.runs", logging.INFO, "", 0, message, None, None))


def test_the_message_itself_is_json() -> None:
    told = json.loads(str(RECORD))
    assert told == {
        "id": "0" * 32,
        "key": "alice",
        "endpoint": "/v1/runs",
        "outcome": "completed",
        "reason": "stop",
        "prompt_tokens": 12,
        "completion_tokens": 1340,
        "in_line": 0.25,
        "first_output": 0.3,
        "took": 2.5,
        "pieces": 1341,
    }
    assert "\n" not in str(RECORD)


def test_for_programs() -> None:
    told = json.loads(line(JsonLines(), RECORD))
    assert told.pop("time") > 1e9
    assert told == json.loads(str(RECORD))


def test_for_people() -> None:
    told = line(TextLines(), RECORD).split("  ")
    assert told[1:] == [
        "completed (stop)",
        "/v1/runs",
        "alice",
        "2.5 s",
        "250 ms in line",
        "first piece after 300 ms",
        "1,341 pieces",
        "12 + 1,340 tokens",
        "0" * 32,
    ]


def test_what_there_is_not_is_left_out() -> None:
    refused = RunRecord(None, None, "/v1/runs", "timed_out", "deadline passed")
    assert line(TextLines(), refused).split("  ")[1:] == ["timed out (deadline passed)", "/v1/runs"]


def test_reasons_steer_no_terminal() -> None:
    for formatter in (TextLines(), JsonLines()):
        told = line(formatter, RECORD._replace(reason="\x1b[2J\nfake"))
        assert told.isprintable()
        assert len(told.splitlines()) == 1


def test_other_messages_stay_what_they_are() -> None:
    assert line(TextLines(), "hello") == line(JsonLines(), "hello") == "hello"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


def ask(launched: Launched, text: str) -> str:
    """Asks, and returns the run's id."""
    with launched.connect() as connection:
        connection.send("POST", PATH, question(text))
        reply = connection.reply()
        connection.read()
        return reply.headers["x-run-id"]


def lines(launched: Launched, run_id: str) -> list[str]:
    return [line for line in launched.output().splitlines() if run_id in line]


class TestServe:
    def test_by_default_a_line_for_people(self, directory: Path) -> None:
        with millrace_process("serve", "app:shout", "--no-chat", cwd=directory) as launched:
            run_id = ask(launched, "hello")
            (told,) = eventually(lambda: lines(launched, run_id), message=launched.output)
        assert told.split("  ")[1:3] == ["completed", PATH]
        assert told.endswith(f"2 pieces  {run_id}")
        assert "hello" not in told.lower()

    def test_json(self, directory: Path) -> None:
        arguments = ("serve", "app:shout", "--no-chat", "--log-format", "json")
        with millrace_process(*arguments, cwd=directory) as launched:
            run_id = ask(launched, "fail")
            found = eventually(lambda: objects(launched), message=launched.output)
        (told,) = found
        assert told.keys() == FIELDS | {"time"}
        assert (told["id"], told["outcome"], told["reason"]) == (run_id, "failed", "ValueError")

    def test_quiet_also_where_much_is_logged(self, directory: Path) -> None:
        with millrace_process(
            "--verbose", "serve", "app:shout", "--no-chat", "--quiet", cwd=directory
        ) as launched:
            run_id = ask(launched, "hello")
            eventually(lambda: status_of(launched)["runs"]["completed"] == 1)
            assert "millrace.service: serving" in launched.output()
            assert lines(launched, run_id) == []


def objects(launched: Launched) -> list[dict[str, Any]]:
    return [json.loads(line) for line in launched.output().splitlines() if line.startswith("{")]


def status_of(launched: Launched) -> Any:
    with launched.connect() as connection:
        connection.send("GET", "/status")
        connection.reply()
        return connection.json()
