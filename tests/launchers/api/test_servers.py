"""Sockets: bound before anything else, and watched by the kernel for peers that are gone."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest

from millrace import MillraceError
from millrace.launchers.api.patience import Timings
from millrace.launchers.api.servers import bind, url_of
from tests.launchers.support import Running, echo, running


def test_url() -> None:
    for host, shown in {"127.0.0.1": "127.0.0.1", "0.0.0.0": "127.0.0.1", "localhost": "127.0.0.1"}.items():
        with closing(bind(host, 0)) as listener:
            assert url_of(listener) == f"http://{shown}:{listener.getsockname()[1]}"


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
def test_url_of_ipv6() -> None:
    for host in ("::1", "::", "[::1]"):
        with closing(bind(host, 0)) as listener:
            assert url_of(listener) == f"http://[::1]:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    ("host", "told"),
    [("192.0.2.1", "cannot listen on 192.0.2.1.*--host"), ("no.such.host.invalid", "cannot listen.*--host")],
)
def test_an_address_that_cannot_be_had(host: str, told: str) -> None:
    with pytest.raises(MillraceError, match=told):
        bind(host, 0)


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
