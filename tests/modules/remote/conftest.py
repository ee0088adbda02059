"""A scripted server for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.scripted import ScriptedServer, scripted


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted() as made:
        yield made
