"""uvicorn as the service runs it: its sockets are watched by the kernel for peers that are gone."""

from __future__ import annotations

import socket

import pytest

from millrace.launchers.api.patience import Timings
from tests.launchers.support import Running, echo, running


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
