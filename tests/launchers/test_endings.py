"""What a service says when it begins to end."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from millrace.launchers.endings import ending_words
from tests.launchers.processes.support import APP
from tests.support.leaks import eventually
from tests.support.servers import millrace_process


def test_the_words() -> None:
    assert ending_words(2, 10.0) == (
        "Ending. 2 requests go on, and have 10 s for it; a second signal ends everything at once."
    )
    assert "1 request goes on, and has 0.5 s for it" in ending_words(1, 0.5)
    assert "What goes on has 10 s for it" in ending_words(None, 10.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "told"),
    [((), "Ending. 1 request goes on"), (("--workers", "2"), "Ending. What goes on has 10 s")],
)
def test_they_are_told_while_somebody_waits(options: tuple[str, ...], told: str, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP, encoding="utf-8")
    with (
        millrace_process("serve", "app:flow", "--no-chat", *options, cwd=tmp_path) as launched,
        launched.connect() as connection,
    ):
        connection.send("POST", "/v1/runs", {"input": "wait", "stream": True})
        connection.events(2)
        assert "Ending" not in launched.output()
        launched.process.send_signal(signal.SIGTERM)
        eventually(lambda: told in launched.output(), 8, launched.output)
        (tmp_path / "go").touch()
        assert json.loads(connection.events()[-1])["status"] == "done"
        launched.process.wait(10)
        assert "ready" not in launched.output().partition("Ending.")[2]  # which would be about a start


@pytest.mark.slow
def test_nothing_is_said_where_nobody_waits(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP, encoding="utf-8")
    with millrace_process("serve", "app:flow", "--no-chat", cwd=tmp_path) as launched:
        launched.process.send_signal(signal.SIGTERM)
        launched.process.wait(10)
        assert "Ending" not in launched.output()
