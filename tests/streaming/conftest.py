"""A producer, and a flow of it for each kind."""

from __future__ import annotations

from typing import Any

import pytest

from millrace import Pipeline
from tests.streaming.producers import KINDS, Producer


@pytest.fixture
def producer() -> Producer:
    return Producer()


@pytest.fixture(params=KINDS)
def flow(request: pytest.FixtureRequest, producer: Producer) -> Pipeline[Any, str]:
    return Pipeline(getattr(producer, request.param))
