"""The web chat of a flow that says what the test says, open in a browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from millrace import Service, step
from tests.support.browser import Visit
from tests.support.chat_pages import ChatPage, Scripted
from tests.support.servers import Served, serving


@pytest.fixture(scope="module")
def scripted() -> Scripted:
    return Scripted()


@pytest.fixture(scope="module")
def served(scripted: Scripted) -> Iterator[Served]:
    """A service whose flow says what the test says."""
    with serving(Service(step(scripted, name="scripted"), chat=True).app) as served:
        yield served


@pytest.fixture
def chat(visit: Visit, served: Served) -> Iterator[ChatPage]:
    """An open chat; at the end the page must have logged no error and asked no other host."""
    yield ChatPage(visit.page, served.url)
    visit.check()
