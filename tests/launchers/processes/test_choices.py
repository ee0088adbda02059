"""What several processes cannot serve is refused before anything is started."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from millrace import Limits, MillraceError, serve
from millrace.launchers.api.patience import Timings
from millrace.launchers.processes.orders import Orders, longest_end, options_to
from millrace.streaming.errors import FlowCallError
from tests.launchers.support import echo


@pytest.mark.parametrize(
    ("flow", "options", "words"),
    [
        (echo, {"workers": 2}, r'give its name .* serve\("app:flow", workers=2\)'),
        (echo, {"reload": True}, r'serve\("app:flow", reload=True\)'),
        ("app:flow", {"workers": 2, "reload": True}, "leave out workers=2"),
        ("app:flow", {"workers": 2, "chat": True}, "conversations in one process"),
        ("app:flow", {"workers": 2, "host": "0.0.0.0"}, "without API keys"),
        ("app:flow", {"workers": 2, "title": b"x"}, "title, of type bytes, cannot be given to workers"),
    ],
)
def test_refusals(flow: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(MillraceError, match=words):
        serve(flow, **options)


def test_at_least_one_serves() -> None:
    with pytest.raises(ValueError, match="at least one"):
        serve(echo, workers=0)


@pytest.mark.parametrize("workers", [1, 2])
def test_it_blocks_no_loop(workers: int) -> None:
    async def main() -> None:
        serve("app:flow", workers=workers)

    with pytest.raises(FlowCallError, match="async with Service"):
        asyncio.run(main())


def test_options_travel() -> None:
    options = {
        "limits": Limits(running=3, waiting=5, queue_timeout=7),
        "timings": Timings(drain=2),
        "api_keys": Path("keys.txt"),
        "title": None,
        "port": 1,
    }
    told = options_to(options)
    orders = Orders(1, "app:flow", told, [], 30, [], False, None)
    assert orders.service_options() == {**options, "api_keys": "keys.txt"}
    assert options_to({"api_keys": ("a", "b")}) == {"api_keys": ["a", "b"]}
    assert longest_end(options) == longest_end({}) - 8
