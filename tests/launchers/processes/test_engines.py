"""Engines in processes of their own, below the workers: gone with them, in whichever way these end."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from tests.launchers.processes.support import Supervised, alive, supervised
from tests.support.leaks import eventually

pytestmark = pytest.mark.slow

APP = "from millrace import LocalModel\n\nflow = LocalModel.demo()\n"


def engine(server: Supervised) -> psutil.Process:
    """The engine's process, once the model is loaded there."""
    eventually(lambda: server.status()["status"] == "ready", 60, server.output)
    (worker,) = server.workers().values()
    (child,) = worker.children()
    server.family()
    return child


def test_engines_end_with_their_workers(tmp_path: Path) -> None:
    with supervised(tmp_path, app=APP, workers=1, reload=True) as server:
        first = engine(server)
        next(iter(server.workers().values())).kill()
        eventually(lambda: not alive(first), 10)

        second = engine(server)
        assert second.pid != first.pid
        server.process.kill()
        eventually(lambda: not server.left(), 10)
        assert not alive(second)
