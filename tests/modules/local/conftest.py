"""An engine at the gate, for the tests of generations."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from millrace.modules.local import Engine
from tests.support.gated import Gate, gated_engine


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def engine(gate: Gate, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """A gated engine; `@pytest.mark.parametrize("engine", [{...}], indirect=True)` gives it options."""
    engine = gated_engine(gate, **getattr(request, "param", {}))
    engine.wait_ready(60)
    yield engine
    engine.close()
