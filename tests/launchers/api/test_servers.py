"""uvicorn as the service runs it: its sockets are watched by the kernel for peers that are gone."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator

import pytest

from millrace.launchers.api import desks, servers
from millrace.launchers.api.patience import Timings
from tests.launchers.support import Running, echo, running
from tests.support.leaks import eventually

AFTER_DRAIN = 0.5
"""Seconds, for a test that waits them out."""


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux has it")
@pytest.mark.parametrize("on_uvloop", [False, True])
def test_the_kernel_watches_the_peer(on_uvloop: bool) -> None:
    with running(echo, on_uvloop=on_uvloop, timings=Timings(write_idle=7)) as server, server.connect() as c:
        c.send("GET", "/health/live")
        c.read()
        assert server.do(lambda: options(server)) == (1, 7000, 7)
        assert server.do(lambda: sends_at_once(server)), "small pieces wait for no acknowledgement"


def sends_at_once(server: Running) -> bool:
    assert server.service._server is not None
    (connection,) = server.service._server.server_state.connections
    peer = connection.transport.get_extra_info("socket")  # type: ignore[union-attr]
    return bool(peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))


def options(server: Running) -> tuple[int, int, int]:
    assert server.service._server is not None
    (connection,) = server.service._server.server_state.connections
    peer = connection.transport.get_extra_info("socket")  # type: ignore[union-attr]
    return (
        peer.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
        peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
    )


@pytest.mark.slow
def test_a_client_that_takes_nothing_does_not_hold_up_the_end(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (desks, servers):
        monkeypatch.setattr(module, "AFTER_DRAIN", AFTER_DRAIN)

    async def flood(text: str) -> AsyncIterator[str]:
        while True:
            yield "x" * 10_000
            await asyncio.sleep(0)

    with running(flood, timings=Timings(drain=0.1)) as server:
        asking = server.ask()
        eventually(lambda: paused(server))
        began = time.monotonic()
    assert time.monotonic() - began < 0.1 + AFTER_DRAIN + 1
    assert caplog.records == []
    with pytest.raises(ConnectionError):
        asking.read()
    asking.close()


def paused(server: Running) -> bool:
    """Whether the kernel takes no more for the one client that there is."""
    assert server.service._server is not None
    connections = list(server.service._server.server_state.connections)
    flow = connections[0].flow if connections else None  # type: ignore[union-attr]
    return flow is not None and flow.write_paused
