"""The examples run as they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_first_flow() -> None:
    done = run("first_flow.py", "What is a Warp?")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("A Warp applies one step to every item")


@pytest.mark.slow
def test_notes_and_answer() -> None:
    done = run("notes_and_answer.py", "What is a Stream?")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("A Stream is")
    assert "Notes: A stream is the listener's handle on a run." in done.stdout
    assert "finished: notes/words" in done.stderr


def test_serve_a_flow() -> None:
    code = "from examples.serve_a_flow import flow; print(flow(' a b '))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "a b \n", done.stderr
