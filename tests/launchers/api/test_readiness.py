"""The port is open at once; readiness follows what the modules are at."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from millrace import Module, Pipeline, Service
from millrace.launchers.inputs import modules_of
from millrace.streaming import Progress, emit
from tests.launchers.support import echo, question
from tests.support.leaks import eventually_async

pytestmark = pytest.mark.anyio


@dataclass
class Health:
    ready: bool = True


class Resource(Module[str, str]):
    """A module that is set up when the test lets it, and may fail or die."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.error = error
        self.begun, self.may_end = asyncio.Event(), asyncio.Event()
        self.health = Health()
        self.closed = 0

    async def setup(self) -> None:
        emit(Progress(0.25, "weights"))
        self.begun.set()
        await self.may_end.wait()
        if self.error is not None:
            raise self.error

    async def __call__(self, text: str) -> str:
        return text

    def status(self) -> Health:
        return self.health

    async def aclose(self) -> None:
        self.closed += 1
        if self.error is not None:
            raise self.error


@asynccontextmanager
async def asking(flow: Any) -> AsyncIterator[tuple[Service, httpx.AsyncClient]]:
    async with Service(flow, port=0) as service, httpx.AsyncClient(base_url=service.url) as client:
        yield service, client


async def health(client: httpx.AsyncClient) -> tuple[int, dict[str, Any]]:
    answer = await client.get("/health/ready")
    return answer.status_code, answer.json()


async def test_loading_is_told_and_ends() -> None:
    resource = Resource()
    async with asking(Pipeline(echo, resource)) as (service, client):
        await resource.begun.wait()
        assert (await client.get("/health/live")).status_code == 200
        assert await health(client) == (503, {"status": "loading", "stage": "weights", "progress": 0.25})
        resource.may_end.set()
        await eventually_async(lambda: service.readiness.state == "ready")
        assert await health(client) == (200, {"status": "ready"})


async def test_a_request_that_comes_early_waits_for_the_flow() -> None:
    resource = Resource()
    async with asking(resource) as (_, client):
        early = asyncio.create_task(client.post("/v1/chat/completions", json=question("early")))
        await resource.begun.wait()
        resource.may_end.set()
        assert (await early).json()["choices"][0]["message"]["content"] == "early"


async def test_a_module_that_ended_makes_it_unready() -> None:
    resource = Resource()
    resource.may_end.set()
    async with asking(resource) as (service, client):
        await eventually_async(lambda: service.readiness.state == "ready")
        assert (await health(client))[0] == 200
        resource.health.ready = False
        assert await health(client) == (503, {"status": "failed", "stage": "Resource has died"})


async def test_a_flow_that_cannot_be_loaded(caplog: pytest.LogCaptureFixture) -> None:
    resource = Resource(ValueError("no weights at /secret/place"))
    resource.may_end.set()
    async with asking(resource) as (_, client):
        await eventually_async(lambda: "no weights at /secret/place" in caplog.text)
        assert await health(client) == (503, {"status": "failed", "error": "ValueError"})
        answer = await client.post("/v1/chat/completions", json=question())
        assert answer.status_code == 500
        assert "secret" not in answer.text


async def test_a_service_may_end_while_it_loads() -> None:
    resource = Resource()
    async with asking(resource):
        await resource.begun.wait()
        asyncio.get_running_loop().call_later(0.05, resource.may_end.set)


async def test_one_module_that_cannot_be_closed_does_not_keep_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bad, good = Resource(), Resource()
    for resource in (bad, good):
        resource.may_end.set()
    async with asking(Pipeline(bad, good)) as (service, _):
        await eventually_async(lambda: service.readiness.state == "ready")
        bad.error = ValueError("stuck")
    assert good.closed == 1
    assert "could not be ended" in caplog.text


def test_modules_are_found_once_each_in_order() -> None:
    one, two = Resource(), Resource()
    assert list(modules_of(Pipeline(one, Pipeline(echo, two, name="inner"), one))) == [one, two]
