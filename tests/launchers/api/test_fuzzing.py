"""schemathesis asks a real service all that its document allows, and much that it does not; and stays bounded."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Literal
from uuid import uuid4

import pytest
from pydantic import BaseModel, Field
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.launchers.support import running

KEY = "sk-one"
CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
EXAMPLES = 20
"""Per endpoint and phase: with these it takes 15 to 30 s."""


class Part(BaseModel):
    name: str = Field(max_length=40, examples=["wheel"])
    sizes: list[Annotated[int, Field(ge=0, le=1000)]] = Field([], max_length=5)


class Order(BaseModel):
    """What is ordered."""

    customer: str = Field(min_length=1, examples=["Ada"])
    parts: list[Part] = Field(max_length=4)
    speed: Literal["slow", "fast"] = "slow"


class Bill(BaseModel):
    total: int
    lines: list[str]


async def bill(order: Order | str) -> Bill:
    if isinstance(order, str):
        return Bill(total=0, lines=[order])
    return Bill(total=sum(sum(part.sizes) for part in order.parts), lines=[part.name for part in order.parts])


class Fresh:
    """Counts answers, and gives each run an id of its own: schemathesis asks for the same one again and again."""

    def __init__(self, app: ASGIApp, seen: Counter[tuple[str, int]]) -> None:
        self.app = app
        self.seen = seen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(name, self.fresh(name, value)) for name, value in scope.get("headers", ())]

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.seen[f"{scope['method']} {scope['path']}", message["status"]] += 1
            await send(message)

        await self.app({**scope, "headers": headers}, receive, counted)

    def fresh(self, name: bytes, value: bytes) -> bytes:
        right = name == b"x-run-id" and re.fullmatch(rb"[0-9a-f]{32}", value)
        return uuid4().hex.encode() if right else value


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_service_does_as_its_document_says(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    seen: Counter[tuple[str, int]] = Counter()
    with running(
        bill, lambda service: service.app.add_middleware(Fresh, seen=seen), api_keys=[KEY]
    ) as server:
        command = [
            *(sys.executable, "-m", "schemathesis.cli", f"--config-file={CONFIGURATION}", "run"),
            "--phases=examples,coverage,fuzzing,stateful",
            "--generation-deterministic",
            f"--max-examples={EXAMPLES}",
            "--request-timeout=10",
            "--continue-on-failure",
            "--warnings=off",
            f"--header=Authorization: Bearer {KEY}",
            f"{server.url}/openapi.json",
        ]
        found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
        figures = server.get("/status", {"Authorization": f"Bearer {KEY}"})[1]
    assert found.returncode == 0, found.stdout or found.stderr
    for path, statuses in {
        "POST /v1/chat/completions": (200, 400, 401, 415),
        "POST /v1/runs": (200, 202, 400, 401, 415, 422),
        "GET /v1/runs": (200, 400, 401),
    }.items():
        assert all(seen[path, status] for status in statuses), (path, seen)
    assert figures["runs"]["completed"] > 50
    assert figures["runs"]["failed"] == 0
    errors = [
        record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR or record.exc_info
    ]
    assert errors == []
    assert "Traceback" not in capfd.readouterr().err
