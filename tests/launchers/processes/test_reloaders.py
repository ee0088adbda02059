"""Reloading: a change of a file replaces the worker, and what cannot be served is told and waited for."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.launchers.processes.support import Supervised, content, supervised
from tests.launchers.processes.test_supervisors import SHUT
from tests.support.leaks import eventually
from tests.support.servers import millrace_process

pytestmark = pytest.mark.slow

APP = """
import asyncio
from collections.abc import AsyncIterator
from words import WORD

async def flow(text: str) -> AsyncIterator[str]:
    yield WORD
    while text == "go on":
        yield "so "
        await asyncio.sleep(0.005)
"""


def says(server: Supervised) -> str:
    with server.ask() as asking:
        text: str = asking.json()["choices"][0]["message"]["content"]
        return text


def test_changes(tmp_path: Path) -> None:
    words = tmp_path / "words.py"
    words.write_text("WORD = 'one'")
    hidden = tmp_path / ".hidden" / "words.py"
    hidden.parent.mkdir()
    with supervised(tmp_path, app=APP, workers=1, reload=True) as server:
        assert says(server) == "one"
        (first,) = server.workers()
        hidden.write_text("WORD = 'hidden'")
        (tmp_path / "notes.txt").write_text("no code")
        stream = server.ask("go on", stream=True)
        assert content(stream.events(2)[1]) == "one"

        words.write_text("WORD = 'two'")  # as long as before, and within the same second
        assert SHUT in stream.events()[-1]
        stream.close()
        assert says(server) == "two"  # what comes meanwhile waits in line
        (second,) = server.workers()
        assert second != first
        assert "words.py changed; starting again" in server.output()

        words.write_text("WORD = ")
        eventually(lambda: "Waiting for a change." in server.output(), 10, server.output)
        assert "app cannot be imported: SyntaxError: invalid syntax (words.py, line 1)" in server.output()
        assert not server.workers()
        asking = server.ask()
        words.write_text("WORD = 'three'")
        assert asking.json()["choices"][0]["message"]["content"] == "three"
        asking.close()

        (third,) = server.workers().values()
        third.kill()  # that is no fault of the flow's
        assert says(server) == "three"
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == 0
        assert not server.left()
    assert server.output().count("changed; starting again") == 3
    assert not (tmp_path / "__pycache__").exists()


def test_the_chat_keeps_its_conversations(tmp_path: Path) -> None:
    (tmp_path / "words.py").write_text("WORD = 'one'")
    (tmp_path / "app.py").write_text(APP)
    data = {"XDG_DATA_HOME": str(tmp_path / "data")}
    with millrace_process("serve", "app:flow", "--reload", cwd=tmp_path, environment=data):
        assert (tmp_path / "data" / "millrace" / "flow" / "secret").is_file()


def test_a_signal_while_it_waits_for_a_change(tmp_path: Path) -> None:
    with supervised(tmp_path, app="import nowhere\n", workers=1, reload=True, wait=False) as server:
        eventually(lambda: "Waiting for a change." in server.output(), 20, server.output)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == 0
