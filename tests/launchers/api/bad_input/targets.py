"""Endpoints that take a body, one that each takes, and how a refusal must look."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel, Field

from tests.launchers.support import Asking, Running

__all__ = ["CHAT", "GOOD", "LIMIT", "RUNS", "Target", "bill", "refused", "still_good"]

LIMIT = 300_000
CHAT, RUNS = "/v1/chat/completions", "/v1/runs"

TYPES = ("invalid_request_error", "rate_limit_error", "server_error")


class Order(BaseModel):
    """What goes into the flow."""

    count: int = Field(ge=0)
    notes: list[str] = []


async def bill(order: Order | str) -> str:
    return str(order)


GOOD: Mapping[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": "hello"}]},
    "/v1/responses": {"input": "hello"},
    "/v1/embeddings": {"input": ["hello"]},
    RUNS: {"input": {"count": 1}},
    RUNS + "/{run_id}/cancel": {"reason": "enough"},
}
"""Every endpoint that takes a body, with one that it takes."""


@dataclass
class Target:
    """One of them: `name` in the document, `path` where it can be asked, on a service that has it."""

    server: Running
    name: str
    path: str

    @property
    def good(self) -> dict[str, Any]:
        return GOOD[self.name]

    @property
    def stops(self) -> bool:
        return self.name.endswith("/cancel")


def refused(connection: Asking, statuses: int | tuple[int, ...]) -> dict[str, Any]:
    """The error of an answer that is one, in OpenAI's shape and with no trace of the code behind it."""
    connection.head = None
    reply = connection.reply()
    allowed = statuses if isinstance(statuses, tuple) else (statuses,)
    assert reply.status in allowed, connection.read()
    assert reply.headers["content-type"] == "application/json"
    text = connection.read().decode("ascii")
    assert "Traceback" not in text
    assert not re.search(r"\.py\b|line \d+, in", text)
    answer = json.loads(text, parse_constant=pytest.fail)
    json.dumps(answer, ensure_ascii=False).encode()  # no half of a surrogate pair comes back
    assert list(answer) == ["error"]
    error: dict[str, Any] = answer["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] in TYPES
    assert 0 < len(error["message"]) < 1000
    return error


def still_good(target: Target, connection: Asking) -> None:
    """The next request is answered: on the same connection, or, where that has been closed, on another one."""
    reply = connection.head
    assert reply is not None
    if reply.headers.get("connection") == "close":
        assert connection.closed_by_server()
        with target.server.connect() as another:
            another.send("POST", target.path, target.good)
            assert another.reply().status == 200
    else:
        connection.send("POST", target.path, target.good)
        assert connection.reply().status == 200
        connection.read()
