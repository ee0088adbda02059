"""A service that streams words, asked over HTTP: for the tests of several endpoints."""

from __future__ import annotations

import os
from collections.abc import Iterator

import httpx
import pytest

from tests.launchers.api.run_clients import client_of
from tests.launchers.support import Running, running, words


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(words) as server:
        yield server


@pytest.fixture
def client(server: Running) -> Iterator[httpx.Client]:
    with client_of(server) as client:
        yield client


@pytest.fixture
def run_id() -> str:
    """One that a client may choose."""
    return os.urandom(16).hex()
