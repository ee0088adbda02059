"""A worker's end of the pair to its supervisor, which may be stopped."""

from __future__ import annotations

import json
import socket

import pytest

from millrace.launchers.processes.controls import MENTIONED, Control


@pytest.mark.timeout(20)
def test_what_is_mentioned_waits_for_nobody() -> None:
    """A supervisor that does not read any more holds up no worker."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        control, told = Control(theirs), 0
        while control.mention("figures", figures="x" * 30_000):
            told += 1
        assert told >= 1
        received = b""
        while received.count(b"\n") < told:
            received += ours.recv(1 << 20)
        assert [json.loads(line)["say"] for line in received.splitlines()] == ["figures"] * told
        assert control.mention("figures", figures="x")
        assert not control.mention("figures", figures="x" * MENTIONED)
