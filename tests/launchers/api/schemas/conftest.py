"""A service of a flow with types of its own, and its document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.launchers.api.schemas.described import answer
from tests.launchers.support import Running, running


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(answer) as server:
        yield server


@pytest.fixture(scope="module")
def document(server: Running) -> dict[str, Any]:
    found: dict[str, Any] = server.get("/openapi.json")[1]
    return found
