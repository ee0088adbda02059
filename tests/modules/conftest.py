"""No waiting between attempts, and a service whose flow does what it is told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from millrace.modules.remote import tries
from tests.modules.faraway import Far, anything, far


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tries, "FIRST_PAUSE", 0.01)


@pytest.fixture(scope="module")
def values() -> Iterator[Far]:
    with far(anything) as made:
        yield made
