"""No waiting between attempts, a service whose flow does what it is told, and engines of every kind at their gates."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from millrace.modules.protocols import ModelEngine
from millrace.modules.remote import tries
from tests.modules.conformance_parts import each, question
from tests.modules.faraway import Far, anything, far
from tests.modules.subjects import SUBJECTS, Subject


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tries, "FIRST_PAUSE", 0.01)


@pytest.fixture(scope="module")
def values() -> Iterator[Far]:
    with far(anything) as made:
        yield made


@pytest.fixture(scope="module", params=each())
def made(request: pytest.FixtureRequest) -> Iterator[Subject]:
    with SUBJECTS[request.param]() as subject:
        yield subject


@pytest.fixture
def subject(made: Subject) -> Iterator[Subject]:
    """With its gate closed, and nothing going on."""
    made.reset()
    yield made
    made.open_all()


@pytest.fixture
async def engine(subject: Subject) -> AsyncIterator[ModelEngine]:
    found = subject.engine()
    await found.ready()
    yield found
    if subject.remote:
        await found.aclose()


@pytest.fixture(scope="module")
def expected() -> str:
    """What the weights say, by the local engine."""
    with SUBJECTS["local"]() as subject:
        subject.open_all()
        return asyncio.run(subject.engine().submit(question()).result()).text
