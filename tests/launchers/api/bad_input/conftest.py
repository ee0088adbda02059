"""A service that is asked wrongly, on every endpoint that takes a body; none of that is worth an error in the log."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from millrace import LocalEmbedding
from millrace.launchers.api.patience import Timings
from millrace.modules.embeddings import EmbeddingEngine
from tests.launchers.api.bad_input.targets import GOOD, LIMIT, Target, bill
from tests.launchers.support import Running, running
from tests.support.encoders import tiny_encoder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    queue = f"file://{tmp_path_factory.mktemp('runs')}"
    with running(bill, max_body=LIMIT, timings=Timings(body=0.3), queue=queue) as server:
        yield server


@pytest.fixture(scope="module")
def run_id(server: Running) -> str:
    """Of a response, which is a run as well."""
    with server.connect() as connection:
        connection.send("POST", "/v1/responses", {"input": "one"})
        connection.reply()
        found: str = connection.json()["id"]
        return found.removeprefix("resp_")


@pytest.fixture(autouse=True)
def nothing_in_the_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No request of these is worth an error in the log, let alone a traceback."""
    yield
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.fixture(scope="module")
def embedder() -> Iterator[Running]:
    engine = EmbeddingEngine(tiny_encoder)
    with running(LocalEmbedding(engine, name="tiny"), max_body=LIMIT, timings=Timings(body=0.3)) as server:
        yield server
    engine.close()


SLOW = {"/v1/embeddings": pytest.mark.slow}


@pytest.fixture(params=[pytest.param(name, marks=SLOW.get(name, ())) for name in GOOD])
def target(request: pytest.FixtureRequest, server: Running, run_id: str) -> Target:
    name: str = request.param
    if name == "/v1/embeddings":
        server = request.getfixturevalue("embedder")
    return Target(server, name, name.replace("{run_id}", run_id))
