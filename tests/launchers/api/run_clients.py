"""Clients of /v1/runs, and what they read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.launchers.support import Asking, Running

__all__ = ["RUNS", "UNKNOWN", "ask", "client_of", "frames_of"]

RUNS = "/v1/runs"
UNKNOWN = "0123456789abcdef0123456789abcdef"


@contextmanager
def client_of(server: Running, **options: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=10, **options) as client:
        yield client


def ask(server: Running, body: object, headers: dict[str, str] | None = None) -> Asking:
    """A connection on which a run has been asked for, and nothing read."""
    connection = server.connect()
    connection.send("POST", RUNS, body, headers)
    return connection


def frames_of(text: str) -> list[dict[str, Any]]:
    """The data of each server-sent event; its id and kind are those of the frame."""
    found = []
    for frame in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in frame.split("\n") if line and not line.startswith(":"))
        if fields:
            told = json.loads(fields["data"])
            assert fields["event"] == told["kind"]
            assert fields.get("id") == (str(told["seq"]) if "seq" in told else None)
            found.append(told)
    return found
