"""A store in a directory of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from millrace.streaming.files import FileStore


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore.at(tmp_path / "runs")
