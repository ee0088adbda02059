"""A scripted server for each test, and no waiting between attempts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from millrace.modules.remote import tries
from tests.support.scripted import ScriptedServer, scripted


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted() as made:
        yield made


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tries, "FIRST_PAUSE", 0.01)
