"""An engine at the gate, for the tests of generations, and a hand on a model in another process."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from millrace.modules.local import Engine
from tests.support import paced
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


@pytest.fixture(scope="module")
def hand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[paced.Paced]:
    before = os.environ.get("MILLRACE_PACED")
    yield paced.Paced(tmp_path_factory.mktemp("paced"))
    if before is None:
        del os.environ["MILLRACE_PACED"]
